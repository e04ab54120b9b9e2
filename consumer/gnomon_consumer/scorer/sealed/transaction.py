"""Write sealed windows to the shadow log, in one Kafka transaction with dead letters and offsets."""

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from gnomon_consumer.kafka import clients, sizes, topic_ids
from gnomon_consumer.kafka.dead_letter_topic import TOO_LARGE
from gnomon_consumer.kafka.errors import Right, join, kafka_error, refusal, write
from gnomon_consumer.runtime.logging import get_logger
from gnomon_consumer.runtime.tracing import HEADER
from gnomon_consumer.scorer.sealed.window import SealedWindow, Tick
from gnomon_consumer.scorer.worker.encoding import codec
from gnomon_consumer.settings import Settings
from gnomon_schemas.errors import GnomonError
from gnomon_schemas.records import DeploymentStart, as_dict
from gnomon_schemas.topics import Topics

_COMMIT_SECONDS = 12.0  # longer than the broker's own time-out of the transaction
_ATTEMPT_SECONDS = 4.0
_FENCED = (KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH)
_FENCED_LIMIT, _FENCED_WITHIN = 3, 60.0
_BATCH = 5000  # outcomes that are passed to librdkafka in one call
_AHEAD = 20_000  # outcomes that librdkafka may hold before the next ones are produced
_PAUSE = 0.005
log = get_logger("writer")


class FencedError(GnomonError):
    """Another scorer uses the same member name. Each needs its own --member."""


class Uncertain(Exception):  # noqa: N818 - a state, not a fault of the caller
    """The transaction did not certainly commit: positions have to be read again from the shadow log."""


@dataclass(kw_only=True)
class WindowTransaction:
    """The transactional producer of one member; it is created again under the same id after an ambiguous result.

    `while_waiting` is called repeatedly, with the seconds that it may wait, while outcomes are produced and while the
    transaction waits for the broker.
    """

    settings: Settings
    topics: Topics
    deployment: str
    member: str
    group: str
    clock: Callable[[], float]
    stopping: Callable[[], bool]
    while_waiting: Callable[[float], None] = lambda _: None

    def __post_init__(self) -> None:
        self._producer: Producer | None = None
        self._fenced_at: list[float] = []
        self._shadow = self.topics.shadow(self.deployment)
        self._asked = self._ceiling = sizes.DEFAULT_BYTES
        self.largest_message = sizes.DEFAULT_BYTES

    @property
    def transactional_id(self) -> str:
        """Return the transactional id; it is fixed for each member slot, so that a successor fences its predecessor."""
        return f"{self.topics.prefix}.{self.topics.stream}.{self.deployment}.{self.member}"

    @property
    def _needs(self) -> tuple[Right, ...]:
        """Return the rights that a transaction needs in addition to those to the topics."""
        return Right("Write", "transactional-id", self.transactional_id), join(self.group)

    def open(self) -> None:
        """Create the producer and fence others of its id; raise DependencyUnreachableError after the Kafka time-out."""
        self._discard()
        deadline = self.clock() + self.settings.kafka.timeout_seconds
        asked = sizes.largest_message(self.settings, self._shadow, self.topics.dead_letters)
        if asked != self._asked:
            # a limit was learnt from refusals, because the broker did not report one
            self._asked = self._ceiling = asked
        self.largest_message = self._ceiling
        limits = {"message.max.bytes": max(self._ceiling, sizes.LEAST_BYTES)}  # also limits a batch
        producer = clients.make_transactional_producer(self.settings, self.transactional_id, limits)
        while True:
            try:
                producer.init_transactions(2.0)
                break
            except KafkaException as error:
                if self.stopping() or not kafka_error(error).retriable() or self.clock() > deadline:
                    raise clients.no_transaction(self.settings, producer, error, *self._needs) from None
        self._producer = producer

    def ready(self) -> None:
        """Create a new producer if the last one was discarded; this ends its open transaction. Raises like open."""
        if self._producer is None:
            self.open()

    def close(self) -> None:
        """Discard the producer and everything that it still holds."""
        self._discard()

    def _discard(self) -> None:
        if self._producer is not None:
            self._producer.purge()
            self._producer = None

    def start(self, starts: Sequence[DeploymentStart], consumer: Consumer | None) -> None:
        """Write the first record of shadow partitions; raise Uncertain.

        Also sends the offsets of `consumer` if it is in a group: the group then refuses a member that it has removed,
        because its successor may have written the first record already.
        """

        def write(producer: Producer) -> None:
            clients.list_topics(self.settings, self._shadow, producer)  # a producer may not know new partitions yet
            for one in starts:
                self._produce(
                    producer, self._shadow, one.source_partition, None, codec("DeploymentStart").encode(as_dict(one))
                )
            if consumer is not None:
                offsets = [TopicPartition(self.topics.live, one.source_partition, one.start_offset) for one in starts]
                self._send_offsets(producer, offsets, consumer)

        self._transaction(write)

    def commit(self, ticks: Sequence[Tick], consumer: Consumer | None) -> None:
        """Write complete ticks whole, and the offsets of `consumer`, if it is in a group.

        Raises Uncertain if it is unknown whether they were committed.
        """

        def write(producer: Producer) -> None:
            ends: dict[int, int] = {}
            for tick in ticks:
                for window in tick.windows:
                    self._window(producer, window, tick)
                    ends[window.owner.partition] = window.seal.end
            if ends and consumer is not None:
                offsets = [TopicPartition(self.topics.live, partition, end) for partition, end in ends.items()]
                self._send_offsets(producer, offsets, consumer)

        self._transaction(write)

    def _window(self, producer: Producer, window: SealedWindow, tick: Tick) -> None:
        partition = window.owner.partition
        keys, messages = window.sample.rows.keys, window.sample.messages
        for at in range(0, len(messages), _BATCH):
            self._produce_many(producer, partition, keys[at : at + _BATCH], messages[at : at + _BATCH])
            self.while_waiting(0.0)
            self._let_catch_up(producer)
        for place, (reason, detail) in sorted(window.sample.dead.items()):
            row = window.sample.rows[place]
            headers: list[tuple[str, str | bytes | None]] = [
                ("stage", "score"),
                ("reason", reason),
                ("detail", detail),
                ("source.topic", self.topics.live),
                ("source.partition", str(partition)),
                ("source.offset", str(row.offset)),
                ("deployment", self.deployment),
            ]
            key, value, headers = sizes.fitted(self.largest_message, row.key, row.value, headers)
            self._produce(producer, self.topics.dead_letters, None, key, value or b"", headers)
        traced: sizes.KafkaHeaders = [] if window.traceparent is None else [(HEADER, window.traceparent)]
        self._produce(producer, self._shadow, partition, None, window.record(tick), traced)

    def _produce_many(
        self, producer: Producer, partition: int, keys: Sequence[bytes], messages: Sequence[bytes]
    ) -> None:
        """Produce some outcomes of a window, in order.

        `produce_batch` is slower, because it looks up six names in a dict for each message.
        """
        for key, message in zip(keys, messages, strict=True):
            try:
                producer.produce(self._shadow, message, key, partition)
            except BufferError:  # a message that finds the queue full waits, and later messages do not overtake it
                self._produce(producer, self._shadow, partition, key, message)

    def _let_catch_up(self, producer: Producer) -> None:
        """Wait until librdkafka has sent most of its queue, because its copies would hold a window in memory twice."""
        deadline = self.clock() + _COMMIT_SECONDS
        while len(producer) > _AHEAD:
            if self.clock() > deadline:
                raise Uncertain("the broker accepts no outcomes")
            self.while_waiting(_PAUSE)
            producer.poll(_PAUSE / 5)

    def _produce(
        self,
        producer: Producer,
        topic: str,
        partition: int | None,
        key: bytes | None,
        value: bytes,
        headers: sizes.KafkaHeaders | None = None,
    ) -> None:
        deadline = self.clock() + _COMMIT_SECONDS
        while True:
            try:
                target: dict[str, Any] = {} if partition is None else {"partition": partition}
                producer.produce(topic, value, key, headers=headers or [], **target)
                return
            except BufferError:
                producer.poll(0.05)
                if self.clock() > deadline:
                    raise Uncertain("the producer's queue stays full") from None

    def _transaction(self, write: Callable[[Producer], None]) -> None:
        self.ready()
        producer = self._producer
        assert producer is not None
        try:
            producer.begin_transaction()
            write(producer)
            self._finish(producer)
        except KafkaException as error:
            self._after(producer, kafka_error(error))
        except Uncertain:
            self._discard()
            raise

    def _finish(self, producer: Producer) -> None:
        """Commit; repeat after a time-out as long as librdkafka allows it.

        After a second attempt the first one may still be on its way, and would end the next transaction in its middle,
        because the broker cannot distinguish them (librdkafka has no KIP-890). A new producer under the same id makes
        it void.
        """
        deadline = self.clock() + _COMMIT_SECONDS
        tries = 1
        while True:
            try:
                self._aside(lambda: producer.commit_transaction(_ATTEMPT_SECONDS))
                break
            except KafkaException as error:
                if not kafka_error(error).retriable() or self.clock() > deadline:
                    raise
                tries += 1
        if tries > 1:
            log.info("producer replaced: its commit took several attempts", tries=tries)
            self._discard()

    def _after(self, producer: Producer, error: KafkaError) -> None:
        """Abort if the abort is certain to succeed; otherwise discard this producer."""
        log.warning("transaction failed", reason=error.str(), code=error.name(), fatal=error.fatal())
        self._end_if_denied(error)
        if error.txn_requires_abort() and not error.fatal() and error.code() not in TOO_LARGE:
            try:
                producer.abort_transaction(_ATTEMPT_SECONDS)
                raise Uncertain(error.str())
            except KafkaException as again:
                error = kafka_error(again)
        self._end_if_denied(error)
        self._discard()  # the next producer asks the topics for their limits again
        if error.code() in TOO_LARGE:
            if self.largest_message <= sizes.LEAST_BYTES:  # everything that can be cut is already cut
                raise sizes.too_small(f"{self._shadow} or {self.topics.dead_letters}", self.largest_message)
            self._ceiling = max(sizes.LEAST_BYTES, self.largest_message // 2)
        if error.code() in _FENCED:
            now = self.clock()
            self._fenced_at = [at for at in self._fenced_at if now - at < _FENCED_WITHIN] + [now]
            if len(self._fenced_at) >= _FENCED_LIMIT:
                raise FencedError(
                    f"another scorer writes as member {self.member!r} of {self.deployment}: give each its own --member"
                )
        raise Uncertain(error.str())

    def _end_if_denied(self, error: KafkaError) -> None:
        """Raise ConfigurationError for a missing right, which a second attempt would not change."""
        if refusal(error) is None:
            return
        self._discard()
        needed = [write(self._shadow), write(self.topics.dead_letters)]
        if error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:  # it does not say which
            needed = topic_ids.lacking(self.settings, *needed)
        raise refusal(error, *needed, *self._needs) or Uncertain(error.str())

    def _send_offsets(self, producer: Producer, offsets: list[TopicPartition], consumer: Consumer) -> None:
        """Add offsets to the transaction; raise KafkaException, or Uncertain when no answer comes.

        If the group's coordinator is lost, librdkafka may wait in this call forever, despite its time-out (librdkafka
        issues 5456 and 5511). The call's thread is then abandoned with its producer, which the next producer under the
        same transactional id fences.
        """

        def send() -> None:
            producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata(), _ATTEMPT_SECONDS)

        self._aside(send, _ATTEMPT_SECONDS + 1.0)

    def _aside(self, call: Callable[[], None], seconds: float = math.inf) -> None:
        """Let another thread wait for the broker, and continue with other work meanwhile.

        Raises the call's exception, or Uncertain if the call has not returned after `seconds`.
        """
        raised: list[Exception] = []

        def run() -> None:
            try:
                call()
            except Exception as error:  # noqa: BLE001 - raised in the waiting thread
                raised.append(error)

        thread = threading.Thread(target=run, name="gnomon-commit", daemon=True)
        thread.start()
        deadline = self.clock() + seconds
        while thread.is_alive():
            if self.clock() > deadline:
                log.warning("the broker does not answer")
                raise Uncertain("librdkafka waits for the group's coordinator")
            self.while_waiting(_PAUSE)
            thread.join(_PAUSE / 5)
        if raised:
            raise raised[0]
