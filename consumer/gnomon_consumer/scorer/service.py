"""`gnomon score`: check the topics, start the workers, rehearse, and put the parts of the loop together."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any

from gnomon_consumer.kafka import clients
from gnomon_consumer.runtime import tracing
from gnomon_consumer.runtime.http import Pulse, observed
from gnomon_consumer.runtime.logging import get_logger
from gnomon_consumer.runtime.metrics import ScorerMetrics
from gnomon_consumer.runtime.progress import PartitionProgress
from gnomon_consumer.runtime.signals import why_stopped
from gnomon_consumer.scorer.intake import live_topic, own_schemas
from gnomon_consumer.scorer.intake.assignment import Assignment
from gnomon_consumer.scorer.intake.drain import Drain
from gnomon_consumer.scorer.intake.live_topic import LiveTopic
from gnomon_consumer.scorer.intake.resume import Resumption
from gnomon_consumer.scorer.intake.shadow_tail import ShadowLog
from gnomon_consumer.scorer.loop import ScoringLoop
from gnomon_consumer.scorer.options import Options
from gnomon_consumer.scorer.pool.startup import ReadyWorkers, ready_workers
from gnomon_consumer.scorer.recorder import CommitRecorder
from gnomon_consumer.scorer.rehearsal.warm_up import rehearsed
from gnomon_consumer.scorer.sealed.in_flight import WindowsInFlight
from gnomon_consumer.scorer.sealed.sealer import Sealer
from gnomon_consumer.scorer.sealed.spans import ScoreSpans
from gnomon_consumer.scorer.sealed.transaction import WindowTransaction
from gnomon_consumer.scorer.sealed.window import policy_hash
from gnomon_consumer.settings import Settings
from gnomon_consumer.times import now_us
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.topics import Topics

log = get_logger("score")


@dataclass
class ScoreService:
    """`gnomon score`. `stopping` is called often; the clock gives seconds, `now_us` the wall clock."""

    settings: Settings
    options: Options
    stopping: Callable[[], bool]
    _: KW_ONLY
    clock: Callable[[], float] = time.monotonic
    now_us: Callable[[], int] = now_us

    def __post_init__(self) -> None:
        self._names = Topics(self.settings.require_stream(), self.settings.topic_prefix)
        self.metrics = ScorerMetrics(self._names.stream, self.options.deployment)
        self._pulse = Pulse(self.clock)
        self._assignment: Assignment | None = None

    def run(self) -> None:
        """Score until stopped; raises GnomonError."""
        settings, options = self.settings, self.options
        live = live_topic.prepared(settings, self._names, options.deployment, clients.list_topics(settings))
        with (
            observed(options.metrics, self.metrics, self._pulse, self._has_partitions, log),
            ready_workers(
                settings, options.model, self.stopping, options.allow_network, self.clock, self.now_us
            ) as workers,
            ExitStack() as resources,
        ):
            if workers is None:
                return
            own_schemas.publish(settings, self._names.schemas)
            rate = rehearsed(workers.pool, workers.live, options, settings.score, self.stopping)
            if self.stopping():
                return
            loop = self._connected(workers, rate, live, resources)
            self._announce(workers)
            loop.run()

    def _say_stopped(self, recorder: CommitRecorder) -> None:
        reason = why_stopped(self.stopping(), "idle")
        log.info("stopped", reason=reason, windows=recorder.windows, rows=recorder.rows)

    def _has_partitions(self) -> bool:
        return self._assignment is not None and bool(self._assignment.owned)

    def _connected(self, workers: ReadyWorkers, rate: float, live: LiveTopic, resources: ExitStack) -> ScoringLoop:
        """Put the parts together, with a planned rate of `rate` rows a second, and join the group."""
        settings, options, names = self.settings, self.options, self._names
        spans = ScoreSpans(tracing.tracer("gnomon"), names.live, options.deployment)
        sealer = self._make_sealer(rate, spans)
        recorder = CommitRecorder(
            sealer, self.metrics, poison_limit=settings.score.poison_limit, names=names, now_us=self.now_us
        )
        resources.callback(self._say_stopped, recorder)
        shadow = ShadowLog(settings, names.shadow(options.deployment), names.schemas, self.clock)
        resources.callback(shadow.close)
        group = options.group(names)
        consumer = clients.make_consumer(settings, group, {"enable.partition.eof": True, **_strategy(settings)})
        resources.callback(consumer.close)
        in_flight = WindowsInFlight(
            sealer,
            workers.pool,
            schemas=workers.schemas,
            settings=settings.score,
            model=workers.pool.model.artefact,
            now_us=self.now_us,
        )
        transaction = self._make_transaction(in_flight)
        resources.callback(transaction.close)
        resumption = self._make_resumption(workers, live)
        assignment = self._assignment = Assignment(
            consumer,
            names.live,
            group,
            resume=partial(resumption.resume, consumer, shadow, transaction),
            drop_unowned=in_flight.drop_unowned,
            clock=self.clock,
        )
        drain = Drain(
            consumer,
            names.live,
            settings,
            assignment=assignment,
            sealer=sealer,
            in_flight=in_flight,
            metrics=self.metrics,
            clock=self.clock,
            now_us=self.now_us,
            holes_are_lost=live.compacted,
        )
        transaction.open()
        assignment.subscribe()
        return ScoringLoop(
            consumer=consumer,
            drain=drain,
            assignment=assignment,
            sealer=sealer,
            in_flight=in_flight,
            pool=workers.pool,
            transaction=transaction,
            recorder=recorder,
            spans=spans,
            progress=self._make_progress(assignment),
            metrics=self.metrics,
            pulse=self._pulse,
            same_topic=live.check,
            stopping=self.stopping,
            clock=self.clock,
            exit_when_idle=options.exit_when_idle,
        )

    def _make_sealer(self, rate: float, spans: ScoreSpans) -> Sealer:
        return Sealer(
            self.settings.score,
            rate,
            no_sampling=self.options.no_sampling,
            now=self.clock(),
            now_us=self.now_us,
            remember_traces=spans.remember,
        )

    def _make_transaction(self, in_flight: WindowsInFlight) -> WindowTransaction:
        return WindowTransaction(
            settings=self.settings,
            topics=self._names,
            deployment=self.options.deployment,
            member=self.options.member,
            group=self.options.group(self._names),
            clock=self.clock,
            stopping=self.stopping,
            # The workers continue while a transaction waits for the broker; no partition can be revoked before the next
            # poll.
            while_waiting=lambda seconds: in_flight.step(self.clock(), seconds),
        )

    def _make_resumption(self, workers: ReadyWorkers, live: LiveTopic) -> Resumption:
        return Resumption(
            self.settings,
            self.options,
            names=self._names,
            live=live,
            model=workers.pool.model.artefact,
            policy=policy_hash(self.settings.score, self.options.no_sampling),
            stopping=self.stopping,
            now_us=self.now_us,
        )

    def _make_progress(self, assignment: Assignment) -> PartitionProgress:
        return PartitionProgress(
            self.settings,
            self._names.live,
            gauges=self.metrics.by_partition,
            log=log,
            positions=assignment.positions,
            clock=self.clock,
        )

    def _announce(self, workers: ReadyWorkers) -> None:
        model = workers.pool.model
        log.info(
            "scoring",
            deployment=self.options.deployment,
            role=self.options.role,
            model=model.name,
            sha256=model.sha256[:12],
            sandbox=dict(workers.pool.sandbox),
        )


def _strategy(settings: Settings) -> dict[str, Any]:
    """Return the property for cooperative rebalancing, which the newer group protocol has built in and refuses."""
    if settings.kafka.properties.get("group.protocol", "classic").lower() == "consumer":
        return {}
    given = settings.kafka.properties.get("partition.assignment.strategy", "cooperative-sticky")
    if given != "cooperative-sticky":
        # librdkafka ends the process if partitions of an eager strategy are assigned incrementally.
        raise ConfigurationError(f"the scorer needs partition.assignment.strategy=cooperative-sticky, not {given}")
    return {"partition.assignment.strategy": given}
