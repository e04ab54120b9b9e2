"""Maintenance of the data: future and expired table partitions, and the checks of the ledger."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from gnomon_consumer.database.connections import Connection
from gnomon_consumer.database.queries import queries_of
from gnomon_consumer.database.tables import pairs

AHEAD = (timedelta(0), timedelta(days=1), timedelta(days=2))
_COLUMNS = sql.SQL(", ").join(sql.Identifier(c.name) for c in pairs.columns if c.computed is None)
SQL = queries_of(__package__)


@dataclass(slots=True, kw_only=True)
class Maintained:
    """The results of `maintain`; partitions in `locked` are left for the next run.

    `left_to` names the extension that manages partitions, if there is one.
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
    """An extension that manages the partitions of `pairs`, and the retention that it applies to them, if any."""

    name: str
    retention: str | None


def maintain(connection: Connection, now: datetime) -> Maintained:
    """Create the partitions of the next days, move rows out of the default one, drop partitions past retention.

    Each change is a separate transaction; a change that gets no lock within seconds is left for the next run. Cells
    still count expired rows. `alone` prevents parallel runs. If pg_partman manages `pairs`, it creates partitions and
    empties the default one; it also drops partitions if it has a retention, but then nobody counts the dropped rows.
    Finally, the quality of newly sealed cohorts is computed and stored.
    """
    connection.autocommit = True
    done = _maintain(connection, now)
    done.cohorts = int(scalar(connection, SQL["keep_cohort_estimates"]))
    return done


@contextmanager
def alone(guard: Connection) -> Iterator[None]:
    """Let one `maintain` run at a time: a second caller waits. `guard` is a separate connection.

    Its open transaction holds the lock: a pooler would leave a session's lock to the next user of that session.
    """
    with guard.transaction():
        guard.execute(SQL["keep_waiting"])
        guard.execute(SQL["lock_maintenance"])
        yield


@contextmanager
def _brief(connection: Connection) -> Iterator[None]:
    """Run a transaction that fails if it gets no lock within seconds."""
    with connection.transaction():
        connection.execute(SQL["give_up_soon"])
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
    """Leave a change for the next run if another session, for example a long report, holds the lock."""
    try:
        yield
    except psycopg.errors.LockNotAvailable:
        done.locked.append(what)


def partition_manager(connection: Connection) -> Manager | None:
    """Return the extension that manages the partitions of `pairs`, None if Gnomon does."""
    row = connection.execute(SQL["partition_manager"]).fetchone()
    return None if row is None else Manager(*row)


def past_retention(connection: Connection) -> list[str]:
    """Return the partitions whose event times are past the retention of every stream."""
    return [name for name, (_, until) in sorted(_partitions(connection).items()) if not _wanted(connection, until)]


def _streams(connection: Connection) -> list[int]:
    return [row[0] for row in connection.execute(SQL["stream_ids"])]


def _partitions(connection: Connection) -> dict[str, tuple[datetime, datetime]]:
    rows = connection.execute(SQL["partitions"])
    return {name: (since, until) for name, since, until in rows}


def _wanted(connection: Connection, until: datetime) -> bool:
    """Return whether any stream may hold event times just below `until`; True if there is no stream."""
    return bool(scalar(connection, SQL["is_wanted"], {"until": until}))


def missing_ahead(connection: Connection, now: datetime) -> list[datetime]:
    """Return the coming days that need a partition and have none."""
    return [now + span for span in AHEAD if scalar(connection, SQL["partition_holding"], [now + span]) is None]


def waiting_in_default(connection: Connection) -> int:
    """Return the number of pairs in the default partition with a permitted event time."""
    return sum(int(count) for _, _, count in connection.execute(SQL["waiting_in_default"]))


def _move_out_of_default(connection: Connection) -> Iterator[int]:
    """Move rows of the default partition with a permitted event time into their own partition."""
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
            connection.execute(SQL["drop_moved"])
        yield moved


def _floor(moment: datetime, unit: str) -> datetime:
    moment = moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return moment.replace(day=1) if unit == "month" else moment


def _drop(connection: Connection, name: str) -> int:
    """Count a partition's rows as expired in their cells and drop it."""
    table = sql.Identifier("gnomon", name)
    with _brief(connection):
        connection.execute(SQL.template("lock_partition").format(partition=table))
        count = connection.execute(SQL.template("count_rows").format(partition=table)).fetchone()
        connection.execute(count_removed("expired", table))
        connection.execute(SQL.template("drop_partition").format(partition=table))
    return int(count[0]) if count else 0


def ledger_differences(connection: Connection, stream: str) -> list[dict[str, Any]]:
    """Return where the ledgers of a stream's deployments do not close."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(SQL["ledger_differences"], [stream]).fetchall()


def count_removed(column: str, rows: sql.Composable) -> sql.Composed:
    """Return the update that adds `rows` (deployment_id, window_id, stratum) to their cells' `erased` or `expired`."""
    return SQL.template("count_removed").format(column=sql.Identifier(column), rows=rows)


def scalar(connection: Connection, query: bytes, arguments: Sequence[Any] | Mapping[str, Any] | None = None) -> Any:
    """Return the first column of the first row, None without a row."""
    row = connection.execute(query, arguments).fetchone()
    return row[0] if row is not None else None
