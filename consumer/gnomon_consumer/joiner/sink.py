"""Windows into PostgreSQL, whole or not at all: progress first, by compare-and-set, then the rows it stands for."""

import select
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
from psycopg import errors

from gnomon_consumer.joiner.assemble import Assembled, assemble
from gnomon_consumer.joiner.copying import Steps, copying, give_room
from gnomon_consumer.joiner.days import Days
from gnomon_consumer.joiner.features import FeatureColumns, Layout
from gnomon_consumer.joiner.identity import IDENTITY, Progress, check_identity, identity_of
from gnomon_consumer.joiner.ledger import (
    CELL_COLUMNS,
    LETTER_COLUMNS,
    TALLY_COLUMNS,
    WINDOW_COLUMNS,
    cell_rows,
    letter_row,
    moment,
    place,
    recount,
    tally_rows,
    window_row,
)
from gnomon_consumer.joiner.matches import Refusal
from gnomon_consumer.joiner.rollup import COUNTS, SUMS, Rollup
from gnomon_consumer.joiner.shadows import Numbers
from gnomon_consumer.joiner.window import HOUR_US, JoinedWindow
from gnomon_consumer.joiner.wire import COPY, copy_parts
from gnomon_schemas.codec import Record
from gnomon_schemas.columnar import ColumnarReader
from gnomon_schemas.errors import GnomonError
from gnomon_schemas.schema import Schema

Connection = psycopg.Connection[Any]


class ProgressMovedError(GnomonError):
    """Another joiner moved this partition's progress; what was about to be written is dropped."""

    def __init__(self, partition: int) -> None:
        super().__init__(f"another joiner moved partition {partition}")
        self.partition = partition


class DoublePairError(GnomonError):
    """A pair is in the database already although progress says that it is not: a bug, or a hand at work there."""


class Sink:
    """Writes the windows of one deployment. `at` is called at the points that tests want to interrupt.

    A write that was started goes on with every `push`. The connection is its own until it is done: whatever else asks
    the database settles it first.
    """

    def __init__(
        self, connection: Connection, stream: str, deployment: str, at: Callable[[str], None] = lambda _: None
    ) -> None:
        self._connection = connection
        self._at = at
        connection.autocommit = True
        give_room(connection)
        self._stream_id, self._tolerance, self.deployment_id = _register(connection, stream, deployment)
        self._features = FeatureColumns(self._stream_id)
        self._days = Days(connection, self._stream_id)
        self._writing: Steps | None = None
        self._written: list[tuple[Sequence[JoinedWindow], int]] = []

    def declare_replay(self, since: datetime, until: datetime) -> None:
        """Say which part of the past this stream replays: its event times get table partitions of their own."""
        self._connection.execute(
            "update gnomon.streams set replay_from = %s, replay_until = %s where stream_id = %s",
            [since, until, self._stream_id],
        )

    def progress(self, partitions: Sequence[int]) -> dict[int, Progress]:
        """What is joined already, by partition."""
        self.settle()
        rows = self._connection.execute(
            f"select source_partition, next_source_offset, next_shadow_offset, {', '.join(IDENTITY)}"  # noqa: S608  # constants
            " from gnomon.join_progress where deployment_id = %s and source_partition = any(%s)",
            [self.deployment_id, list(partitions)],
        )
        return {row[0]: Progress(row[1], row[2], dict(zip(IDENTITY, row[3:], strict=True))) for row in rows}

    def begin(self, partition: int, start: Record, shadow_offset: int) -> None:
        """Remember where a partition begins; raise IdentityError when it began otherwise."""
        self.settle()
        found = identity_of(start)
        names = ("deployment_id", "source_partition", *IDENTITY, "next_source_offset", "next_shadow_offset")
        values = [self.deployment_id, partition, *found.values(), start["start_offset"], shadow_offset + 1]
        with self._connection.transaction():
            self._connection.execute(
                f"insert into gnomon.join_progress ({', '.join(names)})"  # noqa: S608  # constants
                f" values ({', '.join(['%s'] * len(names))}) on conflict do nothing",
                values,
            )
            self._connection.execute(
                "update gnomon.deployments set role = %s, model_name = %s, model_version = %s, model_sha256 = %s"
                " where deployment_id = %s and model_sha256 is null",
                [
                    start["role"], found["model_name"], found["model_version"], found["model_sha256"],
                    self.deployment_id,
                ],
            )  # fmt: skip
        check_identity(partition, self.progress([partition])[partition].identity, found)

    def caught_up(self, partitions: Sequence[int]) -> None:
        """Say that nothing is left to join in these partitions for now."""
        self.settle()
        self._connection.execute(
            "update gnomon.join_progress set caught_up = true, updated_at = now()"
            " where deployment_id = %s and source_partition = any(%s)",
            [self.deployment_id, list(partitions)],
        )

    def apply(self, windows: Sequence[JoinedWindow], reader: ColumnarReader) -> int:
        """Write windows to the end; return the number of pairs. Raises what `start` and `settle` raise."""
        self.start(windows, self.assembled(windows, reader))
        self.settle()
        return self.written()[-1][1]

    def assembled(self, windows: Sequence[JoinedWindow], reader: ColumnarReader) -> Assembled:
        """The pairs of some windows; what is being written need not be done for it, unless a schema is new."""
        return assemble(self.deployment_id, windows, reader, self._layout)

    def start(self, windows: Sequence[JoinedWindow], assembled: Assembled) -> None:
        """Begin to write windows, each partition's in order, in one transaction, when what is being written is done.

        Raises ProgressMovedError when another joiner was here: nothing of `windows` is written then. A row that
        PostgreSQL refuses becomes a dead letter.
        """
        self.settle()
        outside = self._days.ensure(assembled.batch)
        self._writing = self._write(windows, assembled, outside)
        self.push()

    @property
    def busy(self) -> bool:
        """Whether a write is not done."""
        return self._writing is not None

    def push(self) -> int:
        """Go on with the write as far as PostgreSQL lets it without waiting; return the events to wait for.

        Raises DoublePairError for a bug, and psycopg's errors for a database that is away: nothing is written then.
        """
        writing, self._writing = self._writing, None
        events = 0 if writing is None else next(writing, 0)
        if events:
            self._writing = writing
        return events

    def settle(self, seconds: float | None = None) -> bool:
        """Wait until the write is done, so long at most; return whether it is. Raises what `push` raises."""
        until = None if seconds is None else time.monotonic() + seconds
        while events := self.push():
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                return False
            socket = select.poll()
            socket.register(self._connection.fileno(), events)
            socket.poll(left and 1000 * left)
        return True

    def written(self) -> list[tuple[Sequence[JoinedWindow], int]]:
        """Windows that were committed since this was asked for last, with their number of pairs."""
        written, self._written = self._written, []
        return written

    def close(self) -> None:
        """Close the connection: what is being written is rolled back."""
        self._connection.close()
        self._writing = None

    def _layout(self, schema: Schema) -> Layout:
        if not self._features.knows(schema):
            self.settle()
        return self._features.layout(self._connection, schema)

    def _write(self, windows: Sequence[JoinedWindow], assembled: Assembled, outside: Counter[int]) -> Steps:
        with self._connection.transaction():
            self._move_progress(windows, outside)
            kept, refusals = yield from self._copy_pairs(assembled)
            self._at("copied")
            self._write_ledger(windows, assembled, kept, refusals)
            self._at("written")
        self._at("committed")
        self._written.append((windows, len(kept)))

    def _move_progress(self, windows: Sequence[JoinedWindow], outside: Counter[int]) -> None:
        for partition, group in groupby(
            sorted(windows, key=place), key=lambda window: int(window.seal["source_partition"])
        ):
            own = list(group)
            moved = self._connection.execute(
                "update gnomon.join_progress set next_source_offset = %s, next_shadow_offset = %s,"
                " event_time_reached = greatest(event_time_reached, %s), caught_up = false,"
                " defaulted = defaulted + %s, updated_at = now()"
                " where deployment_id = %s and source_partition = %s and next_source_offset = %s",
                [
                    own[-1].seal["end_offset"],
                    own[-1].shadow_offset + 1,
                    max((moment(at) for w in own if (at := w.seal["last_captured_at"]) is not None), default=None),
                    outside[partition],
                    self.deployment_id,
                    partition,
                    own[0].seal["start_offset"],
                ],
            )
            if moved.rowcount != 1:
                raise ProgressMovedError(partition)

    def _copy_pairs(self, assembled: Assembled) -> Generator[int, None, tuple[Numbers, list[tuple[int, Refusal]]]]:
        """Copy the batch; halve what PostgreSQL refuses until the rows at fault are alone.

        Returns the indices that were written, and the refusals, those of the assembly included.
        """
        kept = [np.empty(0, np.int64)]
        refusals = list(assembled.refusals)
        todo = [(0, assembled.batch.num_rows)] if assembled.batch.num_rows else []
        while todo:
            start, end = todo.pop()
            try:
                with self._connection.transaction():
                    parts = copy_parts(assembled.batch.slice(start, end - start))
                    yield from copying(self._connection.cursor(), COPY, parts)
            except errors.UniqueViolation as error:
                raise DoublePairError(f"a pair would be written twice: {one_line(error)}") from error
            except (psycopg.DataError, errors.NotNullViolation, errors.CheckViolation, pa.ArrowException) as error:
                if end - start == 1:
                    refusals.append(assembled.refused(start, "refused", one_line(error)))
                else:
                    middle = (start + end) // 2
                    todo += [(middle, end), (start, middle)]
            else:
                kept.append(np.arange(start, end))
        return np.concatenate(kept), refusals

    def _write_ledger(
        self,
        windows: Sequence[JoinedWindow],
        assembled: Assembled,
        kept: Numbers,
        refusals: list[tuple[int, Refusal]],
    ) -> None:
        counted, rollup = recount(windows, assembled, kept, refusals, self._tolerance)
        self._copy("windows", WINDOW_COLUMNS, (window_row(self.deployment_id, window) for window in windows))
        self._copy("cells", CELL_COLUMNS, cell_rows(self.deployment_id, windows, counted))
        self._copy(
            "dead_letters",
            LETTER_COLUMNS,
            (letter_row(self.deployment_id, windows[at], letter) for at, letter in refusals),
        )
        self._add_rollup(rollup)
        self._connection.cursor().executemany(_ADD_TALLY, tally_rows(self.deployment_id, windows))

    def _copy(self, table: str, columns: Sequence[str], rows: Iterator[tuple[Any, ...]]) -> None:
        statement = f"copy gnomon.{table} ({', '.join(columns)}) from stdin"
        with self._connection.cursor().copy(statement) as copy:
            for row in rows:
                copy.write_row(row)

    def _add_rollup(self, rollup: Rollup) -> None:
        self._connection.cursor().executemany(
            _ADD_ROLLUP,
            [
                (self.deployment_id, moment(hour * HOUR_US), stratum, *numbers)
                for (hour, stratum), numbers in rollup.rows()
            ],
        )
        self._connection.cursor().executemany(
            _ADD_DECISIONS,
            [
                (self.deployment_id, moment(hour * HOUR_US), *labels, *numbers)
                for (hour, *labels), numbers in rollup.decisions()
            ],
        )


_ROLLED = (*COUNTS, *SUMS)
_ADD_ROLLUP = f"""
insert into gnomon.rollups as r (deployment_id, hour, stratum, {", ".join(_ROLLED)})
values (%s, %s, %s, {", ".join(["%s"] * len(_ROLLED))})
on conflict (deployment_id, hour, stratum) do update
set {", ".join(f"{name} = r.{name} + excluded.{name}" for name in _ROLLED)}
"""  # noqa: S608  # constants
_ADD_DECISIONS = """
insert into gnomon.rollup_labels as r (deployment_id, hour, live_label, shadow_label, pairs, weight, weight_squared)
values (%s, %s, %s, %s, %s, %s, %s)
on conflict (deployment_id, hour, live_label, shadow_label) do update
set pairs = r.pairs + excluded.pairs, weight = r.weight + excluded.weight,
    weight_squared = r.weight_squared + excluded.weight_squared
"""
_ADD_TALLY = f"""
insert into gnomon.producer_tallies as t ({", ".join(TALLY_COLUMNS)})
values ({", ".join(["%s"] * len(TALLY_COLUMNS))})
on conflict (deployment_id, source_partition, producer_id) do update
set received = t.received + excluded.received,
    repeated = t.repeated + excluded.repeated,
    lowest_sequence = least(t.lowest_sequence, excluded.lowest_sequence),
    highest_sequence = greatest(t.highest_sequence, excluded.highest_sequence),
    first_captured_at = least(t.first_captured_at, excluded.first_captured_at),
    last_captured_at = greatest(t.last_captured_at, excluded.last_captured_at)
"""  # noqa: S608  # constants


def _register(connection: Connection, stream: str, deployment: str) -> tuple[int, float, int]:
    """The stream's id and value tolerance and the deployment's id, each made if it is new."""
    with connection.transaction():
        connection.execute("insert into gnomon.streams (name) values (%s) on conflict do nothing", [stream])
        stream_id, tolerance = _one(
            connection, "select stream_id, value_tolerance from gnomon.streams where name = %s", [stream]
        )
        connection.execute(
            "insert into gnomon.deployments (stream_id, name) values (%s, %s) on conflict do nothing",
            [stream_id, deployment],
        )
        (deployment_id,) = _one(
            connection,
            "select deployment_id from gnomon.deployments where stream_id = %s and name = %s",
            [stream_id, deployment],
        )
    return stream_id, tolerance, deployment_id


def _one(connection: Connection, statement: str, arguments: list[Any]) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = connection.execute(statement, arguments).fetchone()
    assert row is not None
    return row


def one_line(error: Exception) -> str:
    """What PostgreSQL says, bounded."""
    return " ".join(str(error).split())[:500]
