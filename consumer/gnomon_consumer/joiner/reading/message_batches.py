"""Group the messages of one `consume()` call by partition. No I/O."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from confluent_kafka import KafkaError, Message

from gnomon_schemas.arrays import Integers

_NOWHERE: Integers = np.empty(0, np.int64)


class MessageBatch(NamedTuple):
    """Messages of one partition, with their indices among all messages that are not events; or the event after them."""

    partition: int
    messages: Sequence[Message]
    places: Integers
    event: tuple[KafkaError, int] | None
    """An error and its offset."""


def by_partition(messages: Sequence[Message]) -> Iterator[MessageBatch]:
    """Yield messages and events, keeping the order within each partition.

    An error that belongs to no partition has partition -1.
    """
    first = at = 0
    errors = list(map(Message.error, messages))
    events = [place for place, error in enumerate(errors) if error is not None] if any(errors) else []
    for place in events:
        yield from _split_by_partition(messages[at:place], first)
        first, at = first + place - at, place + 1
        event, partition = messages[place], messages[place].partition()
        error = event.error()
        assert error is not None
        yield MessageBatch(-1 if partition is None else partition, [], _NOWHERE, (error, event.offset() or 0))
    yield from _split_by_partition(messages[at:], first)


def _split_by_partition(records: Sequence[Message], first: int) -> Iterator[MessageBatch]:
    numbers: list[Any] = list(map(Message.partition, records))  # a record always has an offset
    partitions = sorted(set(numbers))
    if len(partitions) == 1:
        yield MessageBatch(partitions[0], records, np.arange(first, first + len(records)), None)
        return
    of = np.array(numbers)
    for partition in partitions:
        places = np.flatnonzero(of == partition)
        yield MessageBatch(partition, [records[place] for place in places.tolist()], places + first, None)


def values_of(messages: Sequence[Message]) -> list[bytes | None]:
    """Return the values of all messages that are not events."""
    if any(map(Message.error, messages)):
        messages = [message for message in messages if message.error() is None]
    return list(map(Message.value, messages))


def offsets_of(messages: Sequence[Message]) -> Integers:
    """Return the offsets of these messages."""
    return np.fromiter(map(Message.offset, messages), np.int64, len(messages))
