"""The doctor's checks of PostgreSQL: revision, roles, partitions, and whether every capture is in one bucket."""

from collections.abc import Generator, Iterator, Mapping
from datetime import UTC, datetime

import psycopg
from sqlalchemy.exc import SQLAlchemyError

from gnomon_consumer.database import connections, maintenance, roles
from gnomon_consumer.database.connections import Connection
from gnomon_consumer.database.queries import queries_of
from gnomon_consumer.doctor.finding import Finding, FindingStatus
from gnomon_consumer.settings import Settings
from gnomon_migrations import runner
from gnomon_schemas.errors import DependencyUnreachableError, GnomonError

SHOWN_DIFFERENCES = 5
SQL = queries_of(__package__)


def examine_rows(connection: Connection, stream: str, first_offsets: Mapping[int, int]) -> Iterator[Finding]:
    """Check one stream; `first_offsets` are the current first offsets of the live topic's partitions."""
    checks = {
        "roles": _roles(connection),
        "partitions": _partitions(connection, datetime.now(UTC)),
        "ledger": _ledger(connection, stream),
        "orphans": _lost(connection, stream, first_offsets),
        "producers": _producers(connection, stream),
        "labels": _labels(connection, stream),
    }
    for check, findings in checks.items():
        yield from _or_refusal(check, findings)


def _or_refusal(check: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    """Yield the findings; a check that PostgreSQL refuses is also a finding."""
    try:
        yield from findings
    except psycopg.Error as error:
        yield Finding(
            check, "failed", f"cannot be checked: {connections.explain(error)}", "run it as the tables' owner"
        )


def examine_identity(
    connection: Connection, stream: str, cluster_id: str, topic_ids: Mapping[str, str | None]
) -> Iterator[Finding]:
    """Check that the stored data came from the topics that have these names now."""
    yield from _or_refusal("identity", _identity(connection, stream, cluster_id, topic_ids))


def _identity(
    connection: Connection, stream: str, cluster_id: str, topic_ids: Mapping[str, str | None]
) -> Iterator[Finding]:
    rows = connection.execute(SQL["origins"], {"stream": stream}).fetchall()
    for what, kind, *stored in rows:
        topic, now = next(((t, i) for t, i in topic_ids.items() if t.endswith(f".{kind}")), (kind, None))
        if stored == [cluster_id, now]:
            yield Finding("identity", "ok", f"{what}: read from this {topic}")
        else:
            changed = "another cluster" if stored[0] != cluster_id else f"another {topic}, which was re-created"
            remedy = "use another database, or for pairs another deployment: offsets of two topics must not mix"
            yield Finding("identity", "failed", f"{what}: read from {changed}", remedy)


def answers(settings: Settings) -> Generator[Finding, None, bool]:
    """Check that the database answers and has the version of this program; return whether both hold."""
    url = settings.require_database_url()
    try:
        with connections.engine_for(url, connections.Access.WRITE).connect() as connection:
            stands, fits = runner.current(connection), runner.up_to_date(connection)
    except (psycopg.Error, SQLAlchemyError, GnomonError) as error:
        said = error if isinstance(error, GnomonError) else connections.explain(error)
        status: FindingStatus = "unreachable" if isinstance(said, DependencyUnreachableError) else "failed"
        yield Finding("database", status, str(said), "fix that and run `gnomon doctor` again")
        return False
    yield Finding("database", "ok", "PostgreSQL answers")
    if fits:
        yield Finding("migrations", "ok", f"at {stands}")
    else:
        text = f"the database is at {stands or 'nothing'}, this program needs {runner.newest()} with its own views"
        yield Finding("migrations", "failed", text, "run `gnomon db upgrade`")
    return fits


def _roles(connection: Connection) -> Iterator[Finding]:
    rows = connection.execute(SQL["roles"], [list(roles.ROLES)]).fetchall()
    missing = sorted(set(roles.ROLES) - {row[0] for row in rows})
    if missing:
        yield Finding("roles", "note", f"no role {' and '.join(missing)}", "run `gnomon db roles`")
    else:
        yield Finding("roles", "ok", " and ".join(roles.ROLES))


def _partitions(connection: Connection, now: datetime) -> Iterator[Finding]:
    """Check the partitions of the next days, rows in the default partition, and partitions past retention."""
    maintain = "run `gnomon db maintain` once a day"
    manager = maintenance.partition_manager(connection)
    if manager is not None and manager.retention is not None:
        yield Finding(
            "partitions",
            "failed",
            f"{manager.name} drops partitions older than {manager.retention} without counting their rows",
            f"set retention in {manager.name}'s part_config to null; `gnomon db maintain` drops and counts them",
        )
    missing = maintenance.missing_ahead(connection, now)
    if missing:
        days = " and ".join(f"{day:%Y-%m-%d}" for day in missing)
        if manager is None:
            yield Finding(
                "partitions", "note", f"none yet for {days}; the joiner creates it when it is needed", maintain
            )
        else:
            yield Finding(
                "partitions",
                "failed",
                f"none for {days}; pairs of these days would go to the default partition",
                f"run the maintenance of {manager.name}, which manages the partitions",
            )
    waiting, old = maintenance.waiting_in_default(connection), maintenance.past_retention(connection)
    if waiting:
        remedy = maintain if manager is None else f"move them with {manager.name}'s partition_data procedures"
        yield Finding(
            "partitions",
            "note",
            f"{waiting} pairs are in the default partition and have a partition of their own",
            remedy,
        )
    if old:
        yield Finding("partitions", "note", f"{len(old)} past retention: {', '.join(old)}", maintain)
    if not missing and not waiting and not old:
        yield Finding("partitions", "ok", f"ahead to {now + maintenance.AHEAD[-1]:%Y-%m-%d}, none past retention")


def _lost(connection: Connection, stream: str, first_offsets: Mapping[int, int]) -> Iterator[Finding]:
    """Report captures that the live log no longer holds: they are counted but cannot be checked."""
    orphaned = connection.execute(SQL["orphans"], [stream]).fetchall()
    remedy = "raise retention.ms of the live topic, or give the joiner more members"
    for deployment, orphans, unread in orphaned:
        if orphans or unread:
            text = f"{deployment}: {orphans} orphans, {unread} captures expired before the joiner counted them"
            yield Finding("orphans", "note", text, remedy)
        else:
            yield Finding("orphans", "ok", f"{deployment}: none")
    behind = connection.execute(SQL["progress"], [stream]).fetchall()
    for deployment, partition, stands in behind:
        low = first_offsets.get(partition, 0)
        if low > stands:
            yield Finding(
                "retention",
                "failed",
                f"{deployment}, partition {partition}: joined to {stands}, the live log begins at {low}:"
                f" {low - stands} captures expired unread",
                remedy,
            )


def _ledger(connection: Connection, stream: str) -> Iterator[Finding]:
    differences = maintenance.ledger_differences(connection, stream)
    for one in differences[:SHOWN_DIFFERENCES]:
        yield Finding(
            "ledger",
            "failed",
            f"{one['deployment']}, partition {one['source_partition']}, window at {one['start_offset']}:"
            f" {one['kind']} should be {one['expected']}, is {one['found']}",
            "a bug, or a manual change in the database: keep both logs and report it",
        )
    if len(differences) > SHOWN_DIFFERENCES:
        yield Finding("ledger", "failed", f"and {len(differences) - SHOWN_DIFFERENCES} more differences")
    if not differences:
        row = connection.execute(SQL["captures"], [stream]).fetchone()
        assert row is not None
        yield Finding("ledger", "ok", f"closes: {row[0]} captures of {row[1]} deployment(s), each in one bucket")


def _producers(connection: Connection, stream: str) -> Iterator[Finding]:
    """Report losses in the hook, which are counted; only more received than offered captures are a failure.

    A run counts once, by the deployment that received most of it, because others may have begun later.
    """
    rows = connection.execute(SQL["producers"], [stream]).fetchall()
    for producer, deployment, received, _, offered, closed in rows:
        if closed and offered is not None and received > offered:
            yield Finding(
                "producers",
                "failed",
                f"{deployment} received {received} captures of producer {producer}, which offered {offered}",
                "a producer id is used twice: look for processes that share one",
            )
    runs = {row[0]: row for row in sorted(rows, key=lambda row: row[2])}.values()
    missing = sum(row[3] for row in runs)
    unclean = sum(not row[5] for row in runs)
    if missing or unclean:
        text = f"{missing} captures lost before the broker, {unclean} of {len(runs)} runs ended without closing"
        yield Finding("producers", "note", text, "see `gnomon report producers`")
    else:
        yield Finding("producers", "ok", f"{len(runs)} runs, running or closed, without a gap")


def _labels(connection: Connection, stream: str) -> Iterator[Finding]:
    """Check that no label was observed before its question: such a label has a wrong time or id."""
    row = connection.execute(SQL["early_labels"], [stream]).fetchone()
    assert row is not None
    if row[0]:
        remedy = "look for a wrong zone or unit of time in the labels, or for an id that is used twice"
        yield Finding("labels", "note", f"{row[0]} requests have a label observed before their capture", remedy)
    else:
        yield Finding("labels", "ok", "no label was observed before its capture")
