"""Database migrations of Gnomon, run by `gnomon db upgrade`."""
