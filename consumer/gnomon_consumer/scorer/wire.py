"""Frames between the scorer and its workers: a JSON header and a list of byte strings.

Nothing is unpickled: what a worker sends may come from a hostile model.
"""

import json
import struct
from collections.abc import Sequence
from typing import Any, BinaryIO

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
    return header, [_exactly(stream, length) for length in lengths]


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise WireError("the other side has ended")
    return data
