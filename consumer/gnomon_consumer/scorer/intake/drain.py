"""Drain the live topic: count every capture once, in offset order, without decoding it."""

from collections.abc import Callable, Sequence
from itertools import groupby

import numpy as np
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from numpy.typing import NDArray

from gnomon_consumer.kafka import log_reading
from gnomon_consumer.kafka.errors import kafka_error, refusal
from gnomon_consumer.runtime.logging import get_logger
from gnomon_consumer.runtime.metrics import ScorerMetrics
from gnomon_consumer.scorer.intake.assignment import AssignedPartition, Assignment
from gnomon_consumer.scorer.options import StartAt
from gnomon_consumer.scorer.sealed.in_flight import WindowsInFlight
from gnomon_consumer.scorer.sealed.sealer import ReadingPosition, Sealer
from gnomon_consumer.settings import Settings
from gnomon_schemas.errors import ConfigurationError

CONSUME = 1000
_PASSING = (
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TIMED_OUT,
    KafkaError._RESOLVE,
)
log = get_logger("score")


class Drain:
    """Moves captures from the consumer into the open windows; captures that are never read become a gap.

    `holes_are_lost`: whether an offset without a message may belong to a capture that compaction removed. On other
    topics it belongs to a marker or an aborted record of a transaction.
    """

    def __init__(
        self,
        consumer: Consumer,
        topic: str,
        settings: Settings,
        *,
        assignment: Assignment,
        sealer: Sealer,
        in_flight: WindowsInFlight,
        metrics: ScorerMetrics,
        clock: Callable[[], float],
        now_us: Callable[[], int],
        holes_are_lost: bool,
    ) -> None:
        self._consumer = consumer
        self._topic = topic
        self._assignment = assignment
        self._sealer = sealer
        self._in_flight = in_flight
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._now_us = now_us
        self._holes_are_lost = holes_are_lost

    def read(self, timeout: float) -> int:
        """Read at most CONSUME messages within at most `timeout` seconds; return their number."""
        # If reading has to wait for the workers, reading one message at a time keeps this member in its group.
        count = 1 if self._sealer.is_full(self._in_flight.queued) else CONSUME
        messages = self._consumer.consume(count, timeout=timeout)
        self._assignment.step()
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
                self._add_run(partition, run, now)
        self._skip_backlog()
        return len(messages)

    def at_end(self) -> bool:
        """Return whether nothing is left to read now."""
        return all(one.next_offset >= self._watermarks(at)[1] for at, one in self._assignment.owned.items())

    def _add_run(self, partition: int, run: Sequence[Message], now: float) -> None:
        """Accept captures of one partition; offsets between them hold no capture, or one that compaction removed."""
        owned = self._assignment.owned.get(partition)
        if owned is None:
            return
        offsets, run = fresh(run, owned.next_offset)
        if not run:
            return
        end = int(offsets[-1]) + 1
        position = ReadingPosition(owned.owner, owned.next_offset, now)
        missing = end - owned.next_offset - len(run)
        if missing and self._holes_are_lost:
            log.error("gap", partition=partition, start=owned.next_offset, end=end, lost=missing, reason="compaction")
            self._sealer.lose(position, missing)
        self._sealer.add_messages(position, offsets, run)
        owned.advance(end)
        self._sealer.observe_lag(self._now_us() / 1e6 - run[-1].timestamp()[1] / 1e3)
        self._metrics.position_lag.set(self._sealer.position_lag)

    def _reach(self, owned: AssignedPartition, end: int) -> None:
        """Record that the log ends at `end` for now: the remaining offsets below it hold no capture."""
        missing = end - owned.next_offset
        if missing > 0:
            position = ReadingPosition(owned.owner, owned.next_offset, self._clock())
            if self._holes_are_lost:
                self._sealer.lose(position, missing)
            self._sealer.reach(position, end)
            owned.advance(end)

    def _on_error(self, message: Message) -> None:
        error = message.error()
        assert error is not None
        owned = self._assignment.owned.get(message.partition() or 0)
        if error.code() == KafkaError._PARTITION_EOF:
            if owned is not None:
                self._reach(owned, message.offset() or 0)
        elif error.code() == KafkaError._AUTO_OFFSET_RESET and owned is not None:
            self._truncated(owned)
        elif denied := refusal(error, *self._assignment.needs):
            raise denied
        elif error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART or not (error.retriable() or error.code() in _PASSING):
            raise ConfigurationError(f"{self._topic} cannot be read: {error.str()}")
        else:
            log.warning("kafka", reason=error.str())

    def _truncated(self, owned: AssignedPartition) -> None:
        """Handle a next offset outside the log: record a gap if the log's beginning moved past it, refuse otherwise."""
        partition = owned.owner.partition
        low, high = self._watermarks(partition)
        if not low > owned.next_offset:
            raise ConfigurationError(
                f"{self._topic} [{partition}] ends at {high}, before offset {owned.next_offset}, the next to read:"
                " the topic was re-created or its broker reset; start another --deployment"
            )
        self._skip(owned, low, "truncated")
        self._assignment.read_on(owned)

    def _skip(self, owned: AssignedPartition, until: int, reason: str) -> None:
        """Record that the offsets below `until` are never read."""
        self._in_flight.gap(owned.owner, owned.next_offset, until, reason, self._clock())
        owned.advance(until)

    def _watermarks(self, partition: int) -> tuple[int, int]:
        return log_reading.watermarks(self._settings, self._consumer, TopicPartition(self._topic, partition))

    def _skip_backlog(self) -> None:
        """Skip captures older than half of the allowed delay if the scorer is too far behind, and record a gap.

        It skips half of the delay at once, so that a scorer that stays overloaded skips rarely, and not at every poll.
        """
        limit = self._settings.score.skip_behind_seconds
        if not 0 < limit < self._sealer.position_lag:
            return
        oldest = StartAt("time", self._now_us() // 1000 - round(500 * limit))
        for partition, owned in self._assignment.owned.items():
            try:
                start = oldest.offset(self._consumer, self._topic, partition, self._settings.kafka.timeout_seconds)
            except KafkaException as error:
                log.warning("skip postponed", reason=kafka_error(error).str())
                return
            if start > owned.next_offset:
                self._skip(owned, start, "overload")
                self._assignment.read_on(owned)
        self._sealer.observe_lag(0.0)  # the next capture will show whether to skip


def _event_or_partition(message: Message) -> int | None:
    return message.partition() if message.error() is None else None


def fresh(run: Sequence[Message], next_offset: int) -> tuple[NDArray[np.int64], Sequence[Message]]:
    """Return the messages of one partition that were not read before, and their offsets, which ascend."""
    offsets = np.fromiter(map(Message.offset, run), np.int64, len(run))
    if offsets[0] >= next_offset and (offsets[1:] > offsets[:-1]).all():
        return offsets, run
    reached = np.maximum.accumulate(np.append(next_offset - 1, offsets[:-1]))
    new = offsets > reached
    return offsets[new], [run[at] for at in np.flatnonzero(new).tolist()]
