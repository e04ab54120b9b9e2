"""The options of `gnomon score` that are not settings."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from confluent_kafka import Consumer, TopicPartition

from gnomon_consumer.kafka import log_reading
from gnomon_consumer.scorer.worker.models import ModelSpec
from gnomon_consumer.times import instant
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.records import Role
from gnomon_schemas.topics import Topics


@dataclass(frozen=True, slots=True)
class StartAt:
    """The parsed option; `time_ms` (Unix epoch) for a time."""

    kind: Literal["earliest", "latest", "time"]
    time_ms: int = 0

    @classmethod
    def parse(cls, text: str) -> "StartAt":
        """Parse `earliest`, `latest` or an ISO 8601 time (UTC without a zone); raise ConfigurationError."""
        if text == "earliest":
            return cls("earliest")
        if text == "latest":
            return cls("latest")
        try:
            moment = instant("--from", text)
        except ValueError as error:
            raise ConfigurationError(f"{error}, or earliest or latest") from None
        return cls("time", int(moment.timestamp() * 1000))

    def offset(self, consumer: Consumer, topic: str, partition: int, timeout: float) -> int:
        """Return the first offset to score; a time after the last message means the end."""
        low, high = log_reading.span(consumer, TopicPartition(topic, partition), timeout)
        if self.kind == "earliest":
            return low
        if self.kind == "time":
            found = consumer.offsets_for_times([TopicPartition(topic, partition, self.time_ms)], timeout=timeout)
            if found[0].offset >= 0:
                return int(found[0].offset)
        return high


@dataclass(frozen=True, kw_only=True)
class Options:
    """One deployment: its name, role and model, and where and how it scores."""

    deployment: str
    role: Role
    model: ModelSpec
    member: str
    start: StartAt
    no_sampling: bool = False
    allow_network: bool = False
    exit_when_idle: float | None = None
    warm_up: int | Path = 0
    golden: Path | None = None
    tolerance: float = 1e-4
    allow_failing: bool = False
    metrics: str | None = None

    def group(self, names: Topics) -> str:
        """Return the consumer group of the deployment's members."""
        return f"{names.prefix}.{names.stream}.score.{self.deployment}"
