"""Pairs in Arrow as the bytes of PostgreSQL's binary COPY, through pgpq."""

from collections.abc import Iterator

import numpy as np
import pgpq
import pyarrow as pa
import pyarrow.compute as pc

from gnomon_consumer.joiner.assemble import PAIRS

POSTGRES_EPOCH_US = 946_684_800_000_000
"""Microseconds from 1970 to 2000, where PostgreSQL's timestamps begin."""

TIMES = ("event_time", "scored_at")
_PIECE = 1000
"""Rows."""
COPY = f"copy gnomon.pairs ({', '.join(PAIRS.names)}) from stdin (format binary)"
_FLOAT8_OID = 701


def copy_parts(batch: pa.RecordBatch) -> Iterator[bytes]:
    """The COPY stream of a batch of PAIRS, piece by piece: the server writes one while the next is laid out.

    COPY's binary format carries no type names, so a timestamp travels as the 8-byte integer, and a UUID and a jsonb
    as the bytes, that they are on the wire.
    """
    rows = _to_wire(batch)
    encoder = pgpq.ArrowToPostgresBinaryEncoder(rows.schema)
    yield encoder.write_header()
    for at in range(0, rows.num_rows, _PIECE):
        yield encoder.write_batch(rows.slice(at, _PIECE))
    yield encoder.finish()


def copy_bytes(batch: pa.RecordBatch) -> bytes:
    """The whole COPY stream of a batch of PAIRS: header, rows, trailer."""
    return b"".join(copy_parts(batch))


def _to_wire(batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = {name: batch.column(name) for name in PAIRS.names}
    for name in TIMES:
        columns[name] = pc.subtract(columns[name], POSTGRES_EPOCH_US)
    for name in ("window_id", "producer_id"):
        columns[name] = columns[name].cast(pa.binary())
    # A jsonb value begins with the version of its format, 1.
    segments = columns["segments"].cast(pa.binary())
    columns["segments"] = pc.binary_join_element_wise(pa.scalar(b"\x01"), segments, pa.scalar(b""))
    columns["features_numeric"] = _numbers(columns["features_numeric"])
    return pa.RecordBatch.from_pydict(columns)


def _numbers(lists: pa.ListArray) -> pa.Array:
    """`float8[]` as the bytes that they are on the wire, where all have one length and no nulls; else as they are."""
    rows, values = len(lists), lists.flatten()
    width = len(values) // max(1, rows)
    if not width or values.null_count or lists.null_count or (np.diff(lists.offsets) != width).any():
        return lists
    row = np.dtype([("head", ">i4", 5), ("items", [("size", ">i4"), ("value", ">f8")], width)])
    if rows * row.itemsize > np.iinfo(np.int32).max:
        return lists
    made = np.empty(rows, row)
    made["head"] = (1, 0, _FLOAT8_OID, width, 1)  # one dimension, no nulls, from 1 on
    made["items"]["size"] = 8
    made["items"]["value"] = values.to_numpy().reshape(rows, width)
    ends = np.arange(rows + 1, dtype=np.int32) * made.itemsize
    return pa.Array.from_buffers(pa.binary(), rows, [None, pa.py_buffer(ends), pa.py_buffer(made)])
