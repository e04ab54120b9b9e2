"""Deterministic simulation of scorer and joiner; see `simulation.run`."""
