"""The circuit breaker of the model: while it is open, the scorer samples nothing. No I/O; clock as argument."""

from collections import deque
from typing import Literal

BreakerState = Literal["closed", "open", "half_open"]


class Breaker:
    """Closed until too large a share of recent rows fails or times out; then open, then half-open for a trial.

    `share`: the share of failures among the last `rows` outcomes, at least `least` of them, that opens it. `least`
    failures in a row also open it, because a slow model that hangs would take long to reach the share. `cooldown`:
    seconds it stays open at first; doubled by each failed trial, up to `longest`.
    """

    def __init__(
        self,
        *,
        share: float = 0.5,
        rows: int = 1000,
        least: int = 20,
        cooldown: float = 5.0,
        longest: float = 300.0,
        trial_rows: int = 32,
    ) -> None:
        self.state: BreakerState = "closed"
        self.trial_rows = trial_rows
        self._share = share
        self._rows = rows
        self._least = least
        self._first_cooldown = cooldown
        self._cooldown = cooldown
        self._longest = longest
        self._opened_at = 0.0
        self._recent: deque[tuple[int, int]] = deque()
        self._good = self._bad = self._run = 0

    def limit(self, budget: int, now: float) -> int:
        """Return how much of `budget` may be sampled now; move from open to half-open when the cooldown is over."""
        if self.state == "open" and now - self._opened_at >= self._cooldown:
            self.state = "half_open"
        if self.state == "open":
            return 0
        return min(budget, self.trial_rows) if self.state == "half_open" else budget

    def observe(self, good: int, bad: int, now: float) -> None:
        """Count the outcomes of a sealed window that was scored."""
        if good + bad <= 0 or self.state == "open":
            return
        if self.state == "half_open":
            if bad > self._share * (good + bad):
                self._cooldown = min(self._longest, 2 * self._cooldown)
                self._open(now)
            else:
                self._close()
            return
        self._recent.append((good, bad))
        self._good += good
        self._bad += bad
        self._run = 0 if good else self._run + bad
        while len(self._recent) > 1 and self._good + self._bad - sum(self._recent[0]) >= self._rows:
            old_good, old_bad = self._recent.popleft()
            self._good -= old_good
            self._bad -= old_bad
        seen = self._good + self._bad
        if seen >= self._least and (self._bad > self._share * seen or self._run >= self._least):
            self._open(now)

    def _open(self, now: float) -> None:
        self.state = "open"
        self._opened_at = now
        self._forget()

    def _close(self) -> None:
        self.state = "closed"
        self._cooldown = self._first_cooldown
        self._forget()

    def _forget(self) -> None:
        self._recent.clear()
        self._good = self._bad = self._run = 0
