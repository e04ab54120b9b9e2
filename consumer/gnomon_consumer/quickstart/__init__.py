"""A whole Gnomon on one machine, with neither Docker nor root: embedded servers and the flights stream."""
