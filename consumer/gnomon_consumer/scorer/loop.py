"""The scorer's loop: drain, seal, score, commit. It runs in one thread, which never waits for a worker."""

from collections.abc import Callable
from dataclasses import dataclass

from confluent_kafka import Consumer

from gnomon_consumer.runtime.http import Pulse
from gnomon_consumer.runtime.logging import get_logger
from gnomon_consumer.runtime.metrics import ScorerMetrics
from gnomon_consumer.runtime.progress import PartitionProgress
from gnomon_consumer.scorer.intake.assignment import Assignment
from gnomon_consumer.scorer.intake.drain import CONSUME, Drain
from gnomon_consumer.scorer.pool.pool import Pool
from gnomon_consumer.scorer.recorder import CommitRecorder
from gnomon_consumer.scorer.sealed.in_flight import WindowsInFlight
from gnomon_consumer.scorer.sealed.sealer import Sealer
from gnomon_consumer.scorer.sealed.spans import ScoreSpans
from gnomon_consumer.scorer.sealed.transaction import Uncertain, WindowTransaction
from gnomon_schemas.errors import DependencyUnreachableError

DRAIN_SECONDS = 5.0  # how long a stop waits for outcomes
_BUSY_POLL, _IDLE_POLL = 0.01, 0.05
_WATCH_S = 20.0
log = get_logger("score")


@dataclass(slots=True, kw_only=True, eq=False)
class ScoringLoop:
    """The parts of a running scorer, and the order in which they take turns.

    While the transaction waits for the broker it calls `in_flight.step`, which accepts the workers' results; nothing
    else runs in between. `same_topic` raises ConfigurationError if the live topic was replaced by another of its name.
    `stopping` is called often; the clock gives seconds; `exit_when_idle`: seconds without work, None for never.
    """

    consumer: Consumer
    drain: Drain
    assignment: Assignment
    sealer: Sealer
    in_flight: WindowsInFlight
    pool: Pool
    transaction: WindowTransaction
    recorder: CommitRecorder
    spans: ScoreSpans
    progress: PartitionProgress
    metrics: ScorerMetrics
    pulse: Pulse
    same_topic: Callable[[], None]
    stopping: Callable[[], bool]
    clock: Callable[[], float]
    exit_when_idle: float | None
    _idle_since: float | None = None
    _watch_at: float = 0.0

    def run(self) -> None:
        """Score until stopped or idle; raises GnomonError."""
        while not self.stopping():
            # While workers are busy, wait for their results: a free worker would stay idle during a read.
            busy = self.in_flight.busy
            got = self.drain.read(0.0 if busy else _BUSY_POLL if self.in_flight else _IDLE_POLL)
            self._step(_BUSY_POLL if busy and got < CONSUME else 0.0)
            if self._is_idle(got > 0):
                log.info("idle", seconds=self.exit_when_idle)
                return
        self._finish()

    def _step(self, wait: float) -> None:
        self.pulse.beat()
        self.progress.step()
        now = self.clock()
        reason = self.sealer.due(now, idle=self.in_flight.idle)
        if reason is not None:
            self.in_flight.seal(reason, now)
        self.in_flight.step(now, wait=_BUSY_POLL if self.sealer.is_full(self.in_flight.queued) else wait)
        self._commit()
        self._watch_topic(now)
        self.recorder.show(self.in_flight.captures, self.pool.restarts)

    def _commit(self) -> None:
        """Write the complete ticks at the head of the queue, in order."""
        if not self.in_flight.ready or not self.consumer.memberid():
            # the group has removed this member, and its callback comes with the next poll: until then, write nothing
            return
        ready = self.in_flight.pop_complete(self.assignment.owns, self.transaction.largest_message)
        if not ready:
            return
        try:
            self.same_topic()
            with self.spans.spans_of(ready):
                self.transaction.commit(ready, self.consumer)
        except (Uncertain, DependencyUnreachableError) as reason:
            log.warning("reading positions again", reason=str(reason))
            self.metrics.uncertain.inc()
            self.pulse.fail()
            self.assignment.resume_owned()
            return
        self.pulse.succeed()
        for tick in ready:
            self.recorder.count(tick, self.clock())

    def _watch_topic(self, now: float) -> None:
        """Without work, ask regularly whether the topic was replaced: librdkafka may then read and report nothing."""
        if self.in_flight or self.sealer.open:
            self._watch_at = now + _WATCH_S  # a commit asks
        elif now >= self._watch_at:
            self._watch_at = now + _WATCH_S
            try:
                self.same_topic()
            except DependencyUnreachableError as reason:
                log.warning("waiting for the broker", reason=str(reason))

    def _is_idle(self, got: bool) -> bool:
        limit = self.exit_when_idle
        if limit is None:
            return False
        waiting = self.in_flight or self.sealer.open or not self.assignment.settled
        if got or waiting or not self.drain.at_end():
            self._idle_since = None
            return False
        self._idle_since = self._idle_since or self.clock()
        return self.clock() - self._idle_since >= limit

    def _finish(self) -> None:
        """Stop: seal the open windows if the workers can still score them, commit complete ticks, abandon the rest."""
        deadline = self.clock() + DRAIN_SECONDS
        if self.sealer.open:
            self.in_flight.seal("shutdown", self.clock())
        while self.in_flight and self.clock() < deadline:
            self.in_flight.step(self.clock(), wait=0.05)
            self._commit()
        if self.in_flight:
            log.warning("abandoned", windows=self.in_flight.windows)
