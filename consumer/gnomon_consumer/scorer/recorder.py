"""Counts of committed windows: metrics, outcomes for the breaker, and the recent number of unreadable captures."""

from collections import deque
from collections.abc import Callable

import numpy as np

from gnomon_consumer.runtime.logging import get_logger
from gnomon_consumer.runtime.metrics import ScorerMetrics
from gnomon_consumer.scorer.outcomes import STATUSES
from gnomon_consumer.scorer.sealed.sealer import Sealer
from gnomon_consumer.scorer.sealed.window import SealedWindow, Tick
from gnomon_schemas.codec import Reader
from gnomon_schemas.errors import GnomonError
from gnomon_schemas.store import packaged_schemas
from gnomon_schemas.topics import Topics

_POISON_SECONDS = 60.0
_BAD = np.array([status in ("failed", "timed_out") for status in STATUSES])
log = get_logger("score")


class PoisonError(GnomonError):
    """Too many captures cannot be read: the producers, or the schemas, are broken."""


class CommitRecorder:
    """Counts windows as they are committed; `poison_limit`: dead letters in a minute that are an error."""

    def __init__(
        self, sealer: Sealer, metrics: ScorerMetrics, *, poison_limit: int, names: Topics, now_us: Callable[[], int]
    ) -> None:
        self._sealer = sealer
        self._metrics = metrics
        self._poison_limit = poison_limit
        self._names = names
        self._now_us = now_us
        self._poison: deque[float] = deque()
        self._breaker = sealer.breaker.state
        self._last_failed = b""
        self.windows = 0
        self.rows = 0

    def count(self, tick: Tick, now: float) -> None:
        """Count a committed tick; raises PoisonError."""
        seen = sampled = dead = failed = 0
        for window in tick.windows:
            sample = window.sample
            tally = sample.tally()
            if tally.failed + tally.timed_out:
                self._last_failed = sample.messages[int(np.flatnonzero(_BAD[sample.codes])[-1])]
            seen += window.seen
            sampled += len(sample.rows)
            dead += tally.dead_lettered
            failed += tally.failed + tally.timed_out
            self._metrics.windows(window.seal.reason).inc()
            self._metrics.gaps.inc(window.lost)
            self._metrics.delay.observe(max(0.0, (self._now_us() - window.seal.opened_at) / 1e6))
            for status in STATUSES:
                self._metrics.outcomes(status).inc(getattr(tally, status))
        self.windows += len(tick.windows)
        self.rows += sampled
        self._metrics.seen.inc(seen)
        self._metrics.sampled_out.inc(seen - sampled)
        if seen:
            self._metrics.fraction.set(sampled / seen)
        self._sealer.breaker.observe(sampled - dead - failed, failed, now)
        self._count_poison(dead, tick.windows[-1], now)

    def show(self, in_flight: int, restarts: int) -> None:
        """Set the metrics of the scorer's state, with `in_flight` sealed captures; log a change of the breaker."""
        self._metrics.restarts.set(restarts)
        self._metrics.rate.set(self._sealer.rate.rows_per_second)
        self._metrics.committed_lag.set(in_flight + sum(window.seen for window in self._sealer.open.values()))
        state = self._sealer.breaker.state
        if state != self._breaker:
            log.warning("circuit breaker", state=state, before=self._breaker, last_error=self._last_error())
        self._metrics.breaker.set(state == "open")
        self._breaker = state

    def _last_error(self) -> str:
        """Return the message of the newest outcome that was not a prediction."""
        if not self._last_failed:
            return ""
        error = Reader(packaged_schemas()).decode(self._last_failed).record["error"]
        return f"{error['kind']}: {error['message']}"

    def _count_poison(self, dead: int, window: SealedWindow, now: float) -> None:
        self._poison.extend([now] * dead)
        while self._poison and now - self._poison[0] > _POISON_SECONDS:
            self._poison.popleft()
        if len(self._poison) >= self._poison_limit:
            raise PoisonError(
                f"{len(self._poison)} captures within a minute cannot be read (the last window ends at"
                f" {self._names.live} [{window.owner.partition}] offset {window.seal.end});"
                f" see {self._names.dead_letters}"
            )
