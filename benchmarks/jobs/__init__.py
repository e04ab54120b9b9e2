"""One benchmark for each module: what is measured, and the baseline."""
