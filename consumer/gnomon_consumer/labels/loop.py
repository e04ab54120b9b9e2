"""The label consumer's loop: read labels and heartbeats, store them, seal mature cohorts. One thread."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaError, Message

from gnomon_consumer.kafka.dead_letter_topic import DeadLetterTopic
from gnomon_consumer.kafka.group import GroupTopic
from gnomon_consumer.labels.declared import as_declared
from gnomon_consumer.labels.heartbeats import Heartbeats
from gnomon_consumer.labels.store import LabelBatch, LabelsMovedError, LabelStore, fault_of
from gnomon_consumer.runtime.http import Pulse
from gnomon_consumer.runtime.metrics import LabelMetrics
from gnomon_consumer.runtime.outage import UNREACHABLE, KafkaErrorLog, Outage, Renewable
from gnomon_consumer.runtime.stalls import StandbyWatch
from gnomon_consumer.settings import LabelSettings
from gnomon_schemas.codec import Reader
from gnomon_schemas.errors import DecodeError, GnomonError


@dataclass(slots=True)
class LabelPartition:
    """A label partition of this member: the labels from `next_offset` on that were read but not yet stored."""

    next_offset: int
    last_message: float
    batch: LabelBatch = field(init=False)
    at_end: bool = False
    idle: bool = False

    def __post_init__(self) -> None:
        self.batch = LabelBatch(self.next_offset, self.next_offset)


@dataclass(slots=True, kw_only=True, eq=False)
class LabelLoop:
    """The parts of a running label consumer, and the order in which they take turns.

    `owned` are the open partitions; the group's callback empties it, too. `stores` gives the store of the current
    connection. `same_topic` says whether all messages read so far came from the topic with which this consumer began.
    With `drain` the loop ends when both topics are read. `clock` gives seconds, `now_us` the wall clock.
    """

    owned: dict[int, LabelPartition]
    labels: GroupTopic
    heartbeats: Heartbeats
    stores: Renewable[LabelStore]
    dead_letters: DeadLetterTopic
    reader: Reader
    metrics: LabelMetrics
    pulse: Pulse
    outage: Outage
    kafka_errors: KafkaErrorLog
    standby: StandbyWatch
    limits: LabelSettings
    topic: str
    cluster_id: str
    topic_id: str | None
    same_topic: Callable[[], bool]
    stop: threading.Event
    drain: bool
    clock: Callable[[], float]
    now_us: Callable[[], int]
    log: Any
    stored: int = 0
    _next_seal: float = 0.0

    def run(self) -> None:
        """Consume until stopped or drained; raises GnomonError."""
        while not self.stop.is_set() and not self._is_drained():
            self._step()
        if not self.outage.ongoing and not self.stop.is_set():
            self._store.seal_cohorts()

    def ready(self) -> bool:
        """Return whether this consumer has partitions, reaches the database and makes progress."""
        return bool(self.owned) and not self.outage.ongoing and self.pulse.is_quick()

    @property
    def _store(self) -> LabelStore:
        return self.stores.now

    def _is_drained(self) -> bool:
        return (
            self.drain
            and not self.labels.unopened
            and self.heartbeats.read_whole
            and bool(self.owned)
            and all(state.at_end for state in self.owned.values())
        )

    def _step(self) -> None:
        self.pulse.beat()
        if self.outage.lasts(self.stores.renew):
            self.labels.consume(1, 0.2)
            return
        try:
            self._open()
            self.standby.look(bool(self.owned))
            self._read_labels()
            self.heartbeats.read()
            self._store_all()
            self._notice_idle()
            if self.clock() >= self._next_seal:
                self._next_seal = self.clock() + self.limits.seal_seconds
                self.same_topic()
                if sealed := self._store.seal_cohorts():
                    self.metrics.sealed.inc(sealed)
                    self.log.info("cohorts sealed", slices=sealed)
        except UNREACHABLE as error:
            self._begin_outage(error)

    def _open(self) -> None:
        if not self.labels.unopened:
            return
        known = self._store.positions(sorted(self.labels.unopened))
        for partition in sorted(self.labels.unopened):
            begin = known[partition].next_offset if partition in known else self.labels.low(partition)
            self._store.begin(partition, begin, self.cluster_id, self.topic_id)
            self.owned[partition] = LabelPartition(begin, self.clock())
            self.labels.open({partition: begin})

    def _read_labels(self) -> None:
        for message in self.labels.consume(self.limits.batch_messages, self.limits.poll_seconds):
            partition, offset = message.partition(), message.offset()
            state = self.owned.get(partition) if partition is not None else None
            error = message.error()
            if error is not None:
                self._label_event(error, partition, state, offset)
            elif state is not None and offset is not None and offset >= state.batch.end:
                state.last_message, state.at_end = self.clock(), False
                state.batch.end = offset + 1
                self._read_label(message, state, offset)

    def _read_label(self, message: Message, state: LabelPartition, offset: int) -> None:
        try:
            name, writer, decoded = self.reader.decode(message.value())
            if name != "gnomon.v1.Label":
                self._bury(message, state, "not_a_label", f"a {name} in the labels topic")
                return
            record = as_declared("Label", writer, decoded)
            fault = fault_of(record)
        except DecodeError as error:
            self._bury(message, state, error.reason, str(error))
            return
        except ValueError as error:
            fault = str(error)
        if fault is None:
            state.batch.labels.append((offset, record))
        else:
            self._bury(message, state, "invalid", fault)

    def _bury(self, message: Message, state: LabelPartition, reason: str, detail: str) -> None:
        """Send labels that cannot be stored to the dead letters, with their coordinates; count them as rejected."""
        state.batch.rejected += 1
        headers: list[tuple[str, str | bytes | None]] = [
            ("stage", b"labels"),
            ("reason", reason.encode()),
            ("detail", detail[:500].encode()),
            ("source.topic", self.topic.encode()),
            ("source.partition", str(message.partition()).encode()),
            ("source.offset", str(message.offset()).encode()),
        ]
        self.dead_letters.send_letter(message.key(), message.value(), headers)

    def _store_all(self) -> None:
        if reports := self.heartbeats.pending:
            self._store.report_producers(reports)
            self.metrics.heartbeats.inc(len(reports))
            reports.clear()
        batches = {n: state.batch for n, state in self.owned.items() if state.batch.end > state.batch.start}
        if not batches or not self.same_topic():
            return
        if any(batch.rejected for batch in batches.values()):
            self.dead_letters.flush()
        try:
            stored = self._store.apply(batches, self.now_us())
        except LabelsMovedError as moved:
            self.log.warning(str(moved))
            self._reopen(list(batches))
            return
        if self._store.conflicts:
            self.log.warning(
                "labels differ from earlier ones of the same time: kept as versions", conflicts=self._store.conflicts
            )
            self._store.conflicts = 0
        self.stored += stored
        self.metrics.stored.inc(stored)
        for partition, batch in batches.items():
            self.metrics.received.inc(batch.end - batch.start)
            self.metrics.rejected.inc(batch.rejected)
            state = self.owned[partition]
            state.next_offset = state.batch.end
            state.batch = LabelBatch(state.next_offset, state.next_offset)
            state.idle = False

    def _notice_idle(self) -> None:
        now = self.clock()
        changed = {
            partition: True
            for partition, state in self.owned.items()
            if state.at_end and not state.idle and now - state.last_message >= self.limits.idle_seconds
        }
        if changed:
            self._store.set_idle(changed)
            for partition in changed:
                self.owned[partition].idle = True

    def _label_event(
        self, error: KafkaError, partition: int | None, state: LabelPartition | None, offset: int | None
    ) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            if state is not None and (offset or 0) >= state.batch.end:
                state.at_end = True
        elif error.code() == KafkaError._AUTO_OFFSET_RESET and state is not None and partition is not None:
            self.same_topic()
            low = self.labels.low(partition)
            raise GnomonError(
                f"label partition {partition} begins at {low} now, but labels are stored only up to"
                f" {state.next_offset}: the labels between expired unread; load them from a file, then move"
                " label_watermarks.next_offset, or start again in another database"
            )
        else:
            self.kafka_errors.handle(error, *self.labels.needs)

    def _reopen(self, partitions: list[int]) -> None:
        forget(self.owned, partitions)
        self.labels.close_again(partitions)

    def _begin_outage(self, error: Exception) -> None:
        self.outage.begin(error)
        self._store.close()
        self._reopen(list(self.owned))


def forget(owned: dict[int, LabelPartition], partitions: list[int]) -> None:
    """Drop the unstored labels of partitions; the next owner begins at the progress in the database."""
    for partition in partitions:
        owned.pop(partition, None)
