"""The number of rows that may be scored, so that the lag stays bounded with any model. No I/O; clock as argument.

A token bucket of size K = eta * S * W fills with wall time at eta * S rows a second. S is the tenth percentile of
recently measured scoring rates, W the longest life of a window. A seal with Q sampled rows still unscored may sample

    k = max(0, min(n, floor(tokens), K - Q))

so Q never exceeds K, and a sampled row is committed after D + W + K / S_min + D_write seconds at the latest, where D
is the poll interval plus burst / drain rate. With a deadline T_d after sealing, the bound is D + W + T_d + D_write for
any model, even one that hangs.
"""

import math
from collections import deque

_RECENT = 30  # the number of measured rates to remember
_PERCENTILE = 0.1


class RateEstimate:
    """The tenth percentile of recent scoring rates, rows per second; `first` is the rate measured by the warm-up."""

    def __init__(self, first: float, ceiling: float = math.inf) -> None:
        self._recent: deque[float] = deque([first], maxlen=_RECENT)
        self._ceiling = ceiling

    def observe(self, rows: int, seconds: float) -> None:
        """Remember one measured batch: `rows` scored in `seconds` of the whole pool's time."""
        if rows > 0 and seconds > 0:
            self._recent.append(rows / seconds)

    @property
    def rows_per_second(self) -> float:
        """Return the rate to plan with."""
        ordered = sorted(self._recent)
        return min(self._ceiling, ordered[int(_PERCENTILE * (len(ordered) - 1))])


class TokenBucket:
    """The budget of scored rows: `capacity` = eta * S * W tokens at most, eta * S more each second."""

    def __init__(self, efficiency: float, window_seconds: float, rate: float, now: float) -> None:
        self._efficiency = efficiency
        self._window_seconds = window_seconds
        # A bucket below two rows would never fill: nothing would be scored, and no better rate could be measured.
        self._least_rate = 2.0 / (efficiency * window_seconds)
        self._rate = max(rate, self._least_rate)
        self._filled_at = now
        self.tokens = self.capacity

    @property
    def capacity(self) -> float:
        """Return K, in rows."""
        return self._efficiency * self._rate * self._window_seconds

    def refill(self, now: float, rate: float) -> None:
        """Add the tokens of the time since the last call; `rate` is the current S, rows per second."""
        earned = self._efficiency * self._rate * max(0.0, now - self._filled_at)
        self._filled_at = max(now, self._filled_at)
        self._rate = max(rate, self._least_rate)
        self.tokens = min(self.capacity, self.tokens + earned)

    def budget(self, seen: int, queued: int) -> int:
        """Return how many of `seen` captures may be sampled while `queued` sampled rows are still unscored."""
        return max(0, min(seen, math.floor(self.tokens), math.floor(self.capacity - queued)))

    def shortage(self, queued: int) -> str:
        """Return what limits the current budget: `queue` (workers are behind) or `budget` (tokens)."""
        return "queue" if self.capacity - queued < self.tokens else "budget"

    def spend(self, rows: int) -> None:
        """Take the tokens of a seal."""
        self.tokens -= rows
