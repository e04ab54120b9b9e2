"""A dead letter that became readable moves among the pairs, once, whoever tries."""

import psycopg
from psycopg import errors

from gnomon_consumer.joiner.assemble import Assembled, assemble, outcome_of
from gnomon_consumer.joiner.ledger import moment
from gnomon_consumer.joiner.matches import Matches
from gnomon_consumer.joiner.rollup import Rollup
from gnomon_consumer.joiner.shadows import outcomes
from gnomon_consumer.joiner.sink import DoublePairError, Sink, one_line
from gnomon_consumer.joiner.window import JoinedWindow
from gnomon_consumer.joiner.wire import COPY, copy_bytes
from gnomon_schemas.codec import Record
from gnomon_schemas.columnar import ColumnarReader
from gnomon_schemas.records import FailureKind


class LetterSink(Sink):
    """A sink that also takes single captures at their original coordinates."""

    def replay(self, shadow: Record, window_start: int, cell: str, value: bytes, reader: ColumnarReader) -> str:
        """Move a dead letter among the pairs, in one transaction that only one caller can win.

        Returns `paired`, `gone` when somebody else moved it, or `stays: …` with the reason; nothing is written then.
        """
        connection = self._connection
        if shadow["error"] is not None and shadow["error"]["kind"] == FailureKind.DEAD_LETTER:
            return f"stays: {shadow['error']['message']}"
        window = JoinedWindow({}, 0, matches=Matches(outcomes([shadow]), [value], [cell]))
        assembled = assemble(
            self.deployment_id, [window], reader, lambda schema: self._features.layout(connection, schema)
        )
        if assembled.refusals:
            return f"stays: {assembled.refusals[0][1].reason}: {assembled.refusals[0][1].detail}"
        self._days.ensure(assembled.batch)
        try:
            return self._move(shadow, window_start, cell, assembled)
        except (psycopg.DataError, errors.CheckViolation) as error:
            return f"stays: refused: {one_line(error)}"

    def _move(self, shadow: Record, window_start: int, cell: str, assembled: Assembled) -> str:
        connection = self._connection
        partition, offset = shadow["source_partition"], shadow["source_offset"]
        outcome = outcome_of(shadow)
        with connection.transaction():
            connection.execute("select gnomon.lock_cohorts(%s)", [self._stream_id])
            taken = connection.execute(
                "delete from gnomon.dead_letters where deployment_id = %s and source_partition = %s"
                " and source_offset = %s returning true",
                [self.deployment_id, partition, offset],
            ).fetchone()
            if taken is None:
                return "gone"
            self._at("taken")
            with connection.cursor().copy(COPY) as copy:
                copy.write(copy_bytes(assembled.batch))
            connection.execute(
                "update gnomon.pairs set replayed = true where deployment_id = %s and event_time = %s"
                " and source_partition = %s and source_offset = %s",
                [self.deployment_id, moment(assembled.batch.column("event_time")[0].as_py()), partition, offset],
            )
            begun = connection.execute(
                f"with moved as (update gnomon.cells set joined_{outcome} = joined_{outcome} + 1,"  # noqa: S608  # one of three
                " joined_dead_lettered = joined_dead_lettered - 1 where deployment_id = %s and source_partition = %s"
                " and start_offset = %s and stratum = %s returning deployment_id, source_partition, start_offset)"
                " select coalesce(w.first_captured_at, w.opened_at) from moved join gnomon.windows w"
                " using (deployment_id, source_partition, start_offset)",
                [self.deployment_id, partition, window_start, cell],
            ).fetchone()
            if begun is None:
                raise DoublePairError(f"no cell {cell!r} in the window at {partition}/{window_start}")
            rollup = Rollup()
            rollup.add(assembled.batch, self._tolerance)
            for name in ("dead_lettered", "sampled"):
                rollup.count((int(begun[0].timestamp()) // 3600, cell), name, -1)
            self._add_rollup(rollup)
        self._at("moved")
        return "paired"
