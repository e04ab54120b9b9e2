"""Open windows, and their seal: the time, the budget, and the sampled captures. The clock is an argument."""

import sys
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from confluent_kafka import Message
from numpy.typing import NDArray

from gnomon_consumer.scorer.sampling.allocation import SealedCell, seal
from gnomon_consumer.scorer.sampling.breaker import Breaker
from gnomon_consumer.scorer.sampling.budget import RateEstimate, TokenBucket
from gnomon_consumer.scorer.sampling.open_window import AssignmentToken, Caps, OpenWindow
from gnomon_consumer.scorer.sampling.ranks import ranker_of_many
from gnomon_consumer.scorer.sampling.reservoir import Sample
from gnomon_consumer.scorer.sealed.sampled_rows import SampledRows
from gnomon_consumer.scorer.sealed.seal_policy import SealPolicy
from gnomon_consumer.scorer.sealed.window import Seal, SealedWindow, Tick, policy_hash
from gnomon_consumer.settings import ScoreSettings
from gnomon_consumer.times import now_us
from gnomon_schemas.codec import peek
from gnomon_schemas.errors import DecodeError
from gnomon_schemas.records import NO_STRATUM, OTHER_STRATUM, CloseReason, Gap, SamplingLimit

# Smaller batches and short probes measure overhead rather than the model.
_RATE_ROWS, _RATE_SECONDS, _PROBE_SECONDS = 64, 0.05, 0.5

MAX_STRATUM = 200
"""Characters. Each cell of a seal and each of its outcomes contains its stratum; a longer stratum counts as `other`."""


Remember = Callable[[dict[int, bytes], NDArray[np.int64], Sequence[Message]], object]
"""A function that adds the traces of captures to those of an open window, by offset."""


class ReadingPosition(NamedTuple):
    """Where a partition is read: the owner, the next offset, and the clock's seconds."""

    owner: AssignmentToken
    next_offset: int
    now: float


class Sealer:
    """The open windows of all partitions, sealed together with one budget.

    `first_rate`: the rate measured by the warm-up, rows a second of the whole pool. `remember_traces` is called with
    each capture.
    """

    def __init__(
        self,
        settings: ScoreSettings,
        first_rate: float,
        *,
        no_sampling: bool,
        now: float,
        now_us: Callable[[], int] = now_us,
        remember_traces: Remember = lambda _traces, _offsets, _messages: None,
    ) -> None:
        self._settings = settings
        self._no_sampling = no_sampling
        self._policy_hash = policy_hash(settings, no_sampling)
        self._now_us = now_us
        self._remember = remember_traces
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

    def add_messages(self, position: ReadingPosition, offsets: NDArray[np.int64], messages: Sequence[Message]) -> None:
        """Count captures at ascending offsets, without decoding them."""
        window = self._window(position)
        keys, values = _all_bytes(map(Message.key, messages)), _all_bytes(map(Message.value, messages))
        captures = Sample(self._ranks(keys), keys, offsets, values)
        window.add_captures(captures, sum(map(len, values)), _strata(messages))
        self._remember(window.traces, offsets, messages)

    def observe_lag(self, seconds: float) -> None:
        """Record the age of the last capture that was read; a clock that is behind the producer's gives 0."""
        self.position_lag = max(0.0, seconds)

    def reach(self, position: ReadingPosition, end: int) -> None:
        """Record that no capture is between the next offset and the offset `end`."""
        self._window(position).reach(end)

    def lose(self, position: ReadingPosition, count: int) -> None:
        """Count captures that were removed from the middle of the log."""
        self._window(position).lost += count

    def _window(self, position: ReadingPosition) -> OpenWindow[bytes]:
        return self.open.get(position.owner.partition) or self._open(*position)

    def _open(self, owner: AssignmentToken, offset: int, now: float) -> OpenWindow[bytes]:
        if not self.open:
            self._opened_at = now
            self._caps = self._new_caps()
        window: OpenWindow[bytes] = OpenWindow(
            owner=owner, start=offset, opened_at=self._now_us(), caps=self._caps, max_strata=self._settings.max_strata
        )
        self.open[owner.partition] = window
        return window

    def _new_caps(self) -> Caps:
        return Caps(sys.maxsize if self._no_sampling else self._settings.reservoir_rows)

    def drop_unowned(self, owns: Callable[[AssignmentToken], bool]) -> None:
        """Abandon the open windows of partitions that this member no longer owns."""
        self.open = {partition: window for partition, window in self.open.items() if owns(window.owner)}

    def is_full(self, queued: int) -> bool:
        """Return whether reading must wait for the workers: without sampling, only this bounds the memory."""
        held = queued + sum(window.seen for window in self.open.values())
        return self._no_sampling and held >= self._settings.reservoir_rows

    def observe(self, rows: int, seconds: float, single: bool) -> None:
        """Learn the scoring rate from a batch of `rows` that took `seconds`; `single`: scored one at a time."""
        slow = seconds >= (_PROBE_SECONDS if single else _RATE_SECONDS)
        if slow or (rows >= _RATE_ROWS and not single):
            self.rate.observe(rows * self._settings.workers, seconds)

    def due(self, now: float, idle: bool) -> CloseReason | None:
        """Return why the open windows seal now, or None; `idle`: no sealed row waits for a worker."""
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
            window_id, cells = str(uuid.uuid4()), sampled[partition]
            sample = SampledRows.of(
                partition,
                window_id,
                cells,
                probe_rows=self._settings.probe_rows,
                allocation=self._settings.allocation,
            )
            sealed = Seal(
                owner=window.owner,
                window_id=window_id,
                start=window.start,
                end=window.next_offset,
                opened_at=window.opened_at,
                sealed_at=self._now_us(),
                first_captured_at=_captured_at(window.first),
                last_captured_at=_captured_at(window.last),
                reason=reason,
                lag_s=self.position_lag,
                gap=Gap("hole", window.lost) if window.lost else None,
                limited_by=limited_by(window.seen, sample.open, cells, limit),
            )
            tick.windows.append(SealedWindow(sealed, sample, traces=window.traces))
        self.bucket.spend(tick.open_rows)
        self.open = {}
        return tick

    def _limit(self, seen: int, affordable: int, budget: int, queued: int) -> SamplingLimit | None:
        """Return what keeps the windows that seal now from sampling every capture."""
        if budget < affordable or self.breaker.state != "closed":
            return "breaker"
        if affordable >= seen:
            return None
        if self.bucket.shortage(queued) == "queue":
            return "queue"
        return "catch_up" if self.position_lag > self._settings.window_seconds else "budget"

    def gap(self, owner: AssignmentToken, start: int, end: int, reason: str, now: float) -> Tick:
        """Return a window that records only that [start, end) can never be read."""
        sealed = Seal(
            owner=owner,
            window_id=str(uuid.uuid4()),
            start=start,
            end=end,
            opened_at=self._now_us(),
            sealed_at=self._now_us(),
            reason="idle",
            lag_s=self.position_lag,
            gap=Gap(reason, end - start),
        )
        window = SealedWindow(sealed, SampledRows.none(owner.partition))
        return self._tick([window], now, str(uuid.uuid4()))

    def _tick(self, windows: list[SealedWindow], now: float, tick_id: str) -> Tick:
        return Tick(
            windows=windows,
            deadline=now + self._settings.deadline_seconds,
            seed=self._settings.seed,
            policy=self._policy_hash,
            tick_id=tick_id,
        )


def limited_by(
    seen: int, sampled: int, cells: Sequence[SealedCell[Any]], limit: SamplingLimit | None
) -> SamplingLimit | None:
    """Return why one window did not sample every capture; `limit` is the limit of its whole tick."""
    if limit != "breaker" and any(0 < cell.draw_probability < 1 for cell in cells):
        return "over_capacity"  # drawn or not: its rows represent the partitions that were not drawn
    if sampled >= seen:
        return None
    return limit or "reservoir"


def _strata(messages: Sequence[Message]) -> list[str] | None:
    """Return the stratum of each message, None if no message has one."""
    headers: list[Any] = list(map(Message.headers, messages))
    if not any(headers):
        return None
    strata = [_stratum(one) for one in headers]
    return strata if any(strata) else None


def _stratum(headers: Any) -> str:
    for name, value in headers or ():
        if name == "stratum" and value:
            text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
            return text if len(text) <= MAX_STRATUM else OTHER_STRATUM
    return NO_STRATUM


def _captured_at(value: bytes | None) -> int | None:
    try:
        return None if value is None else peek(value).captured_at
    except DecodeError:
        return None


def _all_bytes(texts: Iterable[Any]) -> list[bytes]:
    """Return keys or values of messages; one that is missing is empty."""
    listed = list(texts)
    return [text or b"" for text in listed] if None in listed else listed
