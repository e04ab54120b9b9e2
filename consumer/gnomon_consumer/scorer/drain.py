"""Draining the live topic: every capture is counted once, in offset order, and nothing of it is decoded."""

from collections.abc import Callable, Sequence
from itertools import groupby

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from gnomon_consumer import kafka
from gnomon_consumer.logs import get_logger
from gnomon_consumer.metrics import ScorerMetrics
from gnomon_consumer.scorer.flight import Flight
from gnomon_consumer.scorer.live import StartAt
from gnomon_consumer.scorer.partitions import Owned, Partitions
from gnomon_consumer.scorer.sealer import Sealer
from gnomon_consumer.settings import Settings
from gnomon_schemas.errors import ConfigurationError

CONSUME = 1000
_PASSING = (
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._PARTITION_EOF,
    KafkaError._TIMED_OUT,
    KafkaError._RESOLVE,
)
log = get_logger("score")


class Drain:
    """From the consumer into the open windows; what is never read becomes a gap."""

    def __init__(
        self,
        consumer: Consumer,
        topic: str,
        partitions: Partitions,
        sealer: Sealer,
        flight: Flight,
        settings: Settings,
        metrics: ScorerMetrics,
        clock: Callable[[], float],
        now_us: Callable[[], int],
    ) -> None:
        self._consumer = consumer
        self._topic = topic
        self._partitions = partitions
        self._sealer = sealer
        self._flight = flight
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._now_us = now_us

    def read(self, timeout: float) -> int:
        """Take what has come, CONSUME messages and `timeout` seconds at most; return how many."""
        # Where reading has to wait for the workers, one at a time keeps this member in its group.
        count = 1 if self._sealer.is_full(self._flight.queued) else CONSUME
        messages = self._consumer.consume(count, timeout=timeout)
        self._partitions.turn()
        if not messages:
            return 0
        now = self._clock()
        events = any(map(Message.error, messages))
        for partition, group in groupby(messages, _event_or_partition if events else Message.partition):
            run = list(group)
            if partition is None:
                for message in run:
                    self._on_error(message)
            else:
                self._take_run(partition, run, now)
        self._skip_backlog()
        return len(messages)

    def at_end(self) -> bool:
        """Whether nothing is left to read at this moment."""
        return all(one.next_offset >= self._watermarks(at)[1] for at, one in self._partitions.owned.items())

    def _take_run(self, partition: int, run: Sequence[Message], now: float) -> None:
        """Captures of one partition; what is skipped between them is a gap."""
        owned = self._partitions.owned.get(partition)
        if owned is None:
            return
        offsets: list[int] = list(map(Message.offset, run))  # type: ignore[arg-type]  # captures have one
        at = 0
        while at < len(run):
            offset = offsets[at]
            if offset < owned.next_offset:
                at += 1
                continue
            if offset > owned.next_offset:
                self._flight.gap(owned, offset, "hole", now)
            whole = offsets[at:] == list(range(offset, offset + len(run) - at))
            end = len(run) if whole else at + 1
            self._sealer.add(owned.owner, offset, run[at:end], now)
            owned.next_offset = offset + end - at
            at = end
        self._sealer.position_lag = max(0.0, self._now_us() / 1e6 - run[-1].timestamp()[1] / 1e3)
        self._metrics.position_lag.set(self._sealer.position_lag)

    def _on_error(self, message: Message) -> None:
        error = message.error()
        assert error is not None
        owned = self._partitions.owned.get(message.partition() or 0)
        if error.code() == KafkaError._AUTO_OFFSET_RESET and owned is not None:
            self._truncated(owned)
        elif error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART or not (error.retriable() or error.code() in _PASSING):
            raise ConfigurationError(f"{self._topic} cannot be read: {error.str()}")
        else:
            log.warning("kafka", reason=error.str())

    def _truncated(self, owned: Owned) -> None:
        """The offset that is due is not in the log: recorded as a gap if the log has moved on, refused otherwise."""
        partition = owned.owner.partition
        low, high = self._watermarks(partition)
        if not low > owned.next_offset:
            raise ConfigurationError(
                f"{self._topic} [{partition}] ends at {high}, before offset {owned.next_offset} that is due:"
                " the topic was re-created or its broker reset; start another --deployment"
            )
        self._flight.gap(owned, low, "truncated", self._clock())
        self._partitions.read_on(owned)

    def _watermarks(self, partition: int) -> tuple[int, int]:
        return kafka.watermarks(self._settings, self._consumer, TopicPartition(self._topic, partition))

    def _skip_backlog(self) -> None:
        """Further behind than allowed (more arrives than can be read): what is older than half of that is a gap.

        Half, so that a scorer that stays overloaded skips now and then, and not at every poll.
        """
        limit = self._settings.score.skip_behind_seconds
        if not 0 < limit < self._sealer.position_lag:
            return
        oldest = StartAt("time", self._now_us() // 1000 - round(500 * limit))
        for partition, owned in self._partitions.owned.items():
            try:
                start = oldest.offset(self._consumer, self._topic, partition, self._settings.kafka.timeout_seconds)
            except KafkaException as error:
                log.warning("nothing is skipped", reason=str(error))
                return
            if start > owned.next_offset:
                self._flight.gap(owned, start, "overload", self._clock())
                self._partitions.read_on(owned)
        self._sealer.position_lag = 0.0  # the next capture tells


def _event_or_partition(message: Message) -> int | None:
    return message.partition() if message.error() is None else None
