"""`gnomon doctor`: one finding a thing that must be right, each failure with the way out."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import psycopg
from confluent_kafka.admin import ClusterMetadata, ConfigResource, ResourceType
from sqlalchemy.exc import OperationalError

from gnomon_consumer import database, kafka
from gnomon_consumer.settings import Settings
from gnomon_consumer.topics import plan
from gnomon_consumer.upkeep import ROLES, ledger_differences
from gnomon_migrations import runner
from gnomon_schemas.errors import GnomonError
from gnomon_schemas.topics import Topics

Status = Literal["ok", "note", "failed", "unreachable"]
SHOWN_DIFFERENCES = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was looked at, how it stands, and what to do where it is not ok."""

    check: str
    status: Status
    text: str
    remedy: str = ""


def examine(settings: Settings) -> Iterator[Finding]:
    """Every check that the settings allow, cheapest first; a check whose ground is missing is left out."""
    metadata = yield from _broker(settings)
    if metadata is not None and settings.stream is not None:
        yield from _topics(settings, metadata)
    if settings.database_url is None:
        yield Finding("database", "note", "no database_url is configured", "give --database-url to check it")
        return
    if (yield from _database(settings)) and settings.stream is not None:
        with database.connect(settings.database_url, "gnomon doctor") as connection:
            yield from _roles(connection)
            yield from _ledger(connection, settings.stream)
            yield from _producers(connection, settings.stream)


def exit_status(findings: list[Finding]) -> int:
    """3 when a dependency is unreachable, 1 when a check failed, else 0."""
    found = {finding.status for finding in findings}
    return 3 if "unreachable" in found else 1 if "failed" in found else 0


def _broker(settings: Settings) -> "Iterator[Finding] | Any":
    try:
        metadata = kafka.list_topics(settings)
    except GnomonError as error:
        yield Finding("broker", "unreachable", str(error), "check bootstrap_servers and the broker's listeners")
        return None
    kind = "librdkafka's mock cluster" if kafka.is_mock(metadata) else "Kafka"
    yield Finding("broker", "ok", f"{kind} at {settings.bootstrap_servers}, {len(metadata.brokers)} broker(s)")
    return metadata


def _topics(settings: Settings, metadata: ClusterMetadata) -> Iterator[Finding]:
    names = Topics(settings.require_stream(), settings.topic_prefix)
    live = metadata.topics.get(names.live)
    partitions = len(live.partitions) if live is not None else 0
    shadow_prefix = f"{names.prefix}.{names.stream}.shadow."
    deployments = [name.removeprefix(shadow_prefix) for name in metadata.topics if name.startswith(shadow_prefix)]
    for wanted in plan(names, max(partitions, 1), deployments):
        topic = metadata.topics.get(wanted.name)
        if topic is None:
            yield Finding("topics", "failed", f"{wanted.name} is missing", "run `gnomon topics create`")
        elif len(topic.partitions) < wanted.partitions and wanted.name.startswith(shadow_prefix):
            yield Finding(
                "topics",
                "failed",
                f"{wanted.name} has {len(topic.partitions)} partitions, {names.live} has {partitions}",
                f"run `gnomon topics create --partitions {partitions} --deployment"
                f" {wanted.name.removeprefix(shadow_prefix)}`",
            )
        else:
            yield Finding("topics", "ok", f"{wanted.name}, {len(topic.partitions)} partitions")
    if not kafka.is_mock(metadata):
        yield from _topic_settings(settings, names, metadata)


def _topic_settings(settings: Settings, names: Topics, metadata: ClusterMetadata) -> Iterator[Finding]:
    """The one setting whose error loses data in silence: what must be compacted, and what must not be."""
    checked = {item.name: item.config["cleanup.policy"] for item in plan(names, 1) if item.name in metadata.topics}
    admin = kafka.make_admin(settings)
    asked = admin.describe_configs([ConfigResource(ResourceType.TOPIC, name) for name in checked])
    for resource, future in asked.items():
        found = set(future.result()["cleanup.policy"].value.split(","))
        wanted = set(checked[resource.name].split(","))
        if found != wanted:
            policy = ",".join(sorted(wanted))
            yield Finding(
                "topics",
                "failed",
                f"{resource.name} has cleanup.policy={','.join(sorted(found))}",
                f"set it: kafka-configs --alter --topic {resource.name} --add-config cleanup.policy=[{policy}]",
            )


def _database(settings: Settings) -> "Iterator[Finding] | Any":
    url = settings.require_database_url()
    try:
        with database.engine_for(url).connect() as connection:
            stands, fits = runner.current(connection), runner.up_to_date(connection)
    except OperationalError as error:
        yield Finding("database", "unreachable", str(database.unreachable(url, error)), "check database_url")
        return False
    yield Finding("database", "ok", "PostgreSQL answers")
    if fits:
        yield Finding("migrations", "ok", f"at {stands}")
    else:
        text = f"the database is at {stands or 'nothing'}, this program needs {runner.newest()} with its own views"
        yield Finding("migrations", "failed", text, "run `gnomon db upgrade`")
    return stands is not None


def _roles(connection: psycopg.Connection[Any]) -> Iterator[Finding]:
    rows = connection.execute("select rolname from pg_roles where rolname = any(%s)", [list(ROLES)]).fetchall()
    missing = sorted(set(ROLES) - {row[0] for row in rows})
    if missing:
        yield Finding("roles", "note", f"no role {' and '.join(missing)}", "run `gnomon db roles`")
    else:
        yield Finding("roles", "ok", " and ".join(ROLES))


def _ledger(connection: psycopg.Connection[Any], stream: str) -> Iterator[Finding]:
    differences = ledger_differences(connection, stream)
    for one in differences[:SHOWN_DIFFERENCES]:
        yield Finding(
            "ledger",
            "failed",
            f"{one['deployment']}, partition {one['source_partition']}, window at {one['start_offset']}:"
            f" {one['kind']} should be {one['expected']}, is {one['found']}",
            "a bug, or a hand at work in the database: keep both logs and report it",
        )
    if len(differences) > SHOWN_DIFFERENCES:
        yield Finding("ledger", "failed", f"and {len(differences) - SHOWN_DIFFERENCES} differences more")
    if not differences:
        row = connection.execute(
            "select coalesce(sum(c.seen), 0)::bigint, count(distinct d.name) from gnomon.streams s"
            " join gnomon.deployments d using (stream_id) left join gnomon.cells c using (deployment_id)"
            " where s.name = %s",
            [stream],
        ).fetchone()
        assert row is not None
        yield Finding("ledger", "ok", f"closes: {row[0]} captures of {row[1]} deployment(s), each in one bucket")


def _producers(connection: psycopg.Connection[Any], stream: str) -> Iterator[Finding]:
    """A loss in the hook is counted, not a difference; more received than was offered is one."""
    rows = connection.execute(
        "select p.producer_id, d.name, p.received - p.repeated, p.missing, p.offered, p.closed"
        " from gnomon.producers p join gnomon.streams s using (stream_id)"
        " join gnomon.deployments d using (deployment_id) where s.name = %s",
        [stream],
    ).fetchall()
    for producer, deployment, received, _, offered, closed in rows:
        if closed and offered is not None and received > offered:
            yield Finding(
                "producers",
                "failed",
                f"{deployment} received {received} captures of producer {producer}, which offered {offered}",
                "a producer id is used twice: look for processes that share one",
            )
    missing = sum(row[3] for row in rows)
    unclean = sum(not row[5] for row in rows)
    if missing or unclean:
        text = f"{missing} captures lost before the broker, {unclean} of {len(rows)} runs not closed"
        yield Finding("producers", "note", text, "see `gnomon report producers`")
    else:
        yield Finding("producers", "ok", f"{len(rows)} runs, closed and without a gap")
