"""Write windows to PostgreSQL, whole or not at all: first the progress, by compare-and-set, then its rows."""

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
from psycopg import errors, sql

from gnomon_consumer.database.connections import Connection
from gnomon_consumer.database.queries import queries_of
from gnomon_consumer.joiner.merge.identity import IDENTITY, JoinProgress, check_identity, identity_of
from gnomon_consumer.joiner.merge.matches import Refusal
from gnomon_consumer.joiner.merge.window import JoinedWindow
from gnomon_consumer.joiner.pairs.assemble import Assembled, assemble, without_nul
from gnomon_consumer.joiner.pairs.copy_format import COPY, copy_parts
from gnomon_consumer.joiner.pairs.feature_layout import Layout
from gnomon_consumer.joiner.pairs.ledger_rows import (
    CELL_COLUMNS,
    LETTER_COLUMNS,
    WINDOW_COLUMNS,
    cell_rows,
    letter_row,
    place,
    recount,
    tally_columns,
    window_row,
)
from gnomon_consumer.joiner.pairs.rollup import COUNTS, SUMS, Rollup, Tolerance
from gnomon_consumer.joiner.postgres.copy_stream import Steps, copy_statement, copying, give_room
from gnomon_consumer.joiner.postgres.day_partitions import DayPartitions
from gnomon_consumer.joiner.postgres.feature_columns import FeatureColumns
from gnomon_consumer.times import HOUR_US, moment
from gnomon_schemas.arrays import Integers
from gnomon_schemas.columnar import ColumnarReader
from gnomon_schemas.errors import GnomonError
from gnomon_schemas.records import DeploymentStart
from gnomon_schemas.schema import Schema

SQL = queries_of(__package__)


class ProgressMovedError(GnomonError):
    """Another joiner moved this partition's progress; what was about to be written is dropped."""

    def __init__(self, partition: int) -> None:
        super().__init__(f"another joiner moved partition {partition}")
        self.partition = partition


class DoublePairError(GnomonError):
    """A pair is in the database although progress says that it is not: a bug, or a change by hand."""


class Sink:
    """Writes the windows of one deployment. Tests interrupt through `on_checkpoint`.

    Every `push` continues the current write. It owns the connection until it is done: all other statements finish it
    first.
    """

    def __init__(
        self,
        connection: Connection,
        stream: str,
        deployment: str,
        on_checkpoint: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._connection = connection
        self._on_checkpoint = on_checkpoint
        connection.autocommit = True
        give_room(connection)
        self._stream_id, self.deployment_id = _register(connection, stream, deployment)
        self._features = FeatureColumns(self._stream_id)
        self._days = DayPartitions(connection, self._stream_id)
        self._writing: Steps | None = None
        self._written: list[tuple[Sequence[JoinedWindow], int]] = []

    def declare_replay(self, since: datetime, until: datetime) -> None:
        """Declare the past period that this stream replays, so that its event times get table partitions."""
        self._connection.execute(SQL["declare_replay"], [since, until, self._stream_id])

    def progress(self, partitions: Sequence[int]) -> dict[int, JoinProgress]:
        """Return the stored progress, by partition."""
        self.finish_write()
        rows = self._connection.execute(SQL["progress"], [self.deployment_id, list(partitions)])
        return {row[0]: JoinProgress(row[1], row[2], dict(zip(IDENTITY, row[3:], strict=True))) for row in rows}

    def begin(self, partition: int, start: DeploymentStart, shadow_offset: int) -> None:
        """Store the beginning of a partition; raise IdentityError if another one is stored."""
        self.finish_write()
        found = identity_of(start)
        identity = [found[name] for name in IDENTITY]
        model = start.model
        with self._connection.transaction():
            self._connection.execute(
                SQL["begin_partition"],
                [self.deployment_id, partition, *identity, start.start_offset, shadow_offset + 1],
            )
            self._connection.execute(
                SQL["describe_deployment"], [start.role, model.name, model.version, model.sha256, self.deployment_id]
            )
        check_identity(partition, self.progress([partition])[partition].identity, found)

    def caught_up(self, partitions: Sequence[int]) -> None:
        """Record that nothing is left to join in these partitions for now."""
        self.finish_write()
        self._connection.execute(SQL["caught_up"], [self.deployment_id, list(partitions)])

    def apply(self, windows: Sequence[JoinedWindow], reader: ColumnarReader) -> int:
        """Write windows and wait for the commit; return the number of pairs. Raises like `start` and `finish_write`."""
        self.start(windows, self.assembled(windows, reader))
        self.finish_write()
        return self.written()[-1][1]

    def assembled(self, windows: Sequence[JoinedWindow], reader: ColumnarReader) -> Assembled:
        """Return the pairs of some windows; this waits for the current write only if a schema is new."""
        return assemble(self.deployment_id, windows, reader, self._layout)

    def start(self, windows: Sequence[JoinedWindow], assembled: Assembled) -> None:
        """Begin to write windows, each partition's in order, in one transaction, after the current write.

        Raises ProgressMovedError if another joiner moved the progress: then nothing of `windows` is written. A row that
        PostgreSQL refuses becomes a dead letter.
        """
        self.finish_write()
        outside = self._days.ensure(assembled.batch)
        self._writing = self._write(windows, assembled, outside)
        self.push()

    @property
    def busy(self) -> bool:
        """Return whether a write is running."""
        return self._writing is not None

    def push(self) -> int:
        """Continue the write until it would have to wait for PostgreSQL; return the events to wait for.

        Raises DoublePairError for a bug, and psycopg's errors if the database is unreachable: then nothing is written.
        """
        writing, self._writing = self._writing, None
        events = 0 if writing is None else next(writing, 0)
        if events:
            self._writing = writing
        return events

    def finish_write(self, seconds: float | None = None) -> bool:
        """Wait for the write, at most this long; return whether it is done. Raises like `push`."""
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
        """Return the windows committed since the last call, with their number of pairs."""
        written, self._written = self._written, []
        return written

    def close(self) -> None:
        """Close the connection; a running transaction is rolled back."""
        self._connection.close()
        self._writing = None

    def _layout(self, schema: Schema) -> Layout:
        if not self._features.knows(schema):
            self.finish_write()
        return self._features.layout(self._connection, schema)

    def _write(self, windows: Sequence[JoinedWindow], assembled: Assembled, outside: Counter[int]) -> Steps:
        with self._connection.transaction():
            self._move_progress(windows, outside)
            kept, refusals = yield from self._copy_pairs(assembled)
            self._on_checkpoint("copied")
            self._write_ledger(windows, assembled, kept, refusals)
            self._on_checkpoint("written")
        self._on_checkpoint("committed")
        self._written.append((windows, len(kept)))

    def _move_progress(self, windows: Sequence[JoinedWindow], outside: Counter[int]) -> None:
        for partition, group in groupby(sorted(windows, key=place), key=lambda window: window.seal.source_partition):
            own = list(group)
            moved = self._connection.execute(
                SQL["move_progress"],
                [
                    own[-1].seal.end_offset,
                    own[-1].shadow_offset + 1,
                    max((moment(at) for w in own if (at := w.seal.last_captured_at) is not None), default=None),
                    outside[partition],
                    self.deployment_id,
                    partition,
                    own[0].seal.start_offset,
                ],
            )
            if moved.rowcount != 1:
                raise ProgressMovedError(partition)

    def _copy_pairs(self, assembled: Assembled) -> Generator[int, None, tuple[Integers, list[tuple[int, Refusal]]]]:
        """Copy the batch; halve a refused batch until the refused rows are isolated.

        NUL is the only character that PostgreSQL cannot store; it is searched for only after a refusal.

        Returns the indices of the written rows, and the refusals, including those of the assembly.
        """
        kept = [np.empty(0, np.int64)]
        refusals = list(assembled.refusals)
        batch = assembled.batch
        todo = [(0, batch.num_rows)] if batch.num_rows else []
        while todo:
            start, end = todo.pop()
            try:
                with self._connection.transaction():
                    parts = copy_parts(batch.slice(start, end - start))
                    yield from copying(self._connection.cursor(), COPY, parts)
            except errors.UniqueViolation as error:
                raise DoublePairError(f"a pair would be written twice: {one_line(error)}") from error
            except (psycopg.DataError, errors.NotNullViolation, errors.CheckViolation, pa.ArrowException) as error:
                if (cleaned := without_nul(batch)) is not batch:
                    batch = cleaned
                    todo.append((start, end))
                elif end - start == 1:
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
        kept: Integers,
        refusals: list[tuple[int, Refusal]],
    ) -> None:
        counted, rollup = recount(windows, assembled, kept, refusals, self._tolerance())
        self._copy("windows", WINDOW_COLUMNS, (window_row(self.deployment_id, window) for window in windows))
        self._copy("cells", CELL_COLUMNS, cell_rows(self.deployment_id, windows, counted))
        self._copy(
            "dead_letters",
            LETTER_COLUMNS,
            (letter_row(self.deployment_id, windows[at], letter) for at, letter in refusals),
        )
        self._add_rollup(rollup)
        if tallies := tally_columns(windows):
            self._connection.execute(SQL["add_tallies"], [self.deployment_id, *tallies])

    def _tolerance(self) -> Tolerance:
        """Return the tolerance, locked until the transaction ends: a change of it recounts the rollups."""
        return Tolerance(*_one(self._connection, SQL["tolerance"], [self._stream_id]))

    def _copy(self, table: str, columns: Sequence[str], rows: Iterator[tuple[Any, ...]]) -> None:
        with self._connection.cursor().copy(copy_statement(table, tuple(columns))) as copy:
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
            SQL["add_decisions"],
            [
                (self.deployment_id, moment(hour * HOUR_US), *labels, *numbers)
                for (hour, *labels), numbers in rollup.decisions()
            ],
        )


_ROLLED = (*COUNTS, *SUMS)
_ADD_ROLLUP = (
    SQL.template("add_rollup")
    .format(
        columns=sql.SQL(", ").join(map(sql.Identifier, _ROLLED)),
        values=sql.SQL(", ").join([sql.Placeholder()] * len(_ROLLED)),
        added=sql.SQL(", ").join(
            sql.SQL("{0} = r.{0} + excluded.{0}").format(sql.Identifier(name)) for name in _ROLLED
        ),
    )
    .as_bytes()
)


def _register(connection: Connection, stream: str, deployment: str) -> tuple[int, int]:
    """Return the stream's id and the deployment's id; create each if it is new."""
    with connection.transaction():
        connection.execute(SQL["new_stream"], [stream])
        (stream_id,) = _one(connection, SQL["stream_id"], [stream])
        connection.execute(SQL["new_deployment"], [stream_id, deployment])
        (deployment_id,) = _one(connection, SQL["deployment_id"], [stream_id, deployment])
    return stream_id, deployment_id


def _one(connection: Connection, statement: bytes, arguments: list[Any]) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = connection.execute(statement, arguments).fetchone()
    assert row is not None
    return row


def one_line(error: Exception) -> str:
    """Return PostgreSQL's message, shortened."""
    return " ".join(str(error).split())[:500]
