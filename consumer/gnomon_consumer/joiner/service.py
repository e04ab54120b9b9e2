"""`gnomon join`: reach the topics and the database, and put the parts of the loop together."""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

import psycopg
from confluent_kafka.admin import ClusterMetadata

from gnomon_consumer.database import connections
from gnomon_consumer.database.stream_settings import declare
from gnomon_consumer.joiner.loop import JoiningLoop, finish_last_write
from gnomon_consumer.joiner.postgres.sink import Sink
from gnomon_consumer.joiner.reading.both_logs import Logs
from gnomon_consumer.joiner.spans import JoinSpans
from gnomon_consumer.kafka import clients, topic_ids
from gnomon_consumer.runtime import tracing
from gnomon_consumer.runtime.http import Pulse, observed
from gnomon_consumer.runtime.logging import get_logger
from gnomon_consumer.runtime.metrics import JoinerMetrics
from gnomon_consumer.runtime.outage import Outage, Renewable, wait_for
from gnomon_consumer.runtime.progress import PartitionProgress
from gnomon_consumer.runtime.signals import why_stopped
from gnomon_consumer.settings import Settings
from gnomon_schemas.columnar import ColumnarReader
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.registry import registry_schemas
from gnomon_schemas.store import ChainedSchemas, TopicSchemas, packaged_schemas
from gnomon_schemas.topics import Topics

SCHEMAS_S = 2.0


class Joiner:
    """Joins one deployment until `stop` is set, or with `drain` until nothing is left to join.

    `on_registered` is called with each new connection and the deployment's id; tests interrupt through `on_checkpoint`.
    `clock` gives seconds.
    """

    def __init__(
        self,
        settings: Settings,
        deployment: str,
        stop: threading.Event,
        *,
        drain: bool = False,
        metrics: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        on_checkpoint: Callable[[str], None] = lambda _: None,
        on_registered: Callable[[psycopg.Connection, int], object] = lambda _connection, _deployment: None,
    ) -> None:
        limits = settings.join
        if (limits.replay_from is None) != (limits.replay_until is None):
            raise ConfigurationError("give both join.replay_from and join.replay_until, or neither")
        self._settings = settings
        self._deployment = deployment
        self._topics = Topics(settings.require_stream(), settings.topic_prefix)
        self._url = settings.require_database_url()
        self._stop = stop
        self._clock = clock
        self._drain = drain
        self._on_checkpoint = on_checkpoint
        self._on_registered = on_registered
        self._log = get_logger("join", stream=self._topics.stream, deployment=deployment)
        self.metrics = JoinerMetrics(self._topics.stream, deployment)
        self._metrics_address = metrics
        self._outage = Outage(self._log, clock)
        self.metrics.unreachable.set_function(lambda: self._outage.ongoing)

    def run(self) -> None:
        """Join; raise ConfigurationError, DependencyUnreachableError at start, or the error that stopped the join."""
        metadata = clients.list_topics(self._settings)
        shadow_topic = self._topics.shadow(self._deployment)
        ids = topic_ids.TopicIds(self._settings, metadata, self._topics.live, shadow_topic)
        sinks = wait_for(lambda: Renewable(self._open_sink), self._stop, self._outage, once=self._drain)
        if sinks is None:
            return
        with ExitStack() as resources:
            loop = self._connected(sinks, ids, metadata, resources)
            self._log.info("joining", shadow_topic=shadow_topic)
            try:
                with observed(self._metrics_address, self.metrics, loop.pulse, loop.ready, self._log):
                    loop.run()
            finally:
                resources.close()
                reason = why_stopped(self._stop.is_set(), "drained")
                self._log.info("stopped", reason=reason, windows=loop.windows, pairs=loop.pairs)

    def _connected(
        self, sinks: Renewable[Sink], ids: topic_ids.TopicIds, metadata: ClusterMetadata, resources: ExitStack
    ) -> JoiningLoop:
        """Put the parts together and join the group; `resources` closes them."""
        settings = self._settings
        schemas = TopicSchemas(clients.client_config(settings), self._topics.schemas)
        resources.callback(schemas.close)
        registry = resources.enter_context(registry_schemas(settings.kafka.properties))
        reader = ColumnarReader(ChainedSchemas(packaged_schemas(), schemas, registry))

        def same_topics() -> bool:
            return ids.same("joiner", "join it as another deployment, or into another database")

        def reconnect() -> None:
            if schemas.failing:
                schemas.refresh(SCHEMAS_S)
            sinks.renew()

        spans = JoinSpans(tracing.tracer("gnomon"), self._topics.shadow(self._deployment), self._deployment)
        logs = Logs(
            settings,
            self._deployment,
            reader,
            self._log,
            still_ours=same_topics,
            push=lambda: sinks.now.push(),
            finish_write=lambda: finish_last_write(sinks.now, self._log),
            spans=spans,
        )
        resources.callback(logs.close)
        # Closed first: leaving the group would wait once more for what is being written.
        resources.callback(lambda: sinks.now.close())
        self.metrics.partitions.set_function(lambda: len(logs.owned))
        self.metrics.failed.set_function(lambda: len(logs.failed))
        return JoiningLoop(
            logs=logs,
            sinks=sinks,
            reader=reader,
            progress=PartitionProgress(
                settings,
                self._topics.shadow(self._deployment),
                gauges=self.metrics.by_partition,
                log=self._log,
                positions=logs.positions,
                clock=self._clock,
            ),
            metrics=self.metrics,
            spans=spans,
            pulse=Pulse(self._clock),
            outage=self._outage,
            limits=settings.join,
            reconnect=reconnect,
            same_topics=same_topics,
            topic={
                "cluster_id": str(getattr(metadata, "cluster_id", None) or ""),
                "topic_id": ids.known[self._topics.live],
            },
            commits_offsets=not clients.is_mock(metadata),
            stop=self._stop,
            drain=self._drain,
            clock=self._clock,
            log=self._log,
        )

    def _open_sink(self) -> Sink:
        """Connect to the database, and register this stream and this deployment."""
        connection = connections.connect_service(self._url, f"gnomon join {self._deployment}")
        limits = self._settings.join
        try:
            sink = Sink(connection, self._topics.stream, self._deployment, self._on_checkpoint)
            self._on_registered(connection, sink.deployment_id)
            declare(connection, self._topics.stream, self._settings.stream_settings)
            if limits.replay_from is not None and limits.replay_until is not None:
                sink.declare_replay(limits.replay_from, limits.replay_until)
        except BaseException:
            connection.close()
            raise
        return sink
