"""How outcomes are passed to librdkafka if its queue is sometimes full."""

from collections.abc import Callable
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException

from gnomon_consumer.scorer.sealed.transaction import Uncertain, WindowTransaction
from gnomon_consumer.settings import Settings
from gnomon_schemas.topics import Topics


class Producer:
    """Accepts records until its queue of `room` is full; a poll empties it, unless it is stuck."""

    def __init__(self, room: int, stuck: bool = False) -> None:
        self.taken: list[tuple[str, bytes, bytes, int]] = []
        self.polls = 0
        self._room, self._stuck, self._queued = room, stuck, 0

    def produce(self, topic: str, value: bytes, key: bytes, partition: int, **_: Any) -> None:
        if self._queued >= self._room:
            raise BufferError
        self._queued += 1
        self.taken.append((topic, value, key, partition))

    def __len__(self) -> int:
        return self._queued

    def poll(self, _: float) -> None:
        self.polls += 1
        self._queued = self._queued if self._stuck else 0


def transaction(clock: Callable[[], float] = lambda: 0.0) -> WindowTransaction:
    return WindowTransaction(
        settings=Settings(),
        topics=Topics("s", "gnomon"),
        deployment="d",
        member="m",
        group="g",
        clock=clock,
        stopping=lambda: False,
    )


@pytest.mark.parametrize(("count", "room"), [(0, 1), (1, 1), (7, 1), (7, 3), (6, 3), (7, 7), (7, 100)])
def test_what_finds_the_queue_full_waits_and_is_not_passed(count: int, room: int) -> None:
    keys, messages = [b"k%d" % at for at in range(count)], [b"m%d" % at for at in range(count)]
    producer: Any = Producer(room)
    transaction()._produce_many(producer, 3, keys, messages)
    assert producer.taken == [("gnomon.s.shadow.d", *pair, 3) for pair in zip(messages, keys, strict=True)]
    assert producer.polls == max(0, -(-count // room) - 1)


@pytest.mark.parametrize(("outcomes", "polls"), [(0, 0), (20_000, 0), (20_001, 1)])
def test_librdkafka_may_catch_up_before_it_is_given_more(outcomes: int, polls: int) -> None:
    waits: list[float] = []
    one, producer = transaction(), Producer(10**6)
    one.while_waiting = waits.append
    one._produce_many(cast(Any, producer), 3, [b"k"] * outcomes, [b"m"] * outcomes)
    one._let_catch_up(cast(Any, producer))
    assert (producer.polls, len(waits)) == (polls, polls)


def test_a_broker_that_takes_nothing_ends_the_transaction() -> None:
    times = iter(range(100))
    producer: Any = Producer(10**6, stuck=True)
    one = transaction(lambda: float(next(times)))
    one._produce_many(producer, 3, [b"k"] * 20_001, [b"m"] * 20_001)
    with pytest.raises(Uncertain):
        one._let_catch_up(producer)


def test_a_queue_that_stays_full_ends_the_transaction() -> None:
    times = iter(range(100))
    producer: Any = Producer(2, stuck=True)
    with pytest.raises(Uncertain):
        transaction(lambda: float(next(times)))._produce_many(producer, 3, [b"k"] * 3, [b"m"] * 3)
    assert len(producer.taken) == 2


class Committing:
    """A producer whose commit times out so many times before it succeeds."""

    def __init__(self, timeouts: int) -> None:
        self.timeouts = timeouts
        self.purged = False

    def begin_transaction(self) -> None:
        pass

    def commit_transaction(self, _: float) -> None:
        if self.timeouts:
            self.timeouts -= 1
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "timed out", False, True))

    def purge(self) -> None:
        self.purged = True


@pytest.mark.parametrize("timeouts", [0, 1, 2])
def test_after_a_commit_that_took_several_tries_the_producer_is_replaced(timeouts: int) -> None:
    """The first attempt may still be in progress, and would end the next transaction."""
    one, producer = transaction(), Committing(timeouts)
    one._producer = cast(Any, producer)
    one._transaction(lambda _: None)
    assert producer.purged == (one._producer is None) == (timeouts > 0)
