"""What one call of `consume()` gave, told apart by partition. No I/O."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from confluent_kafka import KafkaError, Message

from gnomon_consumer.joiner.shadows import Numbers

_NOWHERE: Numbers = np.empty(0, np.int64)


class Batch(NamedTuple):
    """Messages of one partition, with their places among all that are no events; or the event that follows them."""

    partition: int
    messages: list[Message]
    places: Numbers
    event: tuple[KafkaError, int] | None
    """An error and its offset."""


def by_partition(messages: Sequence[Message]) -> Iterator[Batch]:
    """Messages and events in an order that keeps each partition's: what came before an event comes first.

    An error that belongs to no partition has partition -1.
    """
    first = at = 0
    events = [place for place, error in enumerate(map(Message.error, messages)) if error is not None]
    for place in events:
        yield from _told_apart(messages[at:place], first)
        first, at = first + place - at, place + 1
        event, partition = messages[place], messages[place].partition()
        error = event.error()
        assert error is not None
        yield Batch(-1 if partition is None else partition, [], _NOWHERE, (error, event.offset() or 0))
    yield from _told_apart(messages[at:], first)


def _told_apart(records: Sequence[Message], first: int) -> Iterator[Batch]:
    of = np.fromiter(map(Message.partition, records), np.int64, len(records))
    for partition in np.unique(of).tolist():
        places = np.flatnonzero(of == partition)
        own = list(records) if len(places) == len(records) else [records[place] for place in places.tolist()]
        yield Batch(partition, own, places + first, None)
