"""The newest revision of this package, told by the names of its files: a command need not load Alembic to compare."""

from importlib.resources import files


def newest_revision() -> str:
    """Return the first part of the last migration's file name, which is its revision."""
    scripts = files("gnomon_migrations").joinpath("versions").iterdir()
    return max(entry.name.partition("_")[0] for entry in scripts if entry.name[:4].isdigit())
