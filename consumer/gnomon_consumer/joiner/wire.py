"""Pairs in Arrow as the bytes of PostgreSQL's binary COPY, through pgpq."""

from collections.abc import Iterator

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

_WIRE = pa.schema(
    [
        pa.field(field.name, pa.binary()) if field.name in ("segments", "window_id", "producer_id") else field
        for field in PAIRS
    ]
)


def copy_parts(batch: pa.RecordBatch) -> Iterator[bytes]:
    """The COPY stream of a batch of PAIRS, piece by piece: the server writes one while the next is laid out.

    COPY's binary format carries no type names, so a timestamp travels as the 8-byte integer, and a UUID and a jsonb
    as the bytes, that they are on the wire.
    """
    encoder = pgpq.ArrowToPostgresBinaryEncoder(_WIRE)
    yield encoder.write_header()
    rows = _to_wire(batch)
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
    return pa.RecordBatch.from_arrays([columns[name] for name in _WIRE.names], schema=_WIRE)
