"""`gnomon labels consume`: store labels and heartbeats of one stream in the database, and seal mature cohorts.

Labels are read in a group, from the offsets that the database holds. Every member reads all heartbeats; storing one
twice changes nothing.
"""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

from confluent_kafka.admin import ClusterMetadata

from gnomon_consumer.database import connections
from gnomon_consumer.database.stream_settings import declare
from gnomon_consumer.kafka import clients, topic_ids
from gnomon_consumer.kafka.dead_letter_topic import DeadLetterTopic
from gnomon_consumer.kafka.group import GroupTopic
from gnomon_consumer.labels.heartbeats import Heartbeats
from gnomon_consumer.labels.loop import LabelLoop, LabelPartition, forget
from gnomon_consumer.labels.store import LabelStore
from gnomon_consumer.runtime.http import Pulse, observed
from gnomon_consumer.runtime.logging import get_logger
from gnomon_consumer.runtime.metrics import LabelMetrics
from gnomon_consumer.runtime.outage import KafkaErrorLog, Outage, Renewable, wait_for
from gnomon_consumer.runtime.progress import standby_watch
from gnomon_consumer.runtime.signals import why_stopped
from gnomon_consumer.settings import Settings
from gnomon_consumer.times import now_us
from gnomon_schemas.codec import Reader
from gnomon_schemas.registry import registry_schemas
from gnomon_schemas.store import ChainedSchemas, packaged_schemas
from gnomon_schemas.topics import Topics


class LabelConsumer:
    """Follows the topics `labels` and `producers` until `stop` is set, or with `drain` until both are read."""

    def __init__(
        self,
        settings: Settings,
        stop: threading.Event,
        *,
        drain: bool = False,
        metrics: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        now_us: Callable[[], int] = now_us,
    ) -> None:
        self._settings = settings
        self._topics = Topics(settings.require_stream(), settings.topic_prefix)
        self._url = settings.require_database_url()
        self._stop = stop
        self._drain = drain
        self._clock = clock
        self._now_us = now_us
        self._log = get_logger("labels", stream=self._topics.stream)
        self.metrics = LabelMetrics(self._topics.stream)
        self._metrics_address = metrics
        self._outage = Outage(self._log, clock)
        self.metrics.unreachable.set_function(lambda: self._outage.ongoing)

    def run(self) -> None:
        """Consume labels; raise ConfigurationError, or DependencyUnreachableError at the start."""
        metadata = clients.list_topics(self._settings)
        ids = topic_ids.TopicIds(self._settings, metadata, self._topics.labels)
        stores = wait_for(lambda: Renewable(self._open_store), self._stop, self._outage, once=self._drain)
        if stores is None:
            return
        with ExitStack() as resources:
            loop = self._connected(stores, ids, metadata, resources)
            self._log.info("consuming labels", topic=self._topics.labels)
            try:
                with observed(self._metrics_address, self.metrics, loop.pulse, loop.ready, self._log):
                    loop.run()
            finally:
                resources.close()
                self._log.info("stopped", reason=why_stopped(self._stop.is_set(), "drained"), stored=loop.stored)

    def _connected(
        self, stores: Renewable[LabelStore], ids: topic_ids.TopicIds, metadata: ClusterMetadata, resources: ExitStack
    ) -> LabelLoop:
        """Put the parts together and join the group; `resources` closes them."""
        settings, topics = self._settings, self._topics
        resources.callback(lambda: stores.now.close())
        registry = resources.enter_context(registry_schemas(settings.kafka.properties))
        reader = Reader(ChainedSchemas(packaged_schemas(), registry))
        kafka_errors = KafkaErrorLog(self._log)
        heartbeats = Heartbeats(settings, topics.producers, reader=reader, kafka_errors=kafka_errors, log=self._log)
        resources.callback(heartbeats.close)
        owned: dict[int, LabelPartition] = {}
        group = f"{topics.prefix}.{topics.stream}.labels"
        labels = GroupTopic(settings, group, topics.labels, lambda partitions: forget(owned, partitions))
        resources.callback(labels.close)
        self.metrics.partitions.set_function(lambda: len(owned))
        return LabelLoop(
            owned=owned,
            labels=labels,
            heartbeats=heartbeats,
            stores=stores,
            dead_letters=DeadLetterTopic(settings, topics.dead_letters),
            reader=reader,
            metrics=self.metrics,
            pulse=Pulse(self._clock),
            outage=self._outage,
            kafka_errors=kafka_errors,
            standby=standby_watch(settings, self._log, self._clock),
            limits=settings.labels,
            topic=topics.labels,
            cluster_id=str(getattr(metadata, "cluster_id", None) or ""),
            topic_id=ids.known[topics.labels],
            same_topic=lambda: ids.same(
                "consumer", "load what is missing from files, or start again in another database"
            ),
            stop=self._stop,
            drain=self._drain,
            clock=self._clock,
            now_us=self._now_us,
            log=self._log,
        )

    def _open_store(self) -> LabelStore:
        """Connect to the database, and register this stream."""
        connection = connections.connect_service(self._url, "gnomon labels")
        try:
            store = LabelStore(connection, self._topics.stream)
            declare(connection, self._topics.stream, self._settings.stream_settings)
        except BaseException:
            connection.close()
            raise
        return store
