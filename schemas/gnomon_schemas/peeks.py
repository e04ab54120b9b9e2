"""The first three fields of many captures at once, as `codec.peek` reads them from one, without Python code per row.

Needs the `[consumer]` extra (NumPy, pyarrow). No module that the hook imports may import this one.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from gnomon_schemas.arrays import Integers
from gnomon_schemas.codec import Peek, peek
from gnomon_schemas.errors import DecodeError
from gnomon_schemas.framing import MAX_MESSAGE_BYTES, unframe

_UUID = 36
_LONG = 9
"""Bytes of a number below 2**62; a longer one is read separately."""
_LEAST = 8
"""The minimum number of messages for reading in columns."""


class Peeks(NamedTuple):
    """The readable rows: row i was message `places[i]`, its producer is `producers[producer_of[i]]`."""

    places: Integers
    producers: list[str]
    producer_of: Integers
    sequences: Integers
    captured_at: Integers


def peeks(messages: Sequence[bytes | None], length: int = _UUID) -> Peeks:
    """Return the result of `peek` for messages whose producer id has `length` characters and whose numbers fit 64 bits.

    Messages with the same beginning, as those of one schema, are read together, all others one by one.
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
    """Read messages with the first one's header, an ASCII producer id of `length`, and no number over _LONG bytes."""
    try:
        start = unframe(messages[0]).body_start
    except DecodeError:
        return None
    # The length of the id takes one byte up to 63 characters.
    first = start + 1 + length
    width = 2 * (_LONG + 1)
    texts = pa.array(messages, pa.binary())
    sizes = pc.fill_null(pc.binary_length(texts), 0).to_numpy(zero_copy_only=False)
    places = np.flatnonzero((sizes >= first + width) & (sizes <= MAX_MESSAGE_BYTES))
    if not len(places):
        return None
    if len(places) < len(messages):
        texts = texts.take(pa.array(places))
    heads = pc.binary_slice(texts, 0, first).dictionary_encode()
    begins = messages[0][:start] + bytes([2 * length])  # type: ignore[index]  # unframed, so none is None
    producers = [_producer(head, begins) for head in heads.dictionary.to_pylist()]
    producer_of = heads.indices.to_numpy().astype(np.int64)
    fits = np.array([producer is not None for producer in producers])[producer_of]
    tails = pc.binary_slice(texts, first, first + width)
    table = np.frombuffer(tails.buffers()[2], np.uint8)[: len(places) * width].reshape(-1, width)
    sequences, ends = _longs(table)
    captured_at, length_of = _longs(_from(table, ends))
    here = np.flatnonzero(fits & (ends <= _LONG) & (length_of <= _LONG))
    if not len(here):
        return None
    known = {at: producer for at, producer in enumerate(producers) if producer is not None}
    number = np.full(len(producers), -1)
    number[list(known)] = np.arange(len(known))
    return Peeks(places[here], list(known.values()), number[producer_of[here]], sequences[here], captured_at[here])


def _producer(head: bytes, begins: bytes) -> str | None:
    """Return the producer id at the end of such a head; None for another head, or an id that is not plain ASCII."""
    name = head[len(begins) :]
    return name.decode() if head.startswith(begins) and name.isascii() and 0 not in name else None


def _longs(table: npt.NDArray[np.uint8]) -> tuple[Integers, Integers]:
    """Return each row's first zig-zag number, and its number of bytes: _LONG + 1 for a longer one."""
    number = np.zeros(len(table), np.uint64)
    sizes = np.zeros(len(table), np.int64)
    going = np.ones(len(table), np.bool_)
    for at in range(_LONG):
        byte = table[:, at]
        number |= np.where(going, byte & 0x7F, 0).astype(np.uint64) << np.uint64(7 * at)
        sizes += going
        going = going & (byte >= 0x80)
        if not going.any():
            break
    sign = -(number & np.uint64(1)).astype(np.int64)
    return (number >> np.uint64(1)).astype(np.int64) ^ sign, sizes + going


def _from(table: npt.NDArray[np.uint8], starts: Integers) -> npt.NDArray[np.uint8]:
    """Return the next _LONG bytes of each row, from its position on."""
    if (starts == starts[0]).all():
        return table[:, starts[0] : starts[0] + _LONG]
    return np.take_along_axis(table, starts[:, None] + np.arange(_LONG), axis=1)


__all__ = ["Peeks", "peeks"]
