"""The parts of PostgreSQL that the joiner uses: transactions, row locks, unique pairs, and ways to fail.

The statements are the product's own; an unknown statement is an error, so that this file cannot lag behind them.
"""

import os
import struct
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import psycopg
from psycopg import errors

from gnomon_consumer.joiner.pairs.assemble import PAIRS
from tests.simulation.world import Process, ViolationError, World

DEPLOYMENT = 1
REFUSED = "!"
"""The table of pairs refuses a request id with this ending."""
_PROGRESS = (
    "next_source_offset", "next_shadow_offset", "cluster_id", "topic_id", "start_offset", "model_name",
    "model_version", "model_sha256", "seed", "policy", "started_at",
)  # fmt: skip
_AT = {name: at for at, name in enumerate(PAIRS.names)}


class Pair(NamedTuple):
    """The checked columns of one row of `pairs`."""

    partition: int
    offset: int
    request_id: str
    stratum: str
    outcome: str
    probability: float


@dataclass
class Change:
    """The rows that one transaction writes."""

    progress: dict[int, tuple[int, int]] = field(default_factory=dict)
    begun: dict[int, dict[str, Any]] = field(default_factory=dict)
    pairs: list[Pair] = field(default_factory=list)
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    rollups: Counter[tuple[Any, ...]] = field(default_factory=Counter)
    features: list[tuple[str, str, int]] = field(default_factory=list)


class Database:
    """The committed state. `on_commit` gets the change of each transaction, before it is applied."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.progress: dict[int, dict[str, Any]] = {}
        self.pairs: dict[tuple[int, int], Pair] = {}
        self.features: list[tuple[str, str, int]] = []
        self.rollups: Counter[tuple[Any, ...]] = Counter()
        self.locks: dict[int, Connection] = {}
        self.away_until = 0.0
        self.full_until = 0.0
        self.on_commit: Callable[[Change], None] = lambda _: None

    def connect(self, process: Process) -> "Connection":
        """Return a new session; raise OperationalError."""
        self.world.pause()
        if self.away_until > self.world.now:
            raise errors.OperationalError("connection refused")
        return Connection(self, process)

    def apply(self, change: Change) -> None:
        """Commit."""
        self.on_commit(change)
        for partition, begun in change.begun.items():
            self.progress.setdefault(partition, begun)
        for partition, (source, shadow) in change.progress.items():
            self.progress[partition] |= {"next_source_offset": source, "next_shadow_offset": shadow}
        for pair in change.pairs:
            self.pairs[pair.partition, pair.offset] = pair
        self.features += change.features
        self.rollups.update(change.rollups)


class Connection:
    """One session."""

    def __init__(self, database: Database, process: Process) -> None:
        self.database = database
        self.world = database.world
        self.autocommit = True
        self.broken = False
        self._change: Change | None = None
        self._ready = os.open(os.devnull, os.O_RDWR)  # a file descriptor that is always ready
        process.closes.append(self.close)

    def fileno(self) -> int:
        return self._ready

    def close(self) -> None:
        """Roll back, as the server does."""
        self.broken = True
        self._change = None
        self.database.locks = {at: owner for at, owner in self.database.locks.items() if owner is not self}
        if self._ready >= 0:
            os.close(self._ready)
            self._ready = -1

    def cursor(self) -> "Connection":
        return self

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Begin a transaction, or a savepoint in one."""
        if self._change is not None:
            kept = len(self._change.pairs)
            try:
                yield
            except psycopg.Error:
                if self._change is not None:
                    del self._change.pairs[kept:]
                raise
            return
        self._request()
        self._change = Change()
        try:
            yield
            self._commit(self._change)
        finally:
            self._change = None
            self.database.locks = {at: owner for at, owner in self.database.locks.items() if owner is not self}

    def _commit(self, change: Change) -> None:
        self._request()
        fate = self.world.dice.random()
        if fate < 0.02:
            self.world.count("serialization failure")
            raise errors.SerializationFailure("could not serialize access")
        if fate < 0.06:
            done = self.world.chance(0.5)
            self.world.count(f"COMMIT without an answer ({'done' if done else 'not done'})")
            if done:
                self.database.apply(change)
            self.broken = True
            raise errors.OperationalError("server closed the connection unexpectedly")
        self.database.apply(change)

    def _request(self) -> None:
        self.world.pause()
        if self.broken or self.database.away_until > self.world.now:
            self.broken = True
            raise errors.OperationalError("the connection is lost")
        if self.world.chance(0.002):
            self.world.count("connection to the database lost")
            self.broken = True
            raise errors.OperationalError("server closed the connection unexpectedly")

    # Statements.

    def execute(self, query: Any, values: Any = ()) -> "Rows":
        """Run one of the joiner's statements."""
        self._request()
        statement = _text(query)
        for start, run in _STATEMENTS.items():
            if statement.startswith(start):
                if self._change is not None:
                    return run(self, self._change, values)
                change = Change()
                rows = run(self, change, values)
                self.database.apply(change)
                return rows
        raise ViolationError(f"a statement that the simulation does not know: {statement}")

    def executemany(self, query: Any, rows: Iterable[tuple[Any, ...]]) -> None:
        """Add to rollups; what the statement adds up is checked as sums."""
        self._request()
        assert self._change is not None
        table, names = _text(query).split()[2], _columns(_text(query))
        for row in rows:
            for name, value in zip(names, row, strict=True):
                if name in ("seen", "sampled", "pairs", "orphaned", "dead_lettered"):
                    self._change.rollups[table, name] += value

    @contextmanager
    def copy(self, query: Any) -> Iterator["Copy"]:
        """COPY of a table of the ledger."""
        self._request()
        assert self._change is not None
        table, names = _text(query).split()[1].partition(".")[2], _columns(_text(query))
        if self.database.full_until > self.world.now:
            raise errors.DiskFull("could not extend file: no space left on device")
        yield Copy(self._change.rows.setdefault(table, []), names)

    def copy_pairs(self, data: bytes) -> None:
        """Run `copy gnomon.pairs`."""
        assert self._change is not None
        if self.database.full_until > self.world.now:
            raise errors.DiskFull("could not extend file: no space left on device")
        new = list(read_copy(data))
        known = {(pair.partition, pair.offset) for pair in self._change.pairs}
        for pair in new:
            if (pair.partition, pair.offset) in known or (pair.partition, pair.offset) in self.database.pairs:
                raise errors.UniqueViolation(f"pair {pair.partition}/{pair.offset} exists")
            known.add((pair.partition, pair.offset))
            if pair.request_id.endswith(REFUSED):
                raise errors.CheckViolation("a value that the table refuses")
        self._change.pairs += new

    # The statements, by how they begin.

    def _progress(self, _: Change, values: Any) -> "Rows":
        rows = self.database.progress
        return Rows([(at, *(rows[at][name] for name in _PROGRESS)) for at in values[1] if at in rows])

    def _begin(self, change: Change, values: Any) -> "Rows":
        names = (*_PROGRESS[2:], "next_source_offset", "next_shadow_offset")
        if values[1] not in self.database.progress:
            change.begun[values[1]] = dict(zip(names, values[2:], strict=True))
        return Rows([])

    def _move(self, change: Change, values: Any) -> "Rows":
        source, shadow, _, _, _, partition, due = values
        while self.database.locks.get(partition, self) is not self:
            self.world.sleep(0.02)
            if self.broken:
                raise errors.OperationalError("the connection is lost")
        self.database.locks[partition] = self
        row = self.database.progress.get(partition)
        if row is None or row["next_source_offset"] != due:
            return Rows([])
        change.progress[partition] = source, shadow
        return Rows([()])

    def _features(self, _: Change, values: Any) -> "Rows":
        return Rows(list(self.database.features))

    def _feature(self, change: Change, values: Any) -> "Rows":
        change.features.append((values[1], values[2], values[3]))
        return Rows([])

    def _nothing(self, _: Change, values: Any) -> "Rows":
        return Rows([])

    def _tallies(self, change: Change, values: Any) -> "Rows":
        received = values[3].strip("{}").split(",")
        change.rollups["gnomon.producer_tallies", "received"] += sum(map(int, received))
        return Rows([])

    def _one(self, _: Change, values: Any) -> "Rows":
        return Rows([(DEPLOYMENT,)])

    def _tolerance(self, _: Change, values: Any) -> "Rows":
        return Rows([(1e-6, 0.0)])


_STATEMENTS: dict[str, Callable[[Connection, Change, Any], "Rows"]] = {
    "select source_partition, next_source_offset": Connection._progress,
    "insert into gnomon.join_progress": Connection._begin,
    "update gnomon.join_progress set next_source_offset": Connection._move,
    "update gnomon.join_progress set caught_up": Connection._nothing,
    "update gnomon.deployments": Connection._nothing,
    "insert into gnomon.producer_tallies": Connection._tallies,
    "insert into gnomon.streams": Connection._nothing,
    "insert into gnomon.deployments": Connection._nothing,
    "select stream_id from": Connection._one,
    "select deployment_id from": Connection._one,
    "select gnomon.ensure_partition": Connection._one,
    "select value_tolerance": Connection._tolerance,
    "select from gnomon.streams": Connection._nothing,
    "select name, kind, position": Connection._features,
    "insert into gnomon.feature_columns": Connection._feature,
}


def _text(query: Any) -> str:
    """Return a statement on one line, without quotes."""
    return _line(query if isinstance(query, bytes | str) else query.as_bytes(None))


@cache
def _line(query: bytes | str) -> str:
    text = query.decode() if isinstance(query, bytes) else query
    return " ".join(text.replace('"', "").split())


def _columns(statement: str) -> list[str]:
    return [name.strip() for name in statement.split("(", 1)[1].split(")", 1)[0].split(",")]


class Rows:
    """The answer to a statement."""

    def __init__(self, rows: list[tuple[Any, ...]]) -> None:
        self._rows = rows
        self.rowcount = len(rows)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self._rows)

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self._rows

    def fetchone(self) -> tuple[Any, ...] | None:
        return self._rows[0] if self._rows else None


class Copy:
    """The rows of one COPY in text format."""

    def __init__(self, rows: list[dict[str, Any]], names: list[str]) -> None:
        self._rows = rows
        self._names = names

    def write_row(self, row: tuple[Any, ...]) -> None:
        self._rows.append(dict(zip(self._names, row, strict=True)))


def copying(connection: Connection, statement: str, parts: Iterable[bytes]) -> Generator[int, None, None]:
    """Replace the product's COPY: the bytes travel, and other processes run meanwhile."""
    data = b""
    for part in parts:
        data += part
        connection._request()
        yield 1
    connection.copy_pairs(data)


def read_copy(data: bytes) -> Iterator[Pair]:
    """Return the rows of a binary COPY of pairs, by PostgreSQL's documentation of the format."""
    at = 19
    while True:
        (count,) = struct.unpack_from(">h", data, at)
        at += 2
        if count < 0:
            return
        fields: list[bytes | None] = []
        for _ in range(count):
            (size,) = struct.unpack_from(">i", data, at)
            at += 4
            fields.append(None if size < 0 else data[at : at + size])
            at += max(size, 0)
        number = {name: fields[_AT[name]] or b"" for name in _CHECKED}
        yield Pair(
            int.from_bytes(number["source_partition"], "big"),
            int.from_bytes(number["source_offset"], "big"),
            number["request_id"].decode(),
            number["stratum"].decode(),
            number["outcome"].decode(),
            struct.unpack(">d", number["inclusion_probability"])[0],
        )


_CHECKED = ("source_partition", "source_offset", "request_id", "stratum", "outcome", "inclusion_probability")
