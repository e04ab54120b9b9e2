"""The life of the data: table partitions ahead and gone, roles, and the erasure of one request."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from gnomon_consumer.database.queries import queries_of
from gnomon_consumer.database.tables import pairs

Connection = psycopg.Connection[Any]
AHEAD = (timedelta(0), timedelta(days=1), timedelta(days=2))
_COLUMNS = sql.SQL(", ").join(sql.Identifier(c.name) for c in pairs.columns if c.computed is None)
SQL = queries_of(__package__)


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


def maintain(connection: Connection, now: datetime) -> Maintained:
    """Make the partitions of the next days, move rows out of the default one, drop what is past retention.

    Each change is a transaction of its own; what cannot get its lock within seconds is left for the next run. Expired
    rows stay counted in their cells. See `alone`. Where pg_partman manages `pairs`, making
    partitions and emptying the default one are left to it; dropping them too if it has a retention of its own, though
    what it drops nobody counts. At last the quality of newly sealed cohorts is computed and kept.
    """
    connection.autocommit = True
    done = _maintain(connection, now)
    done.cohorts = int(scalar(connection, SQL["keep_cohort_estimates"]))
    return done


@contextmanager
def alone(guard: Connection) -> Iterator[None]:
    """Let one `maintain` run at a time: a second caller waits. `guard` is a connection of its own.

    Its open transaction holds the lock: a pooler would leave a session's lock to whoever gets that session next.
    """
    with guard.transaction():
        guard.execute("set local idle_in_transaction_session_timeout = 0")
        guard.execute(SQL["lock_maintenance"])
        yield


@contextmanager
def _brief(connection: Connection) -> Iterator[None]:
    """A transaction that gives up where a lock is not to be had within seconds."""
    with connection.transaction():
        connection.execute("set local lock_timeout = '5s'")
        yield


def _maintain(connection: Connection, now: datetime) -> Maintained:
    done = Maintained()
    manager = partition_manager(connection)
    if manager is None:
        before = set(_partitions(connection))
        for stream_id in _streams(connection):
            for span in AHEAD:
                with _unless_locked(done, f"{now + span:%Y-%m-%d}"), _brief(connection):
                    connection.execute(SQL["ensure_partition"], [stream_id, now + span])
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
    row = connection.execute(SQL["partition_manager"]).fetchone()
    return None if row is None else Manager(*row)


def past_retention(connection: Connection) -> list[str]:
    """The partitions whose event times no stream keeps any more."""
    return [name for name, (_, until) in sorted(_partitions(connection).items()) if not _wanted(connection, until)]


def _streams(connection: Connection) -> list[int]:
    return [row[0] for row in connection.execute(SQL["stream_ids"])]


def _partitions(connection: Connection) -> dict[str, tuple[datetime, datetime]]:
    rows = connection.execute(SQL["partitions"])
    return {name: (since, until) for name, since, until in rows}


def _wanted(connection: Connection, until: datetime) -> bool:
    """Whether any stream may hold event times just below `until`. Without a stream everything is."""
    return bool(scalar(connection, SQL["is_wanted"], {"until": until}))


def missing_ahead(connection: Connection, now: datetime) -> list[datetime]:
    """The days that a partition is to be ready for, and that none holds."""
    return [now + span for span in AHEAD if scalar(connection, SQL["partition_holding"], [now + span]) is None]


def waiting_in_default(connection: Connection) -> int:
    """How many pairs stand in the default partition although their time is permitted."""
    return sum(int(count) for _, _, count in connection.execute(SQL["waiting_in_default"]))


def _move_out_of_default(connection: Connection) -> Iterator[int]:
    """Give the rows in the default partition whose time is permitted now a partition of their own."""
    days = connection.execute(SQL["waiting_in_default"]).fetchall()
    unit = scalar(connection, SQL["granularity"])
    for first, (stream_id, moment) in {_floor(day, unit): (stream_id, day) for stream_id, day, _ in days}.items():
        until = _floor(first + timedelta(days=32 if unit == "month" else 1), unit)
        with _brief(connection):
            connection.execute(SQL["lock_default"])
            connection.execute(SQL["make_moved"])
            moved = connection.execute(SQL.template("out_of_default").format(columns=_COLUMNS), [first, until]).rowcount
            connection.execute(SQL["ensure_partition"], [stream_id, moment])
            connection.execute(SQL.template("into_pairs").format(columns=_COLUMNS))
            connection.execute("drop table moved")
        yield moved


def _floor(moment: datetime, unit: str) -> datetime:
    moment = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return moment.replace(day=1) if unit == "month" else moment


def _drop(connection: Connection, name: str) -> int:
    """Count a partition's rows as expired in their cells and drop it."""
    table = sql.Identifier("gnomon", name)
    with _brief(connection):
        connection.execute(sql.SQL("lock table {} in access exclusive mode").format(table))
        count = connection.execute(sql.SQL("select count(*) from {}").format(table)).fetchone()
        connection.execute(count_removed("expired", table))
        connection.execute(sql.SQL("drop table {}").format(table))
    return int(count[0]) if count else 0


def ledger_differences(connection: Connection, stream: str) -> list[dict[str, Any]]:
    """Where the ledgers of a stream's deployments do not close."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(SQL["ledger_differences"], [stream]).fetchall()


def count_removed(column: str, rows: sql.Composable) -> sql.Composed:
    """The update that adds `rows` (deployment_id, window_id, stratum) to their cells' `erased` or `expired`."""
    return SQL.template("count_removed").format(column=sql.Identifier(column), rows=rows)


def scalar(connection: Connection, query: bytes, arguments: Sequence[Any] | Mapping[str, Any] | None = None) -> Any:
    """Return the first column of the first row, None where there is no row."""
    row = connection.execute(query, arguments).fetchone()
    return row[0] if row is not None else None
