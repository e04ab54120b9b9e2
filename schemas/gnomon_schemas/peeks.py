"""The first three fields of many captures at once: what `codec.peek` reads of one, without a step of Python for each.

Needs the `[consumer]` extra (NumPy, pyarrow); nothing that the hook imports imports this module.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from gnomon_schemas.codec import Peek, peek
from gnomon_schemas.errors import DecodeError
from gnomon_schemas.framing import MAX_MESSAGE_BYTES, unframe

Numbers = npt.NDArray[np.int64]
_UUID = 36
_LONG = 9
"""Bytes of a number below 2**62; a longer one is read by itself."""
_LEAST = 8
"""Messages that are worth the columns."""


class Peeks(NamedTuple):
    """What could be read: row i stood at `places[i]`, its producer is `producers[producer_of[i]]`."""

    places: Numbers
    producers: list[str]
    producer_of: Numbers
    sequences: Numbers
    captured_at: Numbers


def peeks(messages: Sequence[bytes | None], length: int = _UUID) -> Peeks:
    """Return what `peek` reads of those whose producer id has `length` characters and whose numbers fit 64 bits.

    Messages that begin alike, as those of one schema do, are read together, all others one by one.
    """
    together = _together(messages, length) if len(messages) >= _LEAST else None
    places = np.empty(0, np.int64) if together is None else together.places
    alone = np.ones(len(messages), np.bool_)
    alone[places] = False
    others = [(place, _one(messages[place], length)) for place in np.flatnonzero(alone).tolist()]
    found = [(place, one) for place, one in others if one is not None]
    if together is not None and not found:
        return together
    producers = [] if together is None else list(together.producers)
    known = {name: at for at, name in enumerate(producers)}
    for _, one in found:
        known.setdefault(one.producer_id, len(known))
    few = [
        [place for place, _ in found],
        [known[one.producer_id] for _, one in found],
        [one.sequence for _, one in found],
        [one.captured_at for _, one in found],
    ]
    columns = [np.array(column, np.int64) for column in few]
    if together is not None:
        many = (together.places, together.producer_of, together.sequences, together.captured_at)
        columns = [np.concatenate(pair) for pair in zip(many, columns, strict=True)]
    order = np.argsort(columns[0])
    places, producer_of, sequences, captured_at = (column[order] for column in columns)
    return Peeks(places, list(known), producer_of, sequences, captured_at)


def _one(message: bytes | None, length: int) -> Peek | None:
    try:
        one = peek(message)
    except DecodeError:
        return None
    fits = -(2**63) <= one.sequence < 2**63 and -(2**63) <= one.captured_at < 2**63
    return one if fits and len(one.producer_id) == length else None


def _together(messages: Sequence[bytes | None], length: int) -> Peeks | None:
    """Those that have the first one's header, an ASCII producer id of `length`, and no number of over _LONG bytes."""
    try:
        start = unframe(messages[0]).body_start
    except DecodeError:
        return None
    # The length of the id takes one byte up to 63 characters.
    width = start + 1 + length + 2 * (_LONG + 1)
    texts = pa.array(messages, pa.binary())
    sizes = pc.fill_null(pc.binary_length(texts), 0).to_numpy(zero_copy_only=False)
    whole = np.flatnonzero((sizes >= width) & (sizes <= MAX_MESSAGE_BYTES))
    if not len(whole):
        return None
    heads = pc.binary_slice(texts if len(whole) == len(texts) else texts.take(pa.array(whole)), 0, width)
    table = np.frombuffer(heads.buffers()[2], np.uint8)[: len(whole) * width].reshape(-1, width)
    first = start + 1
    ids = table[:, first : first + length]
    header = np.frombuffer(messages[0][:start], np.uint8)  # type: ignore[index]  # unframed, so none is None
    fits = (table[:, :start] == header).all(axis=1) & (table[:, start] == 2 * length)
    fits &= ((ids > 0) & (ids < 0x80)).all(axis=1)
    at = np.full(len(whole), first + length)
    sequences, at, short = _longs(table, at)
    fits &= short
    captured_at, at, short = _longs(table, at)
    fits &= short
    here = np.flatnonzero(fits)
    if not len(here):
        return None
    names = np.ascontiguousarray(ids[here]).view(f"S{length}").reshape(-1)
    if (names == names[0]).all():
        unique, producer_of = names[:1], np.zeros(len(here), np.int64)
    else:
        unique, producer_of = np.unique(names, return_inverse=True)
    producers = [name.decode() for name in unique.tolist()]
    return Peeks(whole[here], producers, producer_of.astype(np.int64), sequences[here], captured_at[here])


def _longs(table: npt.NDArray[np.uint8], at: Numbers) -> tuple[Numbers, Numbers, Any]:
    """The zig-zag number of each row at its place, where the next field begins, and whether it is short enough."""
    rows = np.arange(len(at))
    number = np.zeros(len(at), np.uint64)
    going = np.ones(len(at), np.bool_)
    ends = at.copy()
    for step in range(_LONG):
        byte = table[rows, at + step]
        number |= np.where(going, byte & 0x7F, 0).astype(np.uint64) << np.uint64(7 * step)
        ends[going] += 1
        going &= byte >= 0x80
        if not going.any():
            break
    sign = -(number & np.uint64(1)).astype(np.int64)
    return (number >> np.uint64(1)).astype(np.int64) ^ sign, np.where(going, at, ends), ~going


__all__ = ["Peeks", "peeks"]
