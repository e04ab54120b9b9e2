"""The shadow side: scorer, joiner, labels, reports and the `gnomon` command."""
