"""One benchmark a module: what is measured, against what."""
