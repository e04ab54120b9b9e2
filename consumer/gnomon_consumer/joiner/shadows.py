"""The shadow log in batches: outcomes as columns, and of each only what the pairing looks at as a Python value."""

from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from gnomon_schemas.codec import Record
from gnomon_schemas.columnar import ColumnarCodec, ColumnarReader, Decoded
from gnomon_schemas.errors import DecodeError
from gnomon_schemas.schema import record_schema

SHADOW = "gnomon.v1.ShadowPrediction"
_PLAIN = ("source_partition", "source_offset", "window_id", "request_id", "stratum", "inclusion_probability", "rank")

Read = tuple[str, Record] | DecodeError
"""A record's full name and its fields, or why it cannot be read."""


class ShadowRow(dict[str, Any]):
    """The fields of an outcome that the pairing and the ledger use; row `place` of `columns` has all of them."""

    __slots__ = ("columns", "place")
    columns: pa.RecordBatch
    place: int


def read_shadow(reader: ColumnarReader, messages: Sequence[bytes | None]) -> list[Read]:
    """Decode messages of a shadow log, in their order; outcomes become ShadowRows."""
    batches = reader.decode(messages)
    found: dict[int, Read] = dict(batches.errors)
    for group in batches.groups:
        records = _rows(group) if group.schema.name == SHADOW else group.records()
        found.update(zip(group.rows.tolist(), ((group.schema.name, record) for record in records), strict=True))
    return [found[place] for place in range(len(messages))]


def _rows(group: Decoded) -> Iterable[Record]:
    batch = group.batch
    names = (*_PLAIN, "error")
    columns = [batch.column(name).to_pylist() for name in _PLAIN]
    errors = batch.column("error")
    columns.append([None] * len(errors) if errors.null_count == len(errors) else errors.to_pylist())
    for place, values in enumerate(zip(*columns, strict=True)):
        row = ShadowRow(zip(names, values, strict=True))
        row.columns, row.place = batch, place
        yield row


def columns_of(records: Sequence[Record]) -> pa.RecordBatch:
    """Return outcomes as columns, in their order: taken from where they were read, or laid out anew."""
    rows = [record for record in records if isinstance(record, ShadowRow)]
    if len(rows) != len(records) or not rows:
        columns = ColumnarCodec(record_schema("ShadowPrediction")).columns
        return pa.RecordBatch.from_pylist(list(records), schema=columns)
    first: dict[int, int] = {}
    batches: list[pa.RecordBatch] = []
    total = 0
    for row in rows:
        if id(row.columns) not in first:
            first[id(row.columns)] = total
            batches.append(row.columns)
            total += row.columns.num_rows
    places = pa.array([first[id(row.columns)] + row.place for row in rows], pa.int64())
    return pa.concat_batches(batches).take(places)


def part(column: pa.Array, name: str) -> pa.Array:
    """A field of a column of records; null where the record is."""
    return pc.struct_field(column, name)
