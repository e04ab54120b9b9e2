"""`gnomon db`: create, upgrade and maintain the database, and erase a request from it."""

from contextlib import closing
from datetime import UTC, datetime, timedelta

import rich_click as click

from gnomon_consumer.cli.json_option import echo_json, json_option
from gnomon_consumer.cli.options import settings_options
from gnomon_consumer.database import erasure, maintenance
from gnomon_consumer.database.connections import Access, Session, connect, engine_for
from gnomon_consumer.database.roles import make_roles, roles_sql
from gnomon_consumer.settings import Settings
from gnomon_migrations import runner
from gnomon_schemas.errors import ConfigurationError, GnomonError


@click.group()
def db() -> None:
    """Create, upgrade and maintain the PostgreSQL database."""


@db.command()
@click.option("--sql", is_flag=True, help="Print the script for an empty database instead of running it.")
@settings_options(database=True, kafka=False)
def upgrade(settings: Settings, sql: bool) -> None:
    """Upgrade tables, functions and views to this version.

    It is safe to run it twice at the same time, and while a joiner runs.
    """
    if sql:
        click.echo(runner.upgrade_sql(), nl=False)
        return
    try:
        changed = runner.upgrade(engine_for(settings.require_database_url()))
    except runner.NewerDatabaseError as error:
        raise ConfigurationError(str(error)) from error
    click.echo(f"{'upgraded to' if changed else 'already at'} {runner.newest()}")


@db.command()
@settings_options(database=True, kafka=False)
def current(settings: Settings) -> None:
    """Print the version of the database; status 1 if it is not the version of this program."""
    with engine_for(settings.require_database_url(), Access.WRITE).connect() as connection:
        stands, fits = runner.current(connection), runner.up_to_date(connection)
    if not fits:
        raise GnomonError(
            f"the database is at {stands or 'nothing'}, this program needs {runner.newest()} with its own"
            " views: run `gnomon db upgrade`"
        )
    click.echo(stands)


def _connected(settings: Settings) -> closing[Session]:
    return closing(connect(settings.require_database_url(), "gnomon db", Access.OWN))


@db.command()
@json_option()
@settings_options(database=True, kafka=False)
def maintain(settings: Settings, as_json: bool) -> None:
    """Create partitions for the coming days, drop those past retention, and empty the default one; run it once a day.

    When pg_partman manages the table, it creates the partitions, and this command only drops those past retention.
    """
    with _connected(settings) as guard, maintenance.alone(guard), _connected(settings) as connection:
        done = maintenance.maintain(connection, datetime.now(UTC))
    if as_json:
        echo_json({name: getattr(done, name) for name in done.__slots__})
        return
    if done.left_to is not None:
        click.echo(f"{done.left_to} manages the partitions; dropped {len(done.dropped)}, {done.expired} pairs expired")
    else:
        click.echo(
            f"created {len(done.created)}, dropped {len(done.dropped)} partitions; moved {done.moved} pairs out of the"
            f" default one; {done.expired} pairs expired"
        )
    if done.cohorts and not as_json:
        click.echo(f"computed the quality of {done.cohorts} sealed cohorts")
    if done.locked:
        click.echo(f"locked by another session, left for the next run: {', '.join(done.locked)}")


@db.command()
@click.option("--sql", is_flag=True, help="Print the statements for a database administrator instead of running them.")
@settings_options(database=True, kafka=False)
def roles(settings: Settings, sql: bool) -> None:
    """Create the roles gnomon_writer and gnomon_reader, with the rights they need and no others.

    Neither can log in: grant them to your own users.
    """
    if sql:
        click.echo(roles_sql(), nl=False)
        return
    with _connected(settings) as connection:
        made = make_roles(connection)
    click.echo(f"made {' and '.join(made)}" if made else "both roles exist; their rights were granted again")


@db.command()
@click.argument("request_id")
@json_option()
@settings_options(stream=True, database=True)
def erase(settings: Settings, request_id: str, as_json: bool) -> None:
    """Delete the pairs, labels and dead-letter pointers of one request; print what Kafka still holds, and until when.

    Counts in the ledger and sums in the rollups stay: they do not identify a request.
    """
    stream = settings.require_stream()
    with _connected(settings) as connection:
        gone = erasure.erase(connection, stream, request_id)
    held = _still_held(settings)
    if as_json:
        counts = {"pairs": gone.pairs, "dead_letters": gone.dead_letters, "labels": gone.labels}
        echo_json({**counts, "coordinates": gone.coordinates, "kafka": held})
        return
    click.echo(f"erased {gone.pairs} pairs, {gone.dead_letters} dead letters, {gone.labels} labels")
    if gone.coordinates:
        click.echo(f"live coordinates: {', '.join(f'{p}/{o}' for p, o in gone.coordinates)}")
    for topic, until in held.items():
        click.echo(f"Kafka may hold it in {topic} {until}")


def _still_held(settings: Settings) -> dict[str, str]:
    """Return each topic and how long it can still hold a message that was written before now."""
    from confluent_kafka.admin import ConfigResource, ResourceType

    from gnomon_consumer.kafka import clients
    from gnomon_schemas.topics import Topics

    names = Topics(settings.require_stream(), settings.topic_prefix)
    try:
        metadata = clients.list_topics(settings)
    except GnomonError as error:
        return {f"{names.prefix}.{names.stream}.*": f"for an unknown time ({error})"}
    shadow = [name for name in metadata.topics if name.startswith(names.shadow("x").removesuffix("x"))]
    topics = [name for name in (names.live, *shadow, names.labels, names.dead_letters) if name in metadata.topics]
    if clients.is_mock(metadata):
        return dict.fromkeys(topics, "until the mock cluster ends")
    admin = clients.make_admin(settings)
    asked = admin.describe_configs([ConfigResource(ResourceType.TOPIC, name) for name in topics])
    held: dict[str, str] = {}
    for resource, future in asked.items():
        config = future.result()
        retention = int(config["retention.ms"].value)
        if retention < 0:
            held[resource.name] = "forever: it has no retention.ms"
        else:
            # Kafka deletes a segment when its newest record is past retention, and starts a new one after segment.ms.
            longest = timedelta(milliseconds=retention + int(config["segment.ms"].value))
            held[resource.name] = f"until {datetime.now(UTC) + longest:%Y-%m-%d %H:%M} UTC at the latest"
    return held
