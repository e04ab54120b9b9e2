"""Planted bugs, and which test finds each; see `python -m tests.mutation`."""
