"""`gnomon db`: the life of the database, from its first table to its last row."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import rich_click as click
from sqlalchemy.exc import DBAPIError, OperationalError

from gnomon_consumer import upkeep
from gnomon_consumer.cli.options import settings_options
from gnomon_consumer.database import connect, engine_for, unreachable
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


@contextmanager
def _connected(settings: Settings) -> "Iterator[psycopg.Connection[Any]]":
    """A connection; whatever PostgreSQL refuses is one line with its reason."""
    try:
        with connect(settings.require_database_url(), "gnomon db") as connection:
            yield connection
    except psycopg.errors.UndefinedTable as error:
        raise GnomonError("the database has no Gnomon tables: run `gnomon db upgrade`") from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise GnomonError(f"this role may not: {error.diag.message_primary}; run it as the tables' owner") from error
    except psycopg.OperationalError as error:
        raise unreachable(settings.require_database_url(), error) from error


@db.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@settings_options(database=True, kafka=False)
def maintain(settings: Settings, as_json: bool) -> None:
    """Make table partitions ahead, drop those past retention, empty the default one; run it once a day.

    Where pg_partman manages the table, partitions are left to it, but for those past retention.
    """
    with _connected(settings) as connection:
        done = upkeep.maintain(connection, datetime.now(UTC))
    if as_json:
        click.echo(json.dumps({name: getattr(done, name) for name in done.__slots__}))
        return
    if done.left_to is not None:
        click.echo(f"partitions are left to {done.left_to}; dropped {len(done.dropped)}, {done.expired} pairs expired")
    else:
        click.echo(
            f"created {len(done.created)}, dropped {len(done.dropped)} partitions; moved {done.moved} pairs out of the"
            f" default one; {done.expired} pairs expired"
        )
    if done.cohorts and not as_json:
        click.echo(f"computed the quality of {done.cohorts} sealed cohorts")
    if done.locked:
        click.echo(f"locked by somebody else, left for the next run: {', '.join(done.locked)}")


@db.command()
@settings_options(database=True, kafka=False)
def roles(settings: Settings) -> None:
    """Make the roles gnomon_writer and gnomon_reader, with the rights they need and no more.

    Neither can log in: grant them to users of your own.
    """
    with _connected(settings) as connection:
        made = upkeep.make_roles(connection)
    click.echo(f"made {' and '.join(made)}" if made else "both roles are there; their rights are set again")


@db.command()
@click.argument("request_id")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@settings_options(stream=True, database=True)
def erase(settings: Settings, request_id: str, as_json: bool) -> None:
    """Remove pairs, labels and dead-letter pointers of one request; say what Kafka still holds, and until when.

    Counts of the ledger and sums of the rollups stay: they name nobody.
    """
    stream = settings.require_stream()
    with _connected(settings) as connection:
        gone = upkeep.erase(connection, stream, request_id)
    held = _still_held(settings)
    if as_json:
        counts = {"pairs": gone.pairs, "dead_letters": gone.dead_letters, "labels": gone.labels}
        click.echo(json.dumps({**counts, "coordinates": gone.coordinates, "kafka": held}))
        return
    click.echo(f"erased {gone.pairs} pairs, {gone.dead_letters} dead letters, {gone.labels} labels")
    if gone.coordinates:
        click.echo(f"live coordinates: {', '.join(f'{p}/{o}' for p, o in gone.coordinates)}")
    for topic, until in held.items():
        click.echo(f"Kafka may hold it in {topic} {until}")


def _still_held(settings: Settings) -> dict[str, str]:
    """Topic and how long it may still hold a message written until now."""
    from confluent_kafka.admin import ConfigResource, ResourceType

    from gnomon_consumer import kafka
    from gnomon_schemas.topics import Topics

    names = Topics(settings.require_stream(), settings.topic_prefix)
    try:
        metadata = kafka.list_topics(settings)
    except GnomonError as error:
        return {f"{names.prefix}.{names.stream}.*": f"for an unknown time ({error})"}
    shadow = [name for name in metadata.topics if name.startswith(names.shadow("x").removesuffix("x"))]
    topics = [name for name in (names.live, *shadow, names.labels, names.dead_letters) if name in metadata.topics]
    if kafka.is_mock(metadata):
        return dict.fromkeys(topics, "until the mock cluster ends")
    admin = kafka.make_admin(settings)
    asked = admin.describe_configs([ConfigResource(ResourceType.TOPIC, name) for name in topics])
    held: dict[str, str] = {}
    for resource, future in asked.items():
        config = future.result()
        retention = int(config["retention.ms"].value)
        if retention < 0:
            held[resource.name] = "for ever: it has no retention.ms"
        else:
            # A segment goes when its newest record is past retention, and rolls after segment.ms at the latest.
            longest = timedelta(milliseconds=retention + int(config["segment.ms"].value))
            held[resource.name] = f"until {datetime.now(UTC) + longest:%Y-%m-%d %H:%M} UTC at the latest"
    return held
