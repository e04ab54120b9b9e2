"""SQL files of this package, run inside a migration, online or written out for `--sql`.

Alembic and SQLAlchemy are imported where they are used: a command that only compares versions starts without them.
"""

from importlib.resources import files


def read(path: str) -> str:
    """Return the text of one SQL file, by its path inside this package."""
    return files("gnomon_migrations").joinpath(path).read_text(encoding="utf-8")


def run(sql: str) -> None:
    """Run a script unchanged: `%` and `:name` have no special meaning in it."""
    from alembic import op

    if op.get_context().as_sql:
        op.get_context().impl.static_output(sql.rstrip().rstrip(";") + ";")
        return
    driver = op.get_bind().connection.cursor()
    try:
        driver.execute(sql)
    finally:
        driver.close()


def run_with(path: str, **values: str) -> None:
    """Run the statement of one SQL file of this package, with a value for each `:name` in it."""
    from alembic import op
    from sqlalchemy import text

    op.execute(text(read(path)).bindparams(**values))


def create_schema(name: str) -> None:
    """Create a schema."""
    from alembic import op
    from sqlalchemy.schema import CreateSchema

    op.execute(CreateSchema(name))


def drop_schema(name: str) -> None:
    """Drop a schema with everything in it, if it exists."""
    from alembic import op
    from sqlalchemy.schema import DropSchema

    op.execute(DropSchema(name, cascade=True, if_exists=True))


def run_file(path: str) -> None:
    """Run one SQL file of this package."""
    run(read(path))
