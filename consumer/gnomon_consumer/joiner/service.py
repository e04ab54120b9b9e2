"""`gnomon join`: follow the shadow log in a group and the live log beside it, and write what the merge join yields.

Progress is the database's. A partition is opened by reading it there, so an assignment, a restart and a database that
comes back all take the same way; Kafka's committed offsets are written for lag tools only.
"""

import threading
import time
from collections.abc import Callable

import numpy as np
from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException
from psycopg import errors

from gnomon_consumer import database, kafka
from gnomon_consumer.group import GroupTopic
from gnomon_consumer.joiner.batches import by_partition
from gnomon_consumer.joiner.identity import IdentityError
from gnomon_consumer.joiner.live import LiveLog
from gnomon_consumer.joiner.pairing import PairingError
from gnomon_consumer.joiner.partition import Partition
from gnomon_consumer.joiner.shadows import ShadowRun, read_shadow
from gnomon_consumer.joiner.sink import ProgressMovedError, Sink
from gnomon_consumer.joiner.window import JoinedWindow
from gnomon_consumer.logs import get_logger
from gnomon_consumer.metrics import JoinerMetrics, Pulse, observed
from gnomon_consumer.settings import Settings
from gnomon_consumer.waiting import AWAY, Absence, Complaints
from gnomon_schemas.columnar import ColumnarReader
from gnomon_schemas.errors import ConfigurationError, DependencyUnreachableError, GnomonError
from gnomon_schemas.registry import registry_schemas
from gnomon_schemas.store import ChainedSchemas, TopicSchemas, packaged_schemas
from gnomon_schemas.topics import Topics

IDLE_CHECK_S = 0.5
REPORT_S = 10.0


class Joiner:
    """Joins one deployment until `stop` is set, or with `drain` until nothing is left to join."""

    def __init__(
        self,
        settings: Settings,
        deployment: str,
        stop: threading.Event,
        *,
        drain: bool = False,
        metrics: str | None = None,
        at: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._limits = settings.join
        self._deployment = deployment
        self._topics = Topics(settings.require_stream(), settings.topic_prefix)
        self._live_topic = self._topics.live
        self._shadow_topic = self._topics.shadow(deployment)
        self._url = settings.require_database_url()
        self._stop = stop
        self._drain = drain
        if (self._limits.replay_from is None) != (self._limits.replay_until is None):
            raise ConfigurationError("give both join.replay_from and join.replay_until, or neither")
        self._at = at
        self._log = get_logger("join", stream=self._topics.stream, deployment=deployment)
        self.metrics = JoinerMetrics(self._topics.stream, deployment)
        self._metrics_address = metrics
        self._pulse = Pulse()
        self._owned: dict[int, Partition] = {}
        self._failed: dict[int, GnomonError] = {}
        self._absence = Absence(self._log)
        self._complaints = Complaints(self._log)
        self._next_idle_check = 0.0
        self._next_report = 0.0
        self.metrics.partitions.set_function(lambda: len(self._owned))
        self.metrics.failed.set_function(lambda: len(self._failed))
        self.metrics.away.set_function(lambda: self._absence.away)
        self.pairs = 0
        self.windows = 0

    def run(self) -> None:
        """Raises ConfigurationError, DependencyUnreachableError at the start, or what stopped the join."""
        metadata = kafka.list_topics(self._settings)
        self._mock = kafka.is_mock(metadata)
        self._ids = kafka.TopicIds(self._settings, metadata, self._live_topic, self._shadow_topic)
        self._here = {
            "cluster_id": str(getattr(metadata, "cluster_id", None) or ""),
            "topic_id": self._ids.known[self._live_topic],
        }
        self._connect()
        schemas = TopicSchemas(kafka.client_config(self._settings), self._topics.schemas)
        registry = registry_schemas(self._settings.kafka.properties)
        self._reader = ColumnarReader(ChainedSchemas(packaged_schemas(), schemas, registry))
        group = f"{self._topics.prefix}.{self._topics.stream}.join.{self._deployment}"
        self._shadow = GroupTopic(self._settings, group, self._shadow_topic, self._forget)
        self._live = LiveLog(self._settings, self._live_topic)
        self._log.info("joining", shadow_topic=self._shadow_topic)
        try:
            with observed(self._metrics_address, self.metrics, self._pulse, self._ready, self._log):
                while not self._stop.is_set() and not self._finished():
                    self._step()
            if self._failed:  # before the group is left, which forgets partitions and their failures
                raise next(iter(self._failed.values()))
        except KafkaException as error:
            raise GnomonError(f"Kafka: {kafka.kafka_error(error).str()}") from error
        finally:
            self._shadow.close()
            self._live.close()
            schemas.close()
            self._connection.close()
            self._log.info("stopped", windows=self.windows, pairs=self.pairs)

    def _finished(self) -> bool:
        """Whether nothing is left to do: every partition failed, or is joined in a drain."""
        if self._failed and self._failed.keys() == self._owned.keys() | self._failed.keys():
            return True
        owned = [state for partition, state in self._owned.items() if partition not in self._failed]
        return self._drain and bool(owned) and not self._shadow.unopened and all(state.caught_up for state in owned)

    def _ready(self) -> bool:
        return bool(self._owned) and not self._absence.away

    # One turn of the loop.

    def _step(self) -> None:
        self._pulse.turn()
        if self._absence.lasts(self._connect):
            self._follow_shadow(0.2)
            return
        try:
            self._open()
            self._follow_shadow(self._limits.poll_seconds)
            self._follow_live(self._limits.poll_seconds)
            self._apply()
            self._balance()
            self._notice_the_end()
        except AWAY as error:
            self._go_away(error)
        except errors.UndefinedTable as error:
            raise GnomonError("the database is not this version's: run `gnomon db upgrade`") from error
        if time.monotonic() >= self._next_report:
            self._next_report = time.monotonic() + REPORT_S
            self.metrics.held.set(sum(state.held for state in self._owned.values()))
            self._same_topics()  # also where nothing comes any more
            self._log.info("progress", windows=self.windows, pairs=self.pairs, partitions=len(self._owned))

    def _open(self) -> None:
        """Read where new partitions stand, and begin to read their logs."""
        if not self._shadow.unopened:
            return
        partitions = sorted(self._shadow.unopened)
        progress = self._sink.progress(partitions)
        for partition in partitions:
            known = progress.get(partition)
            self._owned[partition] = Partition(partition, known, self._here)
            if known is not None:
                self._live.follow(partition, known.next_source)
        self._shadow.open(dict.fromkeys(partitions, OFFSET_BEGINNING))

    def _follow_shadow(self, timeout: float) -> None:
        messages = self._shadow.consume(self._limits.batch_messages, timeout)
        read = read_shadow(self._reader, [one.value() for one in messages if one.error() is None])
        for batch in by_partition(messages):
            state = self._owned.get(batch.partition)
            if batch.event is not None:
                self._shadow_event(batch.event[0], state, batch.event[1])
            elif state is not None and state.number not in self._failed:
                offsets = np.fromiter((one.offset() for one in batch.messages), np.int64, len(batch.messages))
                try:
                    go_on_at = state.shadow(ShadowRun(offsets, batch.places, read))
                except PairingError as contradiction:
                    self._fail(state, contradiction)
                else:
                    if go_on_at is not None:
                        self._shadow.seek(state.number, go_on_at)
        for state in self._owned.values():
            if state.pairing.next_source is not None:
                self._live.follow(state.number, state.pairing.live_position)
            state.live_reached()

    def _follow_live(self, timeout: float) -> None:
        for batch in by_partition(self._live.consume(self._limits.batch_messages, timeout)):
            state = self._owned.get(batch.partition)
            if state is None:
                continue
            if batch.event is None:
                state.live(batch.messages)
            else:
                self._live_event(batch.event[0], state, batch.event[1])

    def _apply(self) -> None:
        """Write everything that is complete in one transaction."""
        for partition, state in self._owned.items():
            while state.begins:
                record, offset = state.begins[0]
                self._sink.begin(partition, record, offset)
                state.begins.pop(0)
        windows = [window for state in self._owned.values() for window in state.take()]
        if not windows or not self._same_topics():
            return
        try:
            pairs = self._sink.apply(windows, self._reader)
        except ProgressMovedError as moved:
            self._log.warning("another joiner moved the progress", partition=moved.partition)
            self._reopen([moved.partition])
            return
        self.pairs += pairs
        self.windows += len(windows)
        self._count(windows, pairs)
        for state in self._owned.values():
            state.ready.clear()
        if not self._mock:
            ends = {window.seal["source_partition"]: window.shadow_offset + 1 for window in windows}
            if reason := self._shadow.tell_lag_tools(ends):
                self._log.info("lag tools are not told", reason=reason)

    def _same_topics(self) -> bool:
        """Whether what was read so far is of the topics that this join began with; False while no broker says."""
        try:
            recreated = self._ids.recreated()
        except DependencyUnreachableError:
            return False
        if recreated is not None:
            raise IdentityError(
                f"{recreated} was re-created under this joiner, its offsets begin anew: join it as another deployment,"
                " or into another database"
            )
        return True

    def _count(self, windows: list[JoinedWindow], pairs: int) -> None:
        told, now = self.metrics, time.time()
        orphans = sum(len(window.orphans) for window in windows)
        told.windows.inc(len(windows))
        told.seen.inc(sum(window.joined_seen for window in windows))
        told.pairs.inc(pairs)
        told.orphans.inc(orphans)
        told.dead_letters.inc(sum(cell["sampled"] for w in windows for cell in w.seal["cells"]) - pairs - orphans)
        for window in windows:
            told.delay.observe(max(0.0, now - window.seal["sealed_at"] / 1e6))

    def _balance(self) -> None:
        """Bound what is held: stop reading the log that is ahead until the other one follows."""
        share = max(1, self._limits.held_messages // max(1, len(self._owned)))
        for partition, state in self._owned.items():
            if state.pairing.held_ahead > share:
                self._live.hold(partition, True)
            elif state.pairing.held_ahead <= share // 2:
                self._live.hold(partition, False)
            too_many = state.pairing.wants_live and state.pairing.held_rows > share
            if too_many != state.shadow_paused:
                self._shadow.hold([partition], too_many)
                state.shadow_paused = too_many

    def _notice_the_end(self) -> None:
        """Mark the partitions whose live log is joined to its end; labels mature by it."""
        if time.monotonic() < self._next_idle_check:
            return
        self._next_idle_check = time.monotonic() + IDLE_CHECK_S
        reached = [
            partition
            for partition, state in self._owned.items()
            if not state.caught_up and state.at_the_end
            if self._live.end(partition) <= (state.pairing.next_source or 0)
        ]
        if reached:
            self._sink.caught_up(reached)
            for partition in reached:
                self._owned[partition].caught_up = True

    # Events of the logs.

    def _shadow_event(self, error: KafkaError, state: Partition | None, offset: int) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            if state is not None:
                state.shadow_ends(offset)
        elif error.code() == KafkaError._AUTO_OFFSET_RESET and state is not None:
            self._same_topics()
            self._fail(state, state.shadow_lost())
        else:
            self._complaints.hear(error)

    def _live_event(self, error: KafkaError, state: Partition, offset: int) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            state.live_reached(offset)
            if state.pairing.wants_live and not state.pairing.held_ahead:
                too_short = state.live_too_short(self._live.end(state.number))
                if too_short is not None:
                    self._fail(state, too_short)
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            self._live_out_of_range(state)
        else:
            self._complaints.hear(error)

    def _live_out_of_range(self, state: Partition) -> None:
        """The live log begins beyond where the join stands, or ends before it."""
        self._same_topics()
        self._live.leave([state.number])
        found = self._live.watermarks(state.number)
        position = state.pairing.live_position
        if found is not None and found[0] > position:
            self._log.warning("the live log begins later now", partition=state.number, offset=found[0])
            state.live_reached(found[0])
            self._live.follow(state.number, found[0])
        elif found is not None and (too_short := state.live_too_short(found[1])) is not None:
            self._fail(state, too_short)
        else:
            self._live.follow(state.number, position)

    def _fail(self, state: Partition, error: GnomonError) -> None:
        """Stop one partition; the others go on."""
        self._log.error("a partition stops", partition=state.number, reason=str(error))
        self._failed[state.number] = error
        self._shadow.hold([state.number], True)

    def _forget(self, partitions: list[int]) -> None:
        """Drop what is held of partitions; another member, or this one later, begins where the database says."""
        self._live.leave(partitions)
        for partition in partitions:
            self._owned.pop(partition, None)
            self._failed.pop(partition, None)

    def _reopen(self, partitions: list[int]) -> None:
        self._forget(partitions)
        self._shadow.close_again(partitions)

    # The database comes and goes.

    def _connect(self) -> None:
        connection = database.connect(self._url, f"gnomon join {self._deployment}")
        try:
            self._sink = Sink(connection, self._topics.stream, self._deployment, self._at)
        except errors.UndefinedTable as error:
            connection.close()
            raise GnomonError("the database has no Gnomon tables: run `gnomon db upgrade`") from error
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        since, until = self._limits.replay_from, self._limits.replay_until
        if since is not None and until is not None:
            self._sink.declare_replay(since, until)

    def _go_away(self, error: Exception) -> None:
        """Stop reading, stay in the group, and wait for the database."""
        self._absence.begin(error)
        self._connection.close()
        self._reopen(list(self._owned))
