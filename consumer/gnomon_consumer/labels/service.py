"""`gnomon labels consume`: labels and heartbeats of one stream into the database, and cohorts sealed as they mature.

Labels are read in a group, from the offsets that the database holds. The heartbeats are read whole by every member;
storing one twice changes nothing.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from confluent_kafka import KafkaError, KafkaException, Message
from psycopg import errors

from gnomon_consumer import database, kafka
from gnomon_consumer.group import GroupTopic
from gnomon_consumer.labels.heartbeats import Heartbeats
from gnomon_consumer.labels.store import LabelBatch, LabelsMovedError, LabelStore, fault_of
from gnomon_consumer.logs import get_logger
from gnomon_consumer.metrics import LabelMetrics, Pulse, observed
from gnomon_consumer.settings import Settings
from gnomon_consumer.waiting import AWAY, Absence, Complaints
from gnomon_schemas.codec import Reader
from gnomon_schemas.errors import DecodeError, DependencyUnreachableError, GnomonError
from gnomon_schemas.registry import registry_schemas
from gnomon_schemas.store import ChainedSchemas, packaged_schemas
from gnomon_schemas.topics import Topics


@dataclass(slots=True)
class Owned:
    """A label partition of this member: what was read beyond `next_offset` and is not stored yet."""

    next_offset: int
    batch: LabelBatch = field(init=False)
    last_message: float = field(default_factory=time.monotonic)
    at_end: bool = False
    idle: bool = False

    def __post_init__(self) -> None:
        self.batch = LabelBatch(self.next_offset, self.next_offset)


class LabelConsumer:
    """Follows the topics `labels` and `producers` until `stop` is set, or with `drain` until both are read."""

    def __init__(
        self,
        settings: Settings,
        stop: threading.Event,
        *,
        drain: bool = False,
        metrics: str | None = None,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._settings = settings
        self._limits = settings.labels
        self._topics = Topics(settings.require_stream(), settings.topic_prefix)
        self._url = settings.require_database_url()
        self._stop = stop
        self._drain = drain
        self._now_us = now_us
        self._log = get_logger("labels", stream=self._topics.stream)
        self.metrics = LabelMetrics(self._topics.stream)
        self._metrics_address = metrics
        self._pulse = Pulse()
        self._owned: dict[int, Owned] = {}
        self._absence = Absence(self._log)
        self._complaints = Complaints(self._log)
        self._next_seal = 0.0
        self.metrics.partitions.set_function(lambda: len(self._owned))
        self.metrics.away.set_function(lambda: self._absence.away)
        self.stored = 0

    def run(self) -> None:
        """Raises ConfigurationError, or DependencyUnreachableError at the start."""
        metadata = kafka.list_topics(self._settings)
        self._cluster_id = str(getattr(metadata, "cluster_id", None) or "")
        self._ids = kafka.TopicIds(self._settings, metadata, self._topics.labels)
        self._topic_id = self._ids.known[self._topics.labels]
        self._connect()
        registry = registry_schemas(self._settings.kafka.properties)
        self._reader = Reader(ChainedSchemas(packaged_schemas(), registry))
        self._dead_letters = kafka.make_producer(self._settings)
        group = f"{self._topics.prefix}.{self._topics.stream}.labels"
        self._labels = GroupTopic(self._settings, group, self._topics.labels, self._forget)
        self._heartbeats = Heartbeats(self._settings, self._topics.producers, self._reader, self._complaints, self._log)
        self._log.info("consuming labels", topic=self._topics.labels)
        try:
            with observed(self._metrics_address, self.metrics, self._pulse, self._ready, self._log):
                while not self._stop.is_set() and not self._drained():
                    self._step()
            if not self._absence.away and not self._stop.is_set():
                self._store.seal_cohorts()
        except KafkaException as error:
            raise GnomonError(f"Kafka: {kafka.kafka_error(error).str()}") from error
        finally:
            self._labels.close()
            self._heartbeats.close()
            self._connection.close()
            self._log.info("stopped", stored=self.stored)

    def _drained(self) -> bool:
        return (
            self._drain
            and not self._labels.unopened
            and self._heartbeats.read_whole
            and bool(self._owned)
            and all(state.at_end for state in self._owned.values())
        )

    def _ready(self) -> bool:
        return bool(self._owned) and not self._absence.away

    def _step(self) -> None:
        self._pulse.turn()
        if self._absence.lasts(self._connect):
            self._labels.consume(1, 0.2)
            return
        try:
            self._open()
            self._read_labels()
            self._heartbeats.read()
            self._store_all()
            self._notice_idle()
            if time.monotonic() >= self._next_seal:
                self._next_seal = time.monotonic() + self._limits.seal_seconds
                self._same_topic()
                if sealed := self._store.seal_cohorts():
                    self.metrics.sealed.inc(sealed)
                    self._log.info("cohorts sealed", slices=sealed)
        except AWAY as error:
            self._go_away(error)

    def _open(self) -> None:
        if not self._labels.unopened:
            return
        known = self._store.positions(sorted(self._labels.unopened))
        for partition in sorted(self._labels.unopened):
            begin = known[partition].next_offset if partition in known else self._labels.low(partition)
            self._store.begin(partition, begin, self._cluster_id, self._topic_id)
            self._owned[partition] = Owned(begin)
            self._labels.open({partition: begin})

    def _read_labels(self) -> None:
        for message in self._labels.consume(self._limits.batch_messages, self._limits.poll_seconds):
            partition, offset = message.partition(), message.offset()
            state = self._owned.get(partition) if partition is not None else None
            error = message.error()
            if error is not None:
                self._label_event(error, partition, state, offset)
            elif state is not None and offset is not None and offset >= state.batch.end:
                state.last_message, state.at_end = time.monotonic(), False
                state.batch.end = offset + 1
                self._take(message, state, offset)

    def _take(self, message: Message, state: Owned, offset: int) -> None:
        try:
            name, _, record = self._reader.decode(message.value())
            if name != "gnomon.v1.Label":
                self._bury(message, state, "wrong_record", f"a {name} on the labels topic")
                return
        except DecodeError as error:
            self._bury(message, state, error.reason, str(error))
            return
        fault = fault_of(record)
        if fault is None:
            state.batch.labels.append((offset, record))
        else:
            self._bury(message, state, "invalid", fault)

    def _bury(self, message: Message, state: Owned, reason: str, detail: str) -> None:
        """Send what cannot be stored to the dead letters, with its address; it is counted as rejected."""
        state.batch.rejected += 1
        headers: list[tuple[str, str | bytes | None]] = [
            ("stage", b"labels"),
            ("reason", reason.encode()),
            ("detail", detail.encode()),
            ("source.topic", self._topics.labels.encode()),
            ("source.partition", str(message.partition()).encode()),
            ("source.offset", str(message.offset()).encode()),
        ]
        self._dead_letters.produce(self._topics.dead_letters, message.value(), message.key(), headers=headers)

    def _store_all(self) -> None:
        if reports := self._heartbeats.pending:
            self._store.report_producers(reports)
            self.metrics.heartbeats.inc(len(reports))
            reports.clear()
        batches = {n: state.batch for n, state in self._owned.items() if state.batch.end > state.batch.start}
        if not batches or not self._same_topic():
            return
        if any(batch.rejected for batch in batches.values()) and self._dead_letters.flush(
            self._settings.kafka.timeout_seconds
        ):
            raise DependencyUnreachableError("the dead letters cannot be written; no label is passed over")
        try:
            stored = self._store.apply(batches, self._now_us())
        except LabelsMovedError as moved:
            self._log.warning(str(moved))
            self._reopen(list(batches))
            return
        self.stored += stored
        self.metrics.stored.inc(stored)
        for partition, batch in batches.items():
            self.metrics.received.inc(batch.end - batch.start)
            self.metrics.rejected.inc(batch.rejected)
            state = self._owned[partition]
            state.next_offset = state.batch.end
            state.batch = LabelBatch(state.next_offset, state.next_offset)
            state.idle = False

    def _same_topic(self) -> bool:
        """Whether what was read so far is of the topic that this consumer began with; False while no broker says."""
        return self._ids.same("consumer", "load what is missing from files, or start again in another database")

    def _notice_idle(self) -> None:
        now = time.monotonic()
        changed = {
            partition: True
            for partition, state in self._owned.items()
            if state.at_end and not state.idle and now - state.last_message >= self._limits.idle_seconds
        }
        if changed:
            self._store.set_idle(changed)
            for partition in changed:
                self._owned[partition].idle = True

    def _label_event(self, error: KafkaError, partition: int | None, state: Owned | None, offset: int | None) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            if state is not None and (offset or 0) >= state.batch.end:
                state.at_end = True
        elif error.code() == KafkaError._AUTO_OFFSET_RESET and state is not None and partition is not None:
            self._same_topic()
            low = self._labels.low(partition)
            raise GnomonError(
                f"label partition {partition} begins at {low} now, but labels are stored only up to"
                f" {state.next_offset}: the labels between expired unread; load them from a file, then move"
                " label_watermarks.next_offset, or start again in another database"
            )
        else:
            self._complaints.hear(error)

    def _forget(self, partitions: list[int]) -> None:
        for partition in partitions:
            self._owned.pop(partition, None)

    def _reopen(self, partitions: list[int]) -> None:
        self._forget(partitions)
        self._labels.close_again(partitions)

    def _connect(self) -> None:
        connection = database.connect(self._url, "gnomon labels")
        try:
            self._store = LabelStore(connection, self._topics.stream)
        except errors.UndefinedTable as error:
            connection.close()
            raise GnomonError("the database has no Gnomon tables: run `gnomon db upgrade`") from error
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def _go_away(self, error: Exception) -> None:
        self._absence.begin(error)
        self._connection.close()
        self._reopen(list(self._owned))
