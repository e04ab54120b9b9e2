"""Frames between the scorer and its workers: a JSON header and a list of byte strings.

Nothing is unpickled: what a worker sends may come from a hostile model.
"""

import itertools
import json
import struct
from array import array
from collections.abc import Sequence
from typing import Any, BinaryIO

from gnomon_consumer.scorer.outcomes import Row

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


def packed(rows: Sequence[Row]) -> list[bytes]:
    """Rows as blobs: offsets, ranks and probabilities as numbers of 8 bytes, then the keys, then the values."""
    numbers = (
        array("q", [row.offset for row in rows]),
        array("q", [row.rank for row in rows]),
        array("d", [row.inclusion_probability for row in rows]),
    )
    return [*(one.tobytes() for one in numbers), *(row.key for row in rows), *(row.value for row in rows)]


def unpacked(partition: int, strata: Sequence[str | None], blobs: Sequence[bytes]) -> list[Row]:
    """The rows that `packed` made blobs of; what is not in the blobs is given beside them."""
    count = len(strata)
    offsets, ranks, probabilities = array("q", blobs[0]), array("q", blobs[1]), array("d", blobs[2])
    keys, values = blobs[3 : 3 + count], blobs[3 + count :]
    return [Row(partition, *row) for row in zip(offsets, keys, values, strata, ranks, probabilities, strict=True)]


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise WireError("the other side has ended")
    return data
