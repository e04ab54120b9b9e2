"""The scorer's side of the worker processes."""
