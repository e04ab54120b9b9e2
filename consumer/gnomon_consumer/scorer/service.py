"""The scorer's loop: drain, sample, seal, score, commit. One thread; workers are asked and never waited for."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from gnomon_consumer import kafka
from gnomon_consumer.logs import get_logger
from gnomon_consumer.metrics import Pulse, ScorerMetrics, observed
from gnomon_consumer.scorer.accounts import Accounts
from gnomon_consumer.scorer.assignment import Assignment
from gnomon_consumer.scorer.crew import started
from gnomon_consumer.scorer.drain import CONSUME, Drain
from gnomon_consumer.scorer.flight import Flight
from gnomon_consumer.scorer.gate import SchemaGate
from gnomon_consumer.scorer.options import Options
from gnomon_consumer.scorer.partitions import Partitions
from gnomon_consumer.scorer.rehearsal import rehearsed
from gnomon_consumer.scorer.sealer import Sealer
from gnomon_consumer.scorer.shadowlog import ShadowLog
from gnomon_consumer.scorer.tick import policy_hash
from gnomon_consumer.scorer.writer import Uncertain, Writer
from gnomon_consumer.settings import Settings
from gnomon_schemas.errors import DependencyUnreachableError
from gnomon_schemas.topics import Topics

DRAIN_SECONDS = 5.0  # how long a stop waits for outcomes
_BUSY_POLL, _IDLE_POLL = 0.01, 0.05
log = get_logger("score")


@dataclass
class Scorer:
    """`gnomon score`. `stopping` is asked often; the clock gives seconds, `now_us` the wall clock."""

    settings: Settings
    options: Options
    stopping: Callable[[], bool]
    clock: Callable[[], float] = time.monotonic
    now_us: Callable[[], int] = lambda: time.time_ns() // 1000

    def __post_init__(self) -> None:
        settings, options = self.settings, self.options
        self._names = Topics(settings.require_stream(), settings.topic_prefix)
        policy = policy_hash(settings.score, options.no_sampling)
        self.metrics = ScorerMetrics(self._names.stream, options.deployment)
        self._pulse = Pulse(self.clock)
        self._assignment = Assignment(settings, options, self._names, policy, self.stopping, self.now_us)
        self._idle_since: float | None = None
        self._owned = 0

    def run(self) -> None:
        """Score until stopped; raises GnomonError."""
        self._assignment.prepare(kafka.list_topics(self.settings))
        with (
            observed(self.options.metrics, self.metrics, self._pulse, lambda: self._owned > 0, log),
            ExitStack() as held,
        ):
            self._live(held)

    def _live(self, held: ExitStack) -> None:
        """Start the workers with the newest schema, rehearse, and score."""
        settings, options = self.settings, self.options
        crew = held.enter_context(
            started(settings, options.model, self.stopping, options.allow_network, self.clock, self.now_us)
        )
        if crew is None:
            return
        self._pool = crew.pool
        rate = rehearsed(crew.pool, crew.live, options, settings.score, self.stopping)
        if self.stopping():
            return
        self._connect(crew.gate, rate, held)
        self._score()

    def _connect(self, gate: SchemaGate, rate: float, held: ExitStack) -> None:
        """Put the parts together, with `rate` rows a second to plan with, and join the group."""
        settings, options, names = self.settings, self.options, self._names
        self._sealer = Sealer(settings.score, rate, options.no_sampling, self.clock(), self.now_us)
        self._accounts = Accounts(self._sealer, self.metrics, settings.score.poison_limit, names, self.now_us)
        held.callback(self._say_goodbye)
        shadow = ShadowLog(settings, names.shadow(options.deployment), self.clock)
        held.callback(shadow.close)
        self._consumer = kafka.make_consumer(settings, options.group(names), _strategy(settings))
        held.callback(self._consumer.close)
        self._writer = Writer(
            settings,
            names,
            options.deployment,
            options.member,
            self.clock,
            self.stopping,
            # The workers go on while a transaction waits for the broker; no partition can be lost before the next poll.
            lambda seconds: self._flight.turn(self.clock(), seconds),
        )
        held.callback(self._writer.close)
        self._flight = Flight(self._sealer, self._pool, gate, settings.score, options.model.artefact, self.now_us)
        self._partitions = Partitions(
            self._consumer,
            names.live,
            lambda wanted: self._assignment.resume(self._consumer, wanted, shadow, self._writer),
            lambda: self._flight.keep(self._partitions.owns),
            self.clock,
        )
        self._drain = Drain(
            self._consumer,
            names.live,
            self._partitions,
            self._sealer,
            self._flight,
            settings,
            self.metrics,
            self.clock,
            self.now_us,
        )
        self._writer.open()
        self._partitions.subscribe()

    # --- the loop -----------------------------------------------------------------------------------------------

    def _score(self) -> None:
        model = self.options.model
        log.info(
            "scoring",
            deployment=self.options.deployment,
            role=self.options.role,
            model=model.name,
            sha256=model.sha256[:12],
            sandbox=dict(self._pool.sandbox),
        )
        while not self.stopping():
            # While workers are at work it is their answers that are waited for: one without a job would stand still.
            busy = self._flight.busy
            got = self._drain.read(0.0 if busy else _BUSY_POLL if self._flight else _IDLE_POLL)
            self._turn(_BUSY_POLL if busy and got < CONSUME else 0.0)
            if self._is_idle(got > 0):
                log.info("idle", seconds=self.options.exit_when_idle)
                return
        self._finish()

    def _turn(self, wait: float) -> None:
        self._pulse.turn()
        self._owned = len(self._partitions.owned)
        now = self.clock()
        reason = self._sealer.due(now, idle=self._flight.idle)
        if reason is not None:
            self._flight.seal(reason, now)
        self._flight.turn(now, wait=_BUSY_POLL if self._sealer.is_full(self._flight.queued) else wait)
        self._commit()
        self._accounts.show(self._flight.captures, self._pool.restarts)

    def _commit(self) -> None:
        """Write the complete ticks at the head of the queue, in order."""
        if not self._flight.ready or not self._consumer.memberid():
            return  # the group has dropped us, its callback comes with the next poll: until then we may write nothing
        ready = self._flight.complete(self._partitions.owns)
        if not ready:
            return
        try:
            self._assignment.check_topic()
            self._writer.commit(ready, self._consumer)
        except (Uncertain, DependencyUnreachableError) as reason:
            log.warning("positions are read again", reason=str(reason))
            self.metrics.uncertain.inc()
            self._partitions.again()
            return
        for tick in ready:
            self._accounts.count(tick, self.clock())

    def _is_idle(self, got: bool) -> bool:
        limit = self.options.exit_when_idle
        if limit is None:
            return False
        if got or self._flight or self._sealer.open or not self._partitions.owned or not self._drain.at_end():
            self._idle_since = None
            return False
        self._idle_since = self._idle_since or self.clock()
        return self.clock() - self._idle_since >= limit

    def _finish(self) -> None:
        """Stopped: seal what is open if the workers can still do it, commit what is complete, abandon the rest."""
        deadline = self.clock() + DRAIN_SECONDS
        if self._sealer.open:
            self._flight.seal("shutdown", self.clock())
        while self._flight and self.clock() < deadline:
            self._flight.turn(self.clock(), wait=0.05)
            self._commit()
        if self._flight:
            log.warning("abandoned", windows=self._flight.windows)

    def _say_goodbye(self) -> None:
        log.info("stopped", windows=self._accounts.windows, rows=self._accounts.rows)


def _strategy(settings: Settings) -> dict[str, Any]:
    """Cooperative rebalancing; the newer group protocol has it built in and refuses the property."""
    if settings.kafka.properties.get("group.protocol", "classic").lower() == "consumer":
        return {}
    return {"partition.assignment.strategy": "cooperative-sticky"}
