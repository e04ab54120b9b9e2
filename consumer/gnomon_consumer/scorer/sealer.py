"""Open windows, and their seal: when, with which budget, and which captures. The clock is an argument."""

import sys
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from confluent_kafka import Message

from gnomon_consumer.scorer.breaker import Breaker
from gnomon_consumer.scorer.jobs import Finished
from gnomon_consumer.scorer.lag import RateEstimate, SealPolicy, TokenBucket
from gnomon_consumer.scorer.sampler import NO_STRATUM, Sample, SealedCell, ranker_of_many, seal
from gnomon_consumer.scorer.tick import SealedWindow, Tick, policy_hash
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
        self._policy_hash = policy_hash(settings, no_sampling)
        self._now_us = now_us
        ceiling = settings.budget_rows_per_second or float("inf")
        self.rate = RateEstimate(first_rate, ceiling)
        self.bucket = TokenBucket(settings.efficiency, settings.window_seconds, min(first_rate, ceiling), now)
        self.breaker = Breaker(cooldown=settings.breaker_seconds)
        self.open: dict[int, OpenWindow[bytes]] = {}
        self.position_lag = 0.0
        self._ranks = ranker_of_many(settings.seed)
        self._policy = SealPolicy(
            settings.window_seconds, settings.min_window_seconds, settings.window_captures, settings.window_bytes
        )
        self._opened_at = now
        self._caps = self._new_caps()

    def add(self, owner: Ownership, offset: int, messages: Sequence[Message], now: float) -> None:
        """Count captures of consecutive offsets from `offset` on; nothing of them is decoded."""
        window = self.open.get(owner.partition)
        if window is None:
            window = self._open(owner, offset, now)
        keys, values = _all_bytes(map(Message.key, messages)), _all_bytes(map(Message.value, messages))
        captures = Sample(self._ranks(keys), keys, np.arange(offset, offset + len(messages)), values)
        window.add(captures, sum(map(len, values)), _strata(messages))

    def _open(self, owner: Ownership, offset: int, now: float) -> OpenWindow[bytes]:
        if not self.open:
            self._opened_at = now
            self._caps = self._new_caps()
        window: OpenWindow[bytes] = OpenWindow(owner, offset, self._now_us(), self._caps, self._settings.max_strata)
        self.open[owner.partition] = window
        return window

    def _new_caps(self) -> Caps:
        return Caps(sys.maxsize if self._no_sampling else self._settings.reservoir_rows)

    def keep(self, owns: Callable[[Ownership], bool]) -> None:
        """Abandon the open windows of partitions that are no longer ours."""
        self.open = {partition: window for partition, window in self.open.items() if owns(window.owner)}

    def is_full(self, queued: int) -> bool:
        """Whether reading has to wait for the workers: where nothing is sampled out, that alone bounds the memory."""
        held = queued + sum(window.seen for window in self.open.values())
        return self._no_sampling and held >= self._settings.reservoir_rows

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
            lambda partition: int(self._ranks([f"{tick_id}/{partition}".encode()])[0]),
        )
        tick = self._tick([], now, tick_id)
        for partition, window in self.open.items():
            sealed = self._sealed(window.owner, window.start, window.next_offset, window.opened_at, reason)
            sealed.first_captured_at = _captured_at(window.first)
            sealed.last_captured_at = _captured_at(window.last)
            sealed.fill(sampled[partition])
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
        return self._tick([window], now, str(uuid.uuid4()))

    def _tick(self, windows: list[SealedWindow], now: float, tick_id: str) -> Tick:
        return Tick(windows, now + self._settings.deadline_seconds, self._settings.seed, self._policy_hash, tick_id)

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


def _strata(messages: Sequence[Message]) -> list[str] | None:
    """The stratum of each message, None where none has any."""
    headers: list[Any] = list(map(Message.headers, messages))
    if not any(headers):
        return None
    strata = [_stratum(one) for one in headers]
    return strata if any(strata) else None


def _stratum(headers: Any) -> str:
    for name, value in headers or ():
        if name == "stratum" and value:
            return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return NO_STRATUM


def _captured_at(value: bytes | None) -> int | None:
    try:
        return None if value is None else peek(value).captured_at
    except DecodeError:
        return None


def _all_bytes(texts: Iterable[Any]) -> list[bytes]:
    listed = list(texts)
    return listed if set(map(type, listed)) == {bytes} else [_bytes(text) for text in listed]


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else b"" if value is None else str(value).encode()
