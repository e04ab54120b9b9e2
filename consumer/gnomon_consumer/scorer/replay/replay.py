"""`gnomon replay --like`: score exactly the captures that another deployment sampled, as a new deployment.

The other deployment's shadow log lists the captures, the live log holds them. The replay writes an ordinary shadow log
with the same windows, so joiner, ledger and reports treat it like any other.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import KW_ONLY, dataclass

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import ClusterMetadata

from gnomon_consumer.kafka import clients
from gnomon_consumer.kafka.errors import Right, kafka_error
from gnomon_consumer.scorer.intake import live_topic, own_schemas
from gnomon_consumer.scorer.intake.live_topic import LiveTopic
from gnomon_consumer.scorer.intake.resume import Resumption
from gnomon_consumer.scorer.intake.shadow_tail import ShadowLog
from gnomon_consumer.scorer.options import Options
from gnomon_consumer.scorer.pool.startup import ReadyWorkers, ready_workers
from gnomon_consumer.scorer.rehearsal.warm_up import rehearsed
from gnomon_consumer.scorer.replay.run import ReplayRun, ReplaySummary
from gnomon_consumer.scorer.sealed.in_flight import WindowsInFlight
from gnomon_consumer.scorer.sealed.sealer import Sealer
from gnomon_consumer.scorer.sealed.transaction import WindowTransaction
from gnomon_consumer.settings import Settings
from gnomon_consumer.times import now_us
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.topics import Topics


@dataclass
class Replay:
    """One run, from the end of the deployment's own shadow log to the current end of the other's."""

    settings: Settings
    options: Options
    like: str
    stopping: Callable[[], bool]
    _: KW_ONLY
    clock: Callable[[], float] = time.monotonic
    now_us: Callable[[], int] = now_us

    def __post_init__(self) -> None:
        self._names = Topics(self.settings.require_stream(), self.settings.topic_prefix)

    def run(self) -> ReplaySummary:
        """Replay until the end or until stopped; raises GnomonError."""
        settings, options = self.settings, self.options
        if options.deployment == self.like:
            raise ConfigurationError(f"--deployment {self.like} is --like {self.like}: give the replay its own name")
        metadata = clients.list_topics(settings)
        theirs = metadata.topics.get(self._names.shadow(self.like))
        if theirs is None or theirs.error is not None:
            raise ConfigurationError(f"stream {self._names.stream} has no deployment {self.like} to be --like")
        self._refuse_beside_a_scorer(metadata)
        topic = live_topic.prepared(settings, self._names, options.deployment, metadata)
        with (
            ready_workers(
                settings, options.model, self.stopping, options.allow_network, self.clock, self.now_us
            ) as workers,
            ExitStack() as resources,
        ):
            if workers is None:
                return ReplaySummary()
            own_schemas.publish(settings, self._names.schemas)
            run = self._connected(workers, topic, resources)
            for partition in sorted(theirs.partitions):
                run.follow(partition)
            return run.done

    def _refuse_beside_a_scorer(self, metadata: ClusterMetadata) -> None:
        """Refuse to start while another process writes the shadow log; the mock cannot detect one."""
        if clients.is_mock(metadata):
            return
        group = self.options.group(self._names)
        seconds = self.settings.kafka.timeout_seconds
        admin = clients.make_admin(self.settings)
        try:
            members = admin.describe_consumer_groups([group], request_timeout=seconds)[group].result().members
        except KafkaException as error:
            if kafka_error(error).code() != KafkaError.GROUP_ID_NOT_FOUND:
                raise clients.unreachable(self.settings, error, Right("Describe", "group", group)) from None
        else:
            if members:
                raise ConfigurationError(
                    f"`gnomon score` runs as {self.options.deployment}: stop it, or use another name"
                )

    def _connected(self, workers: ReadyWorkers, topic: LiveTopic, resources: ExitStack) -> ReplayRun:
        """Put the parts together."""
        settings, options, names = self.settings, self.options, self._names
        rate = rehearsed(workers.pool, workers.live, options, settings.score, self.stopping)
        model = workers.pool.model.artefact
        sealer = Sealer(settings.score, rate, no_sampling=True, now=self.clock(), now_us=self.now_us)
        in_flight = WindowsInFlight(
            sealer,
            workers.pool,
            schemas=workers.schemas,
            settings=settings.score,
            model=model,
            now_us=self.now_us,
        )
        theirs = resources.enter_context(
            closing(ShadowLog(settings, names.shadow(self.like), names.schemas, self.clock))
        )
        own = resources.enter_context(
            closing(ShadowLog(settings, names.shadow(options.deployment), names.schemas, self.clock))
        )
        live = clients.make_consumer(settings, defaults={"enable.partition.eof": True})
        resources.callback(live.close)
        group = options.group(names)
        transaction = WindowTransaction(
            settings=settings,
            topics=names,
            deployment=options.deployment,
            member=options.member,
            group=group,
            clock=self.clock,
            stopping=self.stopping,
        )
        resources.callback(transaction.close)
        transaction.open()
        return ReplayRun(
            settings=settings,
            options=options,
            names=names,
            like=self.like,
            theirs=theirs,
            own=own,
            live=live,
            sealer=sealer,
            in_flight=in_flight,
            transaction=transaction,
            starts=Resumption(
                settings,
                options,
                names=names,
                live=topic,
                model=model,
                policy="",  # each window has its own policy
                stopping=self.stopping,
                now_us=self.now_us,
            ),
            stopping=self.stopping,
            clock=self.clock,
            now_us=self.now_us,
        )
