"""SQL files of this package, run inside a migration, online or written out for `--sql`."""

from importlib.resources import files


def read(path: str) -> str:
    """Return the text of one SQL file, by its path inside this package."""
    return files("gnomon_migrations").joinpath(path).read_text(encoding="utf-8")


def run(sql: str) -> None:
    """Run a script unchanged: `%` and `:name` have no special meaning in it."""
    from alembic import op  # a command that only compares versions starts without it

    if op.get_context().as_sql:
        op.get_context().impl.static_output(sql.rstrip().rstrip(";") + ";")
        return
    driver = op.get_bind().connection.cursor()
    try:
        driver.execute(sql)
    finally:
        driver.close()


def run_file(path: str) -> None:
    """Run one SQL file of this package."""
    run(read(path))
