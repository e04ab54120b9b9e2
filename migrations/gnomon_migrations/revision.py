"""The newest revision of this package, from its file names, so that a command can compare without loading Alembic."""

from importlib.resources import files


def newest_revision() -> str:
    """Return the first part of the last migration's file name, which is its revision."""
    scripts = files("gnomon_migrations").joinpath("versions").iterdir()
    return max(entry.name.partition("_")[0] for entry in scripts if entry.name[:4].isdigit())
