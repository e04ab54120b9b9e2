"""Rows of pairs, ledger and rollups out of joined windows. Pure: no input or output."""
