"""The life of the data: table partitions ahead and gone, roles, and the erasure of one request."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from gnomon_consumer.tables import pairs
from gnomon_schemas.errors import ConfigurationError

Connection = psycopg.Connection[Any]
AHEAD = (timedelta(0), timedelta(days=1), timedelta(days=2))
ROLES = ("gnomon_writer", "gnomon_reader")
_COLUMNS = sql.SQL(", ").join(sql.Identifier(c.name) for c in pairs.columns if c.computed is None)

_HOLDS = "select gnomon.partition_holding(%s)"
_PERMITTED = (
    "from gnomon.pairs_default p join gnomon.deployments d using (deployment_id)"
    " join gnomon.streams s using (stream_id)"
    " where p.event_time between now() - s.retention and now() + interval '2 days'"
    " or p.event_time between s.replay_from and s.replay_until"
)


@dataclass(slots=True)
class Maintained:
    """What `maintain` did, and what was `locked` and is left for the next run.

    `left_to` names the extension that is in charge of partitions, if one is.
    """

    left_to: str | None = None
    created: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    locked: list[str] = field(default_factory=list)
    moved: int = 0
    expired: int = 0
    cohorts: int = 0


@dataclass(frozen=True, slots=True)
class Manager:
    """An extension in charge of the partitions of `pairs`, and the retention that it applies to them, if any."""

    name: str
    retention: str | None


@dataclass(frozen=True, slots=True)
class Erased:
    """What `erase` removed, and at which source coordinates Kafka may still hold the request."""

    pairs: int
    dead_letters: int
    labels: int
    coordinates: list[tuple[int, int]]


def maintain(connection: Connection, now: datetime) -> Maintained:
    """Make the partitions of the next days, move rows out of the default one, drop what is past retention.

    Each change is a transaction of its own; what cannot get its lock within seconds is left for the next run. Expired
    rows stay counted in their cells. A second caller waits for the first. Where pg_partman manages `pairs`, making
    partitions and emptying the default one are left to it; dropping them too if it has a retention of its own, though
    what it drops nobody counts. At last the quality of newly sealed cohorts is computed and kept.
    """
    connection.autocommit = True
    lock = "hashtextextended('gnomon.maintain', 0)"
    connection.execute(f"select pg_advisory_lock({lock})")
    try:
        connection.execute("set lock_timeout = '5s'")
        done = _maintain(connection, now)
        done.cohorts = int(_scalar(connection, "select gnomon.keep_cohort_estimates()"))
        return done
    finally:
        connection.execute(f"select pg_advisory_unlock({lock})")


def _maintain(connection: Connection, now: datetime) -> Maintained:
    done = Maintained()
    manager = partition_manager(connection)
    if manager is None:
        before = set(_partitions(connection))
        for stream_id in _streams(connection):
            for span in AHEAD:
                with _unless_locked(done, f"{now + span:%Y-%m-%d}"):
                    connection.execute("select gnomon.ensure_partition(%s, %s)", [stream_id, now + span])
        with _unless_locked(done, "pairs_default"):
            done.moved = sum(_move_out_of_default(connection))
        done.created = sorted(set(_partitions(connection)) - before)
    else:
        done.left_to = manager.name
    if manager is None or manager.retention is None:
        for name in past_retention(connection):
            with _unless_locked(done, name):
                done.expired += _drop(connection, name)
                done.dropped.append(name)
    return done


@contextmanager
def _unless_locked(done: Maintained, what: str) -> Iterator[None]:
    """Leave for the next run what somebody else, a long report for one, holds a lock on."""
    try:
        yield
    except psycopg.errors.LockNotAvailable:
        done.locked.append(what)


def partition_manager(connection: Connection) -> Manager | None:
    """The extension that manages the partitions of `pairs`, None where Gnomon does."""
    row = connection.execute("select manager, retention from gnomon.partition_manager()").fetchone()
    return None if row is None else Manager(*row)


def past_retention(connection: Connection) -> list[str]:
    """The partitions whose event times no stream keeps any more."""
    return [name for name, (_, until) in sorted(_partitions(connection).items()) if not _wanted(connection, until)]


def _streams(connection: Connection) -> list[int]:
    return [row[0] for row in connection.execute("select stream_id from gnomon.streams order by 1")]


def _partitions(connection: Connection) -> dict[str, tuple[datetime, datetime]]:
    rows = connection.execute("select partition_name, since, until from gnomon.pair_partitions")
    return {name: (since, until) for name, since, until in rows}


def _wanted(connection: Connection, until: datetime) -> bool:
    """Whether any stream may hold event times just below `until`. Without a stream everything is."""
    row = connection.execute(
        "select coalesce(bool_or(%(until)s > now() - retention or coalesce(%(until)s > replay_from"
        " and %(until)s <= date_trunc('month', replay_until) + interval '1 month', false)), true)"
        " from gnomon.streams",
        {"until": until},
    ).fetchone()
    return bool(row and row[0])


def missing_ahead(connection: Connection, now: datetime) -> list[datetime]:
    """The days that a partition is to be ready for, and that none holds."""
    return [now + span for span in AHEAD if _scalar(connection, _HOLDS, [now + span]) is None]


def waiting_in_default(connection: Connection) -> int:
    """How many pairs stand in the default partition although their time is permitted."""
    return int(_scalar(connection, f"select count(*) {_PERMITTED}"))


def _move_out_of_default(connection: Connection) -> Iterator[int]:
    """Give the rows in the default partition whose time is permitted now a partition of their own."""
    days = connection.execute(
        f"select d.stream_id, max(p.event_time) {_PERMITTED}"
        " group by d.stream_id, date_trunc('day', p.event_time, 'UTC') order by 2"
    ).fetchall()
    unit = _scalar(connection, "select granularity from gnomon.partitioning")
    for first, (stream_id, moment) in {_floor(day, unit): (stream_id, day) for stream_id, day in days}.items():
        until = _floor(first + timedelta(days=32 if unit == "month" else 1), unit)
        with connection.transaction():
            connection.execute("lock table gnomon.pairs_default in access exclusive mode")
            connection.execute("create temp table moved (like gnomon.pairs including generated) on commit drop")
            moved = connection.execute(
                sql.SQL(
                    "with gone as (delete from gnomon.pairs_default where event_time >= %s and event_time < %s"
                    " returning {0}) insert into moved ({0}) select {0} from gone"
                ).format(_COLUMNS),
                [first, until],
            ).rowcount
            connection.execute("select gnomon.ensure_partition(%s, %s)", [stream_id, moment])
            connection.execute(sql.SQL("insert into gnomon.pairs ({0}) select {0} from moved").format(_COLUMNS))
            connection.execute("drop table moved")
        yield moved


def _floor(moment: datetime, unit: str) -> datetime:
    moment = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return moment.replace(day=1) if unit == "month" else moment


def _drop(connection: Connection, name: str) -> int:
    """Count a partition's rows as expired in their cells and drop it."""
    table = sql.Identifier("gnomon", name)
    with connection.transaction():
        connection.execute(sql.SQL("lock table {} in access exclusive mode").format(table))
        count = connection.execute(sql.SQL("select count(*) from {}").format(table)).fetchone()
        connection.execute(_count_removed("expired", table))
        connection.execute(sql.SQL("drop table {}").format(table))
    return int(count[0]) if count else 0


def _count_removed(column: str, rows: sql.Composable) -> sql.Composed:
    """The update that adds `rows` (deployment_id, window_id, stratum) to their cells' `erased` or `expired`."""
    return sql.SQL(
        "update gnomon.cells c set {column} = c.{column} + r.n"
        " from (select w.deployment_id, w.source_partition, w.start_offset, p.stratum, count(*) as n from {rows} p"
        " join gnomon.windows w using (deployment_id, window_id) group by 1, 2, 3, 4) r"
        " where c.deployment_id = r.deployment_id and c.source_partition = r.source_partition"
        " and c.start_offset = r.start_offset and c.stratum = r.stratum"
    ).format(column=sql.Identifier(column), rows=rows)


def make_roles(connection: Connection) -> list[str]:
    """Make the roles that are missing and give both what they need; return the new ones."""
    made: list[str] = []
    with connection.transaction():
        for role in ROLES:
            if connection.execute("select from pg_roles where rolname = %s", [role]).fetchone() is None:
                connection.execute(sql.SQL("create role {} nologin").format(sql.Identifier(role)))
                made.append(role)
        connection.execute("select gnomon.grant_roles()")
    return made


def erase(connection: Connection, stream: str, request_id: str) -> Erased:
    """Remove every row of one request in one transaction: pairs, dead-letter pointers, labels. Counts stay."""
    with connection.transaction():
        stream_id = _scalar(connection, "select stream_id from gnomon.streams where name = %s", [stream])
        if stream_id is None:
            raise ConfigurationError(f"the database has no stream {stream!r}")
        connection.execute("select gnomon.forget_cohort_estimates(%s)", [stream_id])
        own = "deployment_id in (select deployment_id from gnomon.deployments where stream_id = %s)"
        connection.execute(
            "create temp table erased_rows (deployment_id int, window_id uuid, stratum text, source_partition int,"
            " source_offset bigint) on commit drop"
        )
        taken = connection.execute(
            f"with gone as (delete from gnomon.pairs where request_id = %s and {own} returning *)"  # noqa: S608  # constants
            " insert into erased_rows select deployment_id, window_id, stratum, source_partition, source_offset"
            " from gone",
            [request_id, stream_id],
        ).rowcount
        letters = connection.execute(
            f"with gone as (delete from gnomon.dead_letters where request_id = %s and {own} returning *)"  # noqa: S608  # constants
            " insert into erased_rows select g.deployment_id, w.window_id, g.stratum, g.source_partition,"
            " g.source_offset from gone g join gnomon.windows w on w.deployment_id = g.deployment_id"
            " and w.source_partition = g.source_partition and w.start_offset = g.window_start",
            [request_id, stream_id],
        ).rowcount
        connection.execute(_count_removed("erased", sql.Identifier("erased_rows")))
        labels = connection.execute(
            "delete from gnomon.labels where stream_id = %s and request_id = %s", [stream_id, request_id]
        ).rowcount
        places = connection.execute("select distinct source_partition, source_offset from erased_rows order by 1, 2")
        coordinates = [(row[0], row[1]) for row in places.fetchall()]
    return Erased(taken, letters, labels, coordinates)


def ledger_differences(connection: Connection, stream: str) -> list[dict[str, Any]]:
    """Where the ledgers of a stream's deployments do not close."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(
            "select d.name as deployment, l.* from gnomon.streams s join gnomon.deployments d using (stream_id)"
            " cross join lateral gnomon.ledger_differences(d.deployment_id) l where s.name = %s order by 1, 2, 3",
            [stream],
        ).fetchall()


def _scalar(connection: Connection, query: str, arguments: list[Any] | None = None) -> Any:
    row = connection.execute(query, arguments).fetchone()
    return row[0] if row is not None else None
