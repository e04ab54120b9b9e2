"""Frames between the scorer and its workers: a JSON header and a list of byte strings.

Nothing is unpickled: what a worker sends may come from a hostile model.
"""

import json
import struct
from array import array
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from gnomon_consumer.scorer.captures import RowCell, Rows, Texts

_PREFIX = struct.Struct("<II")
MAX_HEADER = 256 * 2**20
MAX_BLOBS = 1_000_000
MAX_ANSWER = 256 * 2**20
"""Maximum bytes of a worker's answer; a larger batch is scored again row by row."""


class WireError(Exception):
    """The other side ended, or sent something that is not a frame."""


def write(stream: BinaryIO, header: dict[str, Any], blobs: Sequence[bytes] = ()) -> None:
    """Send one frame."""
    text = json.dumps(header, separators=(",", ":")).encode()
    lengths = struct.pack(f"<{len(blobs)}I", *map(len, blobs))
    stream.write(b"".join((_PREFIX.pack(len(text), len(blobs)), lengths, text)))
    stream.writelines(blobs)  # each part separately: joining them would copy all of them once more
    stream.flush()


def read(stream: BinaryIO, most: int | None = None) -> tuple[dict[str, Any], list[bytes]]:
    """Receive one frame of at most `most` bytes.

    Raises WireError at the end of the stream, or on anything that is not a frame.
    """
    text_length, count = _PREFIX.unpack(_exactly(stream, _PREFIX.size))
    if text_length > (MAX_HEADER if most is None else most) or count > MAX_BLOBS:
        raise WireError("not a frame: too large")
    lengths = struct.unpack(f"<{count}I", _exactly(stream, 4 * count))
    if most is not None and text_length + sum(lengths) > most:
        raise WireError(f"not a frame: it announces more than {most} bytes")
    try:
        header = json.loads(_exactly(stream, text_length))
    except (ValueError, RecursionError):
        raise WireError("not a frame: not JSON") from None
    if not isinstance(header, dict):
        raise WireError("not a frame: not an object")
    return header, [_exactly(stream, length) for length in lengths]


def packed(rows: Rows) -> list[bytes]:
    """Return rows as blobs: offsets, ranks and cells as numbers, keys and values."""
    numbers = (rows.offsets, rows.ranks, rows.cell_of)
    return [*(one.tobytes() for one in numbers), *joined(rows.keys), *joined(rows.values)]


def unpacked(partition: int, cells: Sequence[Sequence[Any]], blobs: Sequence[bytes]) -> Rows:
    """Return the rows in the blobs of `packed`; the arguments supply what the blobs do not contain."""
    offsets, ranks, cell_of, *texts = blobs
    return Rows(
        partition=partition,
        offsets=np.frombuffer(offsets, np.int64),
        ranks=np.frombuffer(ranks, np.int64),
        cell_of=np.frombuffer(cell_of, np.int32),
        cells=[RowCell(*cell) for cell in cells],
        keys=parted(*texts[:2]),
        values=parted(*texts[2:]),
    )


def joined(texts: Texts) -> tuple[bytes, bytes]:
    """Return byte strings as two blobs: their lengths, and their concatenation."""
    if not isinstance(texts, pa.BinaryArray):
        return array("I", map(len, texts)).tobytes(), b"".join(texts)
    if not len(texts):
        return b"", b""
    _, ends, data = texts.buffers()
    places = np.frombuffer(ends, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    return np.diff(places).astype(np.uint32).tobytes(), data[places[0] : places[-1]]


def parted(lengths: bytes, data: bytes) -> pa.BinaryArray:
    """Return the byte strings that `joined` wrote, as an array without a copy; raise WireError if they do not fit."""
    count, odd = divmod(len(lengths), 4)
    ends = np.zeros(count + 1, np.int64)
    if not odd:
        np.cumsum(np.frombuffer(lengths, np.uint32), out=ends[1:])
    if odd or ends[-1] != len(data) or len(data) >= 2**31:
        raise WireError("not a frame: lengths that do not fit")
    buffers = [None, pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(data)]
    return pa.BinaryArray.from_buffers(pa.binary(), count, buffers)


def taken_apart(batch: pa.RecordBatch) -> tuple[list[int], list[bytes]]:
    """Return which buffers of the columns exist (1, 0), and those buffers."""
    buffers = [one for column in batch.columns for one in pa.concat_arrays([column]).buffers()]
    return [int(one is not None) for one in buffers], [one.to_pybytes() for one in buffers if one is not None]


def put_together(schema: pa.Schema, rows: int, present: Sequence[int], blobs: Sequence[bytes]) -> pa.RecordBatch:
    """Return the columns that `taken_apart` split into buffers; raise WireError if they do not fit this schema.

    The buffers are not trusted: sizes, offsets within them, and UTF-8 are checked.
    """
    found = iter(blobs)
    buffers = iter([pa.py_buffer(next(found, b"")) if one else None for one in present])
    try:
        arrays = [_array(field.type, rows, buffers) for field in schema]
        batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
        batch.validate(full=True)
    except (StopIteration, ValueError, TypeError, OverflowError, pa.ArrowException) as error:
        raise WireError(f"not a frame: columns that do not fit ({error})") from None
    if next(found, None) is not None or next(buffers, None) is not None:
        raise WireError("not a frame: more than the columns")
    return batch


def _array(kind: pa.DataType, rows: int, buffers: Iterator[pa.Buffer | None]) -> pa.Array:
    valid = next(buffers)
    if pa.types.is_struct(kind):
        children = [_array(field.type, rows, buffers) for field in kind.fields]
        return pa.Array.from_buffers(kind, rows, [valid], children=children)
    if pa.types.is_list(kind):
        ends = next(buffers)
        if ends is None or len(ends) < 4 * (rows + 1):
            raise ValueError("a list without its ends")
        length = int(np.frombuffer(ends, np.int32, rows + 1)[-1])
        return pa.Array.from_buffers(kind, rows, [valid, ends], children=[_array(kind.value_type, length, buffers)])
    own = [next(buffers) for _ in range(2 if pa.types.is_string(kind) else 1)]
    # Arrow omits empty buffers; the checks afterwards ensure that the others are long enough.
    return pa.Array.from_buffers(kind, rows, [valid, *(pa.py_buffer(b"") if one is None else one for one in own)])


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise WireError("the other side has ended")
    return data
