"""Where the scoring of a live partition begins: `--from earliest|latest|TIME`."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from confluent_kafka import Consumer, TopicPartition

from gnomon_consumer import kafka
from gnomon_schemas.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class StartAt:
    """The parsed option; `time_ms` (Unix epoch) for a time."""

    kind: Literal["earliest", "latest", "time"]
    time_ms: int = 0

    @classmethod
    def parse(cls, text: str) -> "StartAt":
        """`earliest`, `latest` or an ISO 8601 time (UTC where it names no zone); raises ConfigurationError."""
        if text == "earliest":
            return cls("earliest")
        if text == "latest":
            return cls("latest")
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise ConfigurationError(
                f"--from {text}: not earliest, latest or a time such as 2026-01-31T12:00"
            ) from None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return cls("time", int(moment.timestamp() * 1000))

    def offset(self, consumer: Consumer, topic: str, partition: int, timeout: float) -> int:
        """The first offset to score; a time after the last message means the end."""
        low, high = kafka.span(consumer, TopicPartition(topic, partition), timeout)
        if self.kind == "earliest":
            return low
        if self.kind == "time":
            found = consumer.offsets_for_times([TopicPartition(topic, partition, self.time_ms)], timeout=timeout)
            if found[0].offset >= 0:
                return int(found[0].offset)
        return high
