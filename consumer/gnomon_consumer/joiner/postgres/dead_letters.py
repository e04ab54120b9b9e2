"""Turn a readable dead letter into a pair, exactly once, however many callers try."""

import psycopg
from psycopg import errors, sql

from gnomon_consumer.joiner.merge.matches import Matches
from gnomon_consumer.joiner.merge.shadow_records import outcomes
from gnomon_consumer.joiner.pairs.assemble import Assembled, LooseMatches, assemble, outcome_of, without_nul
from gnomon_consumer.joiner.pairs.copy_format import COPY, copy_bytes
from gnomon_consumer.joiner.pairs.rollup import Rollup
from gnomon_consumer.joiner.postgres.sink import SQL, DoublePairError, Sink, one_line
from gnomon_consumer.times import moment
from gnomon_schemas.codec import Record
from gnomon_schemas.columnar import ColumnarReader
from gnomon_schemas.records import FailureKind


class LetterSink(Sink):
    """A sink that also accepts single captures at their original coordinates."""

    def replay(self, shadow: Record, window_start: int, cell: str, value: bytes, reader: ColumnarReader) -> str:
        """Turn a dead letter into a pair, in one transaction that only one caller can win.

        Returns `paired`, `gone` if another caller moved it, or `stays: …` with the reason; then nothing is written.
        """
        connection = self._connection
        if shadow["error"] is not None and shadow["error"]["kind"] == FailureKind.DEAD_LETTER:
            return f"stays: {shadow['error']['message']}"
        window = LooseMatches(Matches(outcomes([shadow]), [value], [cell]))
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
            connection.execute(SQL["lock_cohorts"], [self._stream_id])
            taken = connection.execute(SQL["take_dead_letter"], [self.deployment_id, partition, offset]).fetchone()
            if taken is None:
                return "gone"
            self._on_checkpoint("taken")
            with connection.cursor().copy(COPY) as copy:
                copy.write(copy_bytes(without_nul(assembled.batch)))
            connection.execute(
                SQL["mark_replayed"],
                [self.deployment_id, moment(assembled.batch.column("event_time")[0].as_py()), partition, offset],
            )
            begun = connection.execute(
                SQL.template("move_in_cell").format(outcome=sql.Identifier(f"joined_{outcome}")),
                [self.deployment_id, partition, window_start, cell],
            ).fetchone()
            if begun is None:
                raise DoublePairError(f"no cell {cell!r} in the window at {partition}/{window_start}")
            rollup = Rollup()
            rollup.add_pairs(assembled.batch, self._tolerance())
            for name in ("dead_lettered", "sampled"):
                rollup.count((int(begun[0].timestamp()) // 3600, cell), name, -1)
            self._add_rollup(rollup)
        self._on_checkpoint("moved")
        return "paired"
