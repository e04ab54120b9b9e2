"""`gnomon db`: the life of the database, from its first table to its last row."""

import rich_click as click
from sqlalchemy.exc import DBAPIError, OperationalError

from gnomon_consumer.cli.options import settings_options
from gnomon_consumer.database import engine_for, unreachable
from gnomon_consumer.settings import Settings
from gnomon_migrations import runner
from gnomon_schemas.errors import GnomonError


@click.group()
def db() -> None:
    """Create, upgrade and look after the PostgreSQL database."""


@db.command()
@click.option("--sql", is_flag=True, help="Print the script for an empty database instead of running it.")
@settings_options(database=True, kafka=False)
def upgrade(settings: Settings, sql: bool) -> None:
    """Bring tables, functions and views to this version.

    Safe to run twice at once and beside a running joiner.
    """
    if sql:
        click.echo(runner.upgrade_sql(), nl=False)
        return
    url = settings.require_database_url()
    try:
        changed = runner.upgrade(engine_for(url))
    except OperationalError as error:
        raise unreachable(url, error) from error
    except DBAPIError as error:
        raise GnomonError(f"the upgrade was rolled back: {' '.join(str(error.orig).split())}") from error
    click.echo(f"{'upgraded to' if changed else 'already at'} {runner.newest()}")


@db.command()
@settings_options(database=True, kafka=False)
def current(settings: Settings) -> None:
    """Say which version stands in the database; status 1 if it is not this program's."""
    url = settings.require_database_url()
    try:
        with engine_for(url).connect() as connection:
            stands, fits = runner.current(connection), runner.up_to_date(connection)
    except OperationalError as error:
        raise unreachable(url, error) from error
    if not fits:
        raise GnomonError(
            f"the database is at {stands or 'nothing'}, this program needs {runner.newest()} with its own"
            " views: run `gnomon db upgrade`"
        )
    click.echo(stands)
