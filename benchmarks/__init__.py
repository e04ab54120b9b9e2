"""Measures Gnomon and comparable tools on the same work; `python -m benchmarks --help`."""
