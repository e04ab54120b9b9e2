"""Ask for the end offsets of a topic's partitions, without waiting for the answer."""

import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec

from gnomon_consumer.kafka.clients import make_admin
from gnomon_consumer.settings import Settings

ASK_S = 5.0


class EndOffsets:
    """The end offsets of partitions in the broker's last answer; `ends` lacks partitions without an answer."""

    def __init__(self, settings: Settings, topic: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._admin = make_admin(settings)
        self._topic = topic
        self._timeout = settings.kafka.timeout_seconds
        self._clock = clock
        self._asked: dict[int, Future[Any]] = {}
        self._ask_at = 0.0
        self.ends: Mapping[int, int] = {}

    def step(self, partitions: Collection[int]) -> bool:
        """Accept an arrived answer, and ask again when it is time; return whether there is a new answer."""
        answered = bool(self._asked) and all(future.done() for future in self._asked.values())
        if answered:
            self.ends = {at: end for at, future in self._asked.items() if (end := _end(future)) is not None}
            self._asked = {}
        if partitions and not self._asked and self._clock() >= self._ask_at:
            self._ask_at = self._clock() + ASK_S
            latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]  # untyped in confluent-kafka
            wanted = {TopicPartition(self._topic, partition): latest for partition in partitions}
            asked = self._admin.list_offsets(wanted, request_timeout=self._timeout)
            self._asked = {place.partition: future for place, future in asked.items()}
        return answered


def _end(future: "Future[Any]") -> int | None:
    try:
        return int(future.result().offset)
    except KafkaException:
        return None
