"""Pairs in Arrow as the bytes of PostgreSQL's binary COPY, through pgpq."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pgpq
import pyarrow as pa
import pyarrow.compute as pc

from gnomon_consumer.joiner.pairs.assemble import PAIRS

POSTGRES_EPOCH_US = 946_684_800_000_000
"""Microseconds from 1970 to 2000, where PostgreSQL's timestamps begin."""

TIMES = ("event_time", "scored_at")
_PIECE = 1000
"""Rows."""
COPY = f"copy gnomon.pairs ({', '.join(PAIRS.names)}) from stdin (format binary)"
_FLOAT8_OID, _TEXT_OID = 701, 25
_HEAD_BYTES = 20
_MOST_BYTES = np.iinfo(np.int32).max


def copy_parts(batch: pa.RecordBatch) -> Iterator[bytes]:
    """Yield the COPY stream of a batch of PAIRS in pieces: the server writes one while the next is encoded.

    COPY's binary format carries no type names, so a timestamp is sent as its 8-byte integer, a UUID and a jsonb as
    their bytes on the wire.
    """
    rows = _to_wire(batch)
    encoder = pgpq.ArrowToPostgresBinaryEncoder(rows.schema)
    yield encoder.write_header()
    for at in range(0, rows.num_rows, _PIECE):
        yield encoder.write_batch(rows.slice(at, _PIECE))
    yield encoder.finish()


def copy_bytes(batch: pa.RecordBatch) -> bytes:
    """Return the whole COPY stream of a batch of PAIRS: header, rows, trailer."""
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
    columns["features_text"] = _texts(columns["features_text"])
    return pa.RecordBatch.from_pydict(columns)


def _numbers(lists: pa.ListArray) -> pa.Array:
    """Return `float8[]` in wire format if all have one length and no nulls; otherwise return them unchanged."""
    values, width = lists.flatten(), _width(lists)
    if not width or values.null_count:
        return lists
    row = np.dtype([("head", ">i4", 5), ("items", [("size", ">i4"), ("value", ">f8")], width)])
    if len(lists) * row.itemsize > _MOST_BYTES:
        return lists
    made = np.empty(len(lists), row)
    made["head"] = (1, 0, _FLOAT8_OID, width, 1)  # one dimension, no nulls, lower bound 1
    made["items"]["size"] = 8
    made["items"]["value"] = values.to_numpy().reshape(-1, width)
    return _cut(np.arange(len(lists) + 1) * made.itemsize, pa.py_buffer(made))


def _texts(lists: pa.ListArray) -> pa.Array:
    """Return `text[]` in wire format if all have one length; otherwise return them unchanged."""
    values, width = lists.flatten().cast(pa.binary()), _width(lists)
    if not width or values.nbytes + (_HEAD_BYTES + 4 * width) * len(lists) > _MOST_BYTES:
        return lists
    sizes = pc.fill_null(pc.binary_length(values), -1).to_numpy().astype(">i4")
    sized = _cut(np.arange(len(values) + 1) * 4, pa.py_buffer(sizes))
    empty = pa.scalar(b"")
    items = pc.binary_join_element_wise(sized, values, empty, null_handling="replace", null_replacement=b"")
    _, ends, data = items.buffers()
    rows = _cut(np.frombuffer(ends, np.int32)[: len(values) + 1 : width], data)
    heads = pa.array([np.array([1, flag, _TEXT_OID, width, 1], ">i4").tobytes() for flag in (0, 1)])
    gaps = values.is_null().to_numpy(zero_copy_only=False).reshape(-1, width).any(axis=1)
    return pc.binary_join_element_wise(heads.take(pa.array(gaps.astype(np.int8))), rows, empty)


def _width(lists: pa.ListArray) -> int:
    """Return the common length of some lists; 0 if they differ, or some are null."""
    width = int(lists.value_lengths()[0].as_py() or 0) if len(lists) else 0
    return 0 if lists.null_count or (np.diff(lists.offsets) != width).any() else width


def _cut(ends: np.ndarray[Any, Any], data: pa.Buffer) -> pa.BinaryArray:
    """Return consecutive byte strings as an array; `ends` are the beginning of each, and the end of the last."""
    return pa.Array.from_buffers(pa.binary(), len(ends) - 1, [None, pa.py_buffer(ends.astype(np.int32)), data])
