"""`gnomon join`: follow the shadow log in a group and the live log beside it, and write what the merge join yields.

Progress is the database's. A partition is opened by reading it there, so an assignment, a restart and a database that
comes back all take the same way; Kafka's committed offsets are written for lag tools only.
"""

import threading
import time
from collections.abc import Callable, Sequence

from confluent_kafka import KafkaException
from psycopg import errors

from gnomon_consumer import database, kafka
from gnomon_consumer.joiner.logs import Logs
from gnomon_consumer.joiner.sink import ProgressMovedError, Sink
from gnomon_consumer.joiner.window import JoinedWindow
from gnomon_consumer.logs import get_logger
from gnomon_consumer.metrics import JoinerMetrics, Pulse, observed
from gnomon_consumer.settings import Settings
from gnomon_consumer.waiting import AWAY, Absence
from gnomon_schemas.columnar import ColumnarReader
from gnomon_schemas.errors import ConfigurationError, GnomonError
from gnomon_schemas.registry import registry_schemas
from gnomon_schemas.store import ChainedSchemas, TopicSchemas, packaged_schemas
from gnomon_schemas.topics import Topics

IDLE_CHECK_S = 0.5
REPORT_S = 10.0
FINISH_S = 3.0


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
        self._absence = Absence(self._log)
        self._next_idle_check = 0.0
        self._next_report = 0.0
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
        self._logs = Logs(
            self._settings,
            self._deployment,
            self._reader,
            self._log,
            self._same_topics,
            lambda: self._sink.push(),
            self._finish_write,
        )
        self.metrics.partitions.set_function(lambda: len(self._logs.owned))
        self.metrics.failed.set_function(lambda: len(self._logs.failed))
        self._log.info("joining", shadow_topic=self._shadow_topic)
        try:
            with observed(self._metrics_address, self.metrics, self._pulse, self._ready, self._log):
                try:
                    while not self._stop.is_set() and not self._finished():
                        self._step()
                finally:
                    self._finish()
            if self._logs.failed:  # before the group is left, which forgets partitions and their failures
                raise next(iter(self._logs.failed.values()))
        except KafkaException as error:
            raise GnomonError(f"Kafka: {kafka.kafka_error(error).str()}") from error
        finally:
            self._sink.close()  # first: leaving the group would wait once more for what is being written
            self._logs.close()
            schemas.close()
            self._log.info("stopped", windows=self.windows, pairs=self.pairs)

    def _finished(self) -> bool:
        """Whether nothing is left to do: every partition failed, or is joined in a drain."""
        if self._logs.failed and self._logs.failed.keys() == self._logs.owned.keys() | self._logs.failed.keys():
            return True
        owned = [state for partition, state in self._logs.owned.items() if partition not in self._logs.failed]
        return self._drain and bool(owned) and not self._logs.unopened and all(state.caught_up for state in owned)

    def _finish(self) -> None:
        """Let what is being written stand before this ends."""
        try:
            self._finish_write()
        except AWAY as error:
            self._log.warning("the last windows will be joined again", reason=" ".join(str(error).split()))
        self._take_note()

    def _finish_write(self) -> None:
        """Wait for what is being written; if it takes long, progress tells whoever comes next whether it stands."""
        if not self._sink.settle(FINISH_S):
            self._log.warning("PostgreSQL does not get on with the last windows", seconds=FINISH_S)

    def _ready(self) -> bool:
        return bool(self._logs.owned) and not self._absence.away

    # One turn of the loop.

    def _step(self) -> None:
        self._pulse.turn()
        if self._absence.lasts(self._connect):
            self._logs.follow_shadow(0.2)
            return
        try:
            self._open()
            found = self._logs.follow(0 if self._sink.busy else self._limits.poll_seconds)
            self._apply()
            if not found:
                self._sink.settle(self._limits.poll_seconds)
            self._take_note()
            self._logs.balance()
            self._notice_the_end()
        except AWAY as error:
            self._go_away(error)
        except errors.UndefinedTable as error:
            raise GnomonError("the database is not this version's: run `gnomon db upgrade`") from error
        if time.monotonic() >= self._next_report:
            self._next_report = time.monotonic() + REPORT_S
            self.metrics.held.set(sum(state.held for state in self._logs.owned.values()))
            self._same_topics()  # also where nothing comes any more
            self._log.info("progress", windows=self.windows, pairs=self.pairs, partitions=len(self._logs.owned))

    def _open(self) -> None:
        """Read where new partitions stand, and begin to read their logs."""
        partitions = self._logs.unopened
        if partitions and self._settled():
            self._logs.open(partitions, self._sink.progress(partitions), self._here)

    def _apply(self) -> None:
        """Begin to write everything that is complete, in one transaction."""
        if any(state.begins for state in self._logs.owned.values()) and not self._settled():
            return
        for partition, state in self._logs.owned.items():
            while state.begins:
                record, offset = state.begins[0]
                self._sink.begin(partition, record, offset)
                state.begins.pop(0)
        windows = [window for state in self._logs.owned.values() for window in state.take()]
        if not windows or not self._same_topics():
            return
        assembled = self._sink.assembled(windows, self._reader)
        if not self._settled():
            return
        try:
            self._sink.start(windows, assembled)
        except ProgressMovedError as moved:
            self._log.warning("another joiner moved the progress", partition=moved.partition)
            self._logs.reopen([moved.partition])
            return
        for state in self._logs.owned.values():
            state.ready.clear()

    def _settled(self) -> bool:
        """Wait until what is being written is done, which is always so unless this joiner is asked to end before."""
        while not self._sink.settle(self._limits.poll_seconds):
            if self._stop.is_set():
                return False
        return True

    def _take_note(self) -> None:
        """Count what was written meanwhile."""
        for windows, pairs in self._sink.written():
            self.pairs += pairs
            self.windows += len(windows)
            self._count(windows, pairs)
            if not self._mock:
                ends = {window.seal["source_partition"]: window.shadow_offset + 1 for window in windows}
                self._logs.tell_lag_tools(ends)

    def _same_topics(self) -> bool:
        """Whether what was read so far is of the topics that this join began with; False while no broker says."""
        return self._ids.same("joiner", "join it as another deployment, or into another database")

    def _count(self, windows: Sequence[JoinedWindow], pairs: int) -> None:
        told, now = self.metrics, time.time()
        orphans = sum(len(window.orphans) for window in windows)
        told.windows.inc(len(windows))
        told.seen.inc(sum(window.joined_seen for window in windows))
        told.pairs.inc(pairs)
        told.orphans.inc(orphans)
        told.dead_letters.inc(sum(cell["sampled"] for w in windows for cell in w.seal["cells"]) - pairs - orphans)
        for window in windows:
            told.delay.observe(max(0.0, now - window.seal["sealed_at"] / 1e6))

    def _notice_the_end(self) -> None:
        """Mark the partitions whose live log is joined to its end; labels mature by it. Stop those that lost it."""
        if time.monotonic() < self._next_idle_check:
            return
        self._next_idle_check = time.monotonic() + IDLE_CHECK_S
        self._logs.look_for_lost_ends()
        reached = self._logs.at_the_end()
        if reached and self._sink.settle(self._limits.poll_seconds):  # a later turn comes if this one is not done
            self._sink.caught_up(reached)
            for partition in reached:
                self._logs.owned[partition].caught_up = True

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
        since, until = self._limits.replay_from, self._limits.replay_until
        if since is not None and until is not None:
            self._sink.declare_replay(since, until)

    def _go_away(self, error: Exception) -> None:
        """Stop reading, stay in the group, and wait for the database."""
        self._absence.begin(error)
        self._take_note()
        self._sink.close()
        self._logs.reopen(list(self._logs.owned))
