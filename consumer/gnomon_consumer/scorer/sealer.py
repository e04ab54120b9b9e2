"""Open windows, and their seal: when, with which budget, and which captures. The clock is an argument."""

import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from confluent_kafka import Message

from gnomon_consumer.scorer.breaker import Breaker
from gnomon_consumer.scorer.lag import RateEstimate, SealPolicy, TokenBucket
from gnomon_consumer.scorer.outcomes import Row
from gnomon_consumer.scorer.pool import Finished
from gnomon_consumer.scorer.sampler import NO_STRATUM, SealedCell, ranker, seal
from gnomon_consumer.scorer.tick import SealedWindow, Tick
from gnomon_consumer.scorer.window import Caps, OpenWindow, Ownership
from gnomon_consumer.settings import ScoreSettings
from gnomon_schemas.codec import peek
from gnomon_schemas.errors import DecodeError
from gnomon_schemas.records import CloseReason, Gap, SamplingLimit

# Smaller batches, and probes that do not take long, say more about overhead than about the model.
_RATE_ROWS, _RATE_SECONDS, _PROBE_SECONDS = 64, 0.05, 0.5


class Sealer:
    """The open windows of all partitions, sealed together with one budget.

    `first_rate`: what the warm-up measured, rows a second of the whole pool.
    """

    def __init__(
        self,
        settings: ScoreSettings,
        first_rate: float,
        no_sampling: bool,
        now: float,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._settings = settings
        self._no_sampling = no_sampling
        self._now_us = now_us
        ceiling = settings.budget_rows_per_second or float("inf")
        self.rate = RateEstimate(first_rate, ceiling)
        self.bucket = TokenBucket(settings.efficiency, settings.window_seconds, min(first_rate, ceiling), now)
        self.breaker = Breaker(cooldown=settings.breaker_seconds)
        self.open: dict[int, OpenWindow[Message]] = {}
        self.position_lag = 0.0
        self._rank = ranker(settings.seed)
        self._policy = SealPolicy(
            settings.window_seconds, settings.min_window_seconds, settings.window_captures, settings.window_bytes
        )
        self._opened_at = now
        self._caps = Caps(settings.reservoir_rows)

    def add(self, owner: Ownership, offset: int, message: Message, now: float) -> None:
        """Count one capture; nothing of it is decoded."""
        window = self.open.get(owner.partition)
        if window is None:
            window = self._open(owner, offset, now)
        key = message.key() or b""
        key = key if isinstance(key, bytes) else key.encode()
        window.add(offset, key, _stratum(message), len(message), message, self._rank)

    def _open(self, owner: Ownership, offset: int, now: float) -> OpenWindow[Message]:
        if not self.open:
            self._opened_at = now
            self._caps = Caps(self._settings.reservoir_rows)
        window: OpenWindow[Message] = OpenWindow(owner, offset, self._now_us(), self._caps, self._settings.max_strata)
        self.open[owner.partition] = window
        return window

    def observe(self, finished: Finished) -> None:
        """Learn the scoring rate from a finished batch."""
        rows = len(finished.scored)
        slow = finished.seconds >= (_PROBE_SECONDS if finished.job.single else _RATE_SECONDS)
        if slow or (rows >= _RATE_ROWS and not finished.job.single):
            self.rate.observe(rows * self._settings.workers, finished.seconds)

    def due(self, now: float, idle: bool) -> CloseReason | None:
        """Why the open windows seal now, or None; `idle`: no sealed row waits for a worker."""
        self.bucket.refill(now, self.rate.rows_per_second)
        if not self.open:
            return None
        seen = sum(window.seen for window in self.open.values())
        size = sum(window.bytes_seen for window in self.open.values())
        covered = self._no_sampling or self.bucket.tokens >= seen
        reason: Any = self._policy.reason(now - self._opened_at, seen, size, idle, covered)
        result: CloseReason | None = reason
        return result

    def seal(self, reason: CloseReason, now: float, queued: int) -> Tick:
        """Sample all open windows with one budget; `queued` sampled rows are still unscored."""
        tick_id = str(uuid.uuid4())
        seen = sum(window.seen for window in self.open.values())
        affordable = seen if self._no_sampling else self.bucket.budget(seen, queued)
        budget = self.breaker.limit(affordable, now)
        limit = self._limit(seen, affordable, budget, queued)
        for window in self.open.values():
            window.shrink()
        sampled = seal(
            {partition: window.strata for partition, window in self.open.items()},
            budget,
            self._settings.allocation,
            lambda partition: self._rank(f"{tick_id}/{partition}".encode()),
        )
        tick = Tick([], now + self._settings.deadline_seconds, tick_id)
        for partition, window in self.open.items():
            sealed = self._sealed(window.owner, window.start, window.next_offset, window.opened_at, reason)
            sealed.first_captured_at = _captured_at(window.first)
            sealed.last_captured_at = _captured_at(window.last)
            sealed.fill([_with_rows(cell, partition) for cell in sampled[partition]])
            sealed.limited_by = limited_by(window.seen, sealed.open_rows, sampled[partition], limit)
            tick.windows.append(sealed)
        self.bucket.spend(tick.open_rows)
        self.open = {}
        return tick

    def _limit(self, seen: int, affordable: int, budget: int, queued: int) -> SamplingLimit | None:
        """What keeps the windows that seal now from sampling all that they saw."""
        if budget < affordable or self.breaker.state != "closed":
            return "breaker"
        if affordable >= seen:
            return None
        if self.bucket.shortage(queued) == "queue":
            return "queue"
        return "catch_up" if self.position_lag > self._settings.window_seconds else "budget"

    def gap(self, owner: Ownership, start: int, end: int, reason: str, now: float) -> Tick:
        """A window that only says that [start, end) can never be read."""
        window = self._sealed(owner, start, end, self._now_us(), "idle")
        window.gap = Gap(reason, end - start)
        return Tick([window], now + self._settings.deadline_seconds)

    def _sealed(self, owner: Ownership, start: int, end: int, opened_at: int, reason: CloseReason) -> SealedWindow:
        lag = self.position_lag
        return SealedWindow(owner, str(uuid.uuid4()), start, end, opened_at, self._now_us(), None, None, reason, lag)


def limited_by(
    seen: int, sampled: int, cells: Sequence[SealedCell[Any]], limit: SamplingLimit | None
) -> SamplingLimit | None:
    """Why one window did not sample all that it saw, `limit` being what all of its tick were limited by."""
    if limit != "breaker" and any(0 < cell.draw_probability < 1 for cell in cells):
        return "over_capacity"  # drawn or not: its rows stand for the partitions that were not
    if sampled >= seen:
        return None
    return limit or "reservoir"


def _stratum(message: Message) -> str:
    headers: Any = message.headers()
    for name, value in headers or ():
        if name == "stratum" and value:
            return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return NO_STRATUM


def _captured_at(message: Message | None) -> int | None:
    if message is None:
        return None
    try:
        return peek(_bytes(message.value())).captured_at
    except DecodeError:
        return None


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else b"" if value is None else str(value).encode()


def _with_rows(cell: Any, partition: int) -> SealedCell[Row]:
    """The sampled messages of a cell as rows: only now are their bytes taken."""
    probability = cell.inclusion_probability
    stratum = None if cell.stratum == NO_STRATUM else cell.stratum
    cell.entries[:] = [
        (rank, key, offset, Row(partition, offset, key, _bytes(message.value()), stratum, rank, probability))
        for rank, key, offset, message in cell.entries
    ]
    result: SealedCell[Row] = cell
    return result
