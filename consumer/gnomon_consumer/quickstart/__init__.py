"""Gnomon on one machine without Docker or root: embedded servers, and a demo on the flights of 2013."""
