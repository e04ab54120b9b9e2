"""Turn joined windows into rows of pairs, ledger and rollups. Pure: no input or output."""
