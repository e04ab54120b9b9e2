"""Bring a database to this version of Gnomon, from the installed package alone."""

import io
from importlib.resources import as_file, files

from alembic import command
from alembic.config import Config
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, TextClause, inspect, text
from sqlalchemy.schema import CreateSchema

from gnomon_migrations import views
from gnomon_migrations.scripts import read

SCHEMA = "gnomon"
LOCK = 0x676E6F6D6F6E  # "gnomon", one advisory lock for every caller


class NewerDatabaseError(Exception):
    """A newer Gnomon created the database: this program does not know its revision."""


def _config(buffer: io.StringIO | None = None) -> Config:
    config = Config(output_buffer=buffer)
    with as_file(files("gnomon_migrations")) as folder:
        config.set_main_option("script_location", str(folder))
    config.set_main_option("path_separator", "os")
    return config


def _statement(name: str) -> TextClause:
    return text(read(f"sql/upgrade/{name}.sql"))


def newest() -> str:
    """Return the revision that this package brings."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None
    return head


def known() -> frozenset[str]:
    """Return every revision that this package brings."""
    return frozenset(script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions())


def current(connection: Connection) -> str | None:
    """Return the revision of the database, None for an empty one."""
    if not inspect(connection).has_table("alembic_version", schema=SCHEMA):
        return None
    revision: str | None = connection.scalar(_statement("revision"))
    return revision


def up_to_date(connection: Connection) -> bool:
    """Return whether tables, functions and views are those of this package."""
    if current(connection) != newest():
        return False
    rows = connection.execute(_statement("view_versions"))
    return not views.stale({row.name: row.sha256 for row in rows})


def upgrade(engine: Engine) -> bool:
    """Bring the database up to date in one transaction; return whether it changed. A second caller waits.

    Raises NewerDatabaseError for a database that a newer Gnomon created.
    """
    with engine.begin() as connection:
        connection.execute(_statement("lock"), {"key": LOCK})
        if up_to_date(connection):
            return False
        stands = current(connection)
        if stands is not None and stands not in known():
            raise NewerDatabaseError(
                f"the database is at {stands}, created by a newer Gnomon; this program supports up to {newest()}:"
                " install the newer one"
            )
        connection.execute(CreateSchema(SCHEMA, if_not_exists=True))
        with Operations.context(MigrationContext.configure(connection)):
            if current(connection) != newest():
                views.drop_reports()
        migrate(connection)
        with Operations.context(MigrationContext.configure(connection)):
            views.rebuild_views()
    return True


def migrate(connection: Connection, revision: str = "head") -> None:
    """Run the migrations up to a revision, without functions and views."""
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def upgrade_sql() -> str:
    """Return the whole upgrade of an empty database as one SQL script, for a person to read and run."""
    buffer = io.StringIO()
    command.upgrade(_config(buffer), "head", sql=True)
    return buffer.getvalue()
