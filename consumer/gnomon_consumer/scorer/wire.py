"""Frames between the scorer and its workers: a JSON header and a list of byte strings.

Nothing is unpickled: what a worker sends may come from a hostile model.
"""

import json
import struct
from array import array
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from gnomon_consumer.scorer.rows import Rows, Texts

_PREFIX = struct.Struct("<II")
MAX_HEADER = 256 * 2**20
MAX_BLOBS = 1_000_000


class WireError(Exception):
    """The other side ended, or sent what is no frame."""


def write(stream: BinaryIO, header: dict[str, Any], blobs: Sequence[bytes] = ()) -> None:
    """Send one frame."""
    text = json.dumps(header, separators=(",", ":")).encode()
    lengths = struct.pack(f"<{len(blobs)}I", *map(len, blobs))
    stream.write(b"".join((_PREFIX.pack(len(text), len(blobs)), lengths, text)))
    stream.writelines(blobs)  # each as it is: joined they would all be copied once more
    stream.flush()


def read(stream: BinaryIO) -> tuple[dict[str, Any], list[bytes]]:
    """Receive one frame; raises WireError at the end of the stream or on anything that is no frame."""
    text_length, count = _PREFIX.unpack(_exactly(stream, _PREFIX.size))
    if text_length > MAX_HEADER or count > MAX_BLOBS:
        raise WireError("not a frame: too large")
    lengths = struct.unpack(f"<{count}I", _exactly(stream, 4 * count))
    try:
        header = json.loads(_exactly(stream, text_length))
    except ValueError:
        raise WireError("not a frame: no JSON") from None
    if not isinstance(header, dict):
        raise WireError("not a frame: no object")
    return header, [_exactly(stream, length) for length in lengths]


def packed(rows: Rows) -> list[bytes]:
    """Rows as blobs: offsets, ranks and cells as numbers, keys and values."""
    numbers = (rows.offsets, rows.ranks, rows.cell_of)
    return [*(one.tobytes() for one in numbers), *joined(rows.keys), *joined(rows.values)]


def unpacked(partition: int, cells: Sequence[tuple[str | None, float]], blobs: Sequence[bytes]) -> Rows:
    """The rows that `packed` made blobs of; what is not in the blobs is given beside them."""
    offsets, ranks, cell_of, *texts = blobs
    return Rows(
        partition,
        np.frombuffer(offsets, np.int64),
        np.frombuffer(ranks, np.int64),
        np.frombuffer(cell_of, np.int32),
        cells,
        parted(*texts[:2]),
        parted(*texts[2:]),
    )


def joined(texts: Texts) -> tuple[bytes, bytes]:
    """Byte strings as two: their lengths, and one after the other."""
    if not isinstance(texts, pa.BinaryArray):
        return array("I", map(len, texts)).tobytes(), b"".join(texts)
    if not len(texts):
        return b"", b""
    _, ends, data = texts.buffers()
    places = np.frombuffer(ends, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    return np.diff(places).astype(np.uint32).tobytes(), data[places[0] : places[-1]]


def parted(lengths: bytes, data: bytes) -> pa.BinaryArray:
    """What `joined` has joined, as an array without a copy; raises WireError where the two do not fit."""
    count, odd = divmod(len(lengths), 4)
    ends = np.zeros(count + 1, np.int64)
    if not odd:
        np.cumsum(np.frombuffer(lengths, np.uint32), out=ends[1:])
    if odd or ends[-1] != len(data) or len(data) >= 2**31:
        raise WireError("not a frame: lengths that do not fit")
    buffers = [None, pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(data)]
    return pa.BinaryArray.from_buffers(pa.binary(), count, buffers)


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise WireError("the other side has ended")
    return data
