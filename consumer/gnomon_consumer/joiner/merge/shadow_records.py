"""The shadow log in batches: outcomes stay columns; only the few other records become Python values."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from gnomon_schemas.arrays import Integers
from gnomon_schemas.codec import Record
from gnomon_schemas.columnar import ColumnarCodec, ColumnarReader
from gnomon_schemas.errors import DecodeError
from gnomon_schemas.schema import record_schema

SHADOW = "gnomon.v1.ShadowPrediction"
COLUMNS = ColumnarCodec(record_schema("ShadowPrediction")).columns
"""The columns of a batch of outcomes."""
_PLAIN = ("source_partition", "source_offset", "request_id", "stratum", "inclusion_probability", "rank", "error")

Read = tuple[str, Record] | DecodeError
"""A record's full name and its fields, or the reason why it cannot be read."""


class ShadowBatch(NamedTuple):
    """Messages of a shadow log: message i is row `row_of[i]` of `outcomes`, or (row -1) is in `others`."""

    outcomes: pa.RecordBatch
    row_of: Integers
    others: dict[int, Read]


class ShadowRun(NamedTuple):
    """Messages of one partition of a shadow log: the message at `offsets[i]` is message `places[i]` of `batch`."""

    offsets: Integers
    places: Integers
    batch: ShadowBatch

    def since(self, offset: int) -> "ShadowRun":
        """Drop messages below `offset` and repeated messages."""
        if not len(self.offsets):
            return self
        reached = np.maximum.accumulate(np.append(offset - 1, self.offsets[:-1]))
        fresh = self.offsets > reached
        return self if fresh.all() else ShadowRun(self.offsets[fresh], self.places[fresh], self.batch)

    def parts(self, others: int) -> Iterator["ShadowRun"]:
        """Yield the run in parts, each with at most this many records that are no outcomes."""
        ends = np.flatnonzero(self.batch.row_of[self.places] < 0)[others - 1 :: others] + 1
        for first, end in pairwise((0, *ends.tolist(), len(self.offsets))):
            if first < end:
                yield ShadowRun(self.offsets[first:end], self.places[first:end], self.batch)

    def pieces(self) -> Iterator[tuple[Integers, pa.RecordBatch | Read]]:
        """Yield runs of outcomes, and other records one by one, in order, each with its offsets."""
        rows = self.batch.row_of[self.places]
        at = 0
        for other in (*np.flatnonzero(rows < 0).tolist(), len(rows)):
            if at < other:
                yield self.offsets[at:other], chosen(self.batch.outcomes, rows[at:other])
            if other < len(rows):
                yield self.offsets[other : other + 1], self.batch.others[int(self.places[other])]
            at = other + 1


def read_shadow(reader: ColumnarReader, messages: Sequence[bytes | None]) -> ShadowBatch:
    """Decode messages of a shadow log."""
    batches = reader.decode(messages)
    row_of = np.full(len(messages), -1)
    others: dict[int, Read] = dict(batches.errors)
    found: list[pa.RecordBatch] = []
    count = 0
    for group in batches.groups:
        if group.schema.name == SHADOW:
            row_of[group.rows] = np.arange(count, count + len(group.rows))
            count += len(group.rows)
            found.append(_of_now(group.batch))
        else:
            records = ((group.schema.name, record) for record in group.records())
            others.update(zip(group.rows.tolist(), records, strict=True))
    return ShadowBatch(together(found), row_of, others)


def _of_now(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return outcomes with the current columns; a column that an earlier version did not write is null."""
    columns = [
        batch.column(field.name).cast(field.type)
        if field.name in batch.schema.names
        else pa.nulls(batch.num_rows, field.type)
        for field in COLUMNS
    ]
    return pa.RecordBatch.from_arrays(columns, schema=COLUMNS)


def with_approximate_probe(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Give a probability to be in the probe to the outcomes of a window that an earlier version wrote.

    Its probe was the lowest ranks over all cells. As probability this uses the share of the window's rows that were
    scored one at a time, which is exact only if the window had one cell.
    """
    single = pc.and_(pc.equal(rows.column("batch_size"), 1), pc.is_null(rows.column("error")))
    count = pc.sum(single).as_py() or 0
    if not count:
        return rows
    probability = pc.multiply(rows.column("inclusion_probability"), count / rows.num_rows)
    at = rows.schema.get_field_index("probe_probability")
    return rows.set_column(at, rows.schema.field(at), pc.if_else(single, probability, None))


def outcomes(records: Sequence[Record]) -> pa.RecordBatch:
    """Return outcomes that are Python values as columns."""
    return pa.RecordBatch.from_pylist(list(records), schema=COLUMNS)


NONE = pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in COLUMNS], schema=COLUMNS)
"""An empty batch of outcomes."""


def together(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """Return batches of outcomes as one batch, empty if there are none."""
    if len(batches) == 1:
        return batches[0]
    return pa.concat_batches(batches) if batches else NONE


def chosen(batch: pa.RecordBatch, rows: Integers) -> pa.RecordBatch:
    """Return some rows of a batch in the given order; without a copy if they are consecutive."""
    if len(rows) and (np.diff(rows) == 1).all():
        return batch.slice(int(rows[0]), len(rows))
    return batch.take(pa.array(rows))


def plain(batch: pa.RecordBatch, rows: Integers) -> list[Record]:
    """Return the ledger's fields of outcomes that are not pairs, as Python values."""
    if not len(rows):
        return []
    found: list[Record] = batch.select(_PLAIN).take(pa.array(rows)).to_pylist()
    return found


def numbers(batch: pa.RecordBatch, name: str) -> npt.NDArray[Any]:
    """Return a column without nulls as an array."""
    column: npt.NDArray[Any] = batch.column(name).to_numpy()
    return column


def different(*columns: pa.Array) -> tuple[list[tuple[Any, ...]], Integers]:
    """Return the different rows of some columns without nulls, and which of them each row is."""
    keys: list[tuple[Any, ...]] = [()]
    key_of = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        coded = column.dictionary_encode()
        values = coded.dictionary.to_pylist()
        if len(keys) == 1:
            keys, key_of = [(*keys[0], value) for value in values], coded.indices.to_numpy().astype(np.int64)
            continue
        pairs = pa.array(key_of * len(values) + coded.indices.to_numpy()).dictionary_encode()
        keys = [(*keys[at // len(values)], values[at % len(values)]) for at in pairs.dictionary.to_pylist()]
        key_of = pairs.indices.to_numpy().astype(np.int64)
    return keys, key_of


def part(column: pa.Array, name: str) -> pa.Array:
    """Return a field of a column of records; null if the record is null."""
    return pc.struct_field(column, name)
