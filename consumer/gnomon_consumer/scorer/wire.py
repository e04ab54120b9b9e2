"""Frames between the scorer and its workers: a JSON header and a list of byte strings.

Nothing is unpickled: what a worker sends may come from a hostile model.
"""

import itertools
import json
import struct
from array import array
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np

from gnomon_consumer.scorer.rows import Rows

_PREFIX = struct.Struct("<II")
MAX_HEADER = 256 * 2**20
MAX_BLOBS = 1_000_000


class WireError(Exception):
    """The other side ended, or sent what is no frame."""


def write(stream: BinaryIO, header: dict[str, Any], blobs: Sequence[bytes] = ()) -> None:
    """Send one frame."""
    text = json.dumps(header, separators=(",", ":")).encode()
    lengths = struct.pack(f"<{len(blobs)}I", *map(len, blobs))
    stream.write(b"".join((_PREFIX.pack(len(text), len(blobs)), lengths, text, *blobs)))
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
    data = _exactly(stream, sum(lengths))
    ends = itertools.accumulate(lengths)
    return header, [data[end - length : end] for end, length in zip(ends, lengths, strict=True)]


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


def joined(texts: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Byte strings as two: their lengths, and one after the other."""
    return array("I", map(len, texts)).tobytes(), b"".join(texts)


def parted(lengths: bytes, data: bytes) -> list[bytes]:
    """What `joined` has joined; raises WireError where the two do not fit."""
    ends = np.cumsum(np.frombuffer(lengths, np.uint32), dtype=np.int64).tolist() if len(lengths) % 4 == 0 else None
    if ends is None or (ends[-1] if ends else 0) != len(data):
        raise WireError("not a frame: lengths that do not fit")
    return [data[start:end] for start, end in itertools.pairwise([0, *ends])]


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise WireError("the other side has ended")
    return data
