"""The conditions under which the open windows seal. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SealPolicy:
    """The conditions under which the open windows seal, in seconds, captures and bytes seen."""

    window_seconds: float
    min_window_seconds: float
    max_captures: int
    max_bytes: int

    def reason(self, age: float, seen: int, bytes_seen: int, idle: bool, covered: bool) -> str | None:
        """Return the close reason if the windows must seal now, else None.

        `idle`: no sampled row waits for a worker; `covered`: the tokens cover every open capture. Then nothing is
        gained by waiting, so a window seals as soon as it reaches its minimum age.
        """
        if age >= self.window_seconds:
            return "time"
        if seen <= 0:
            return None  # so far the window holds only markers of transactions, and no capture waits for its seal
        if seen >= self.max_captures:
            return "count"
        if bytes_seen >= self.max_bytes:
            return "bytes"
        if idle and covered and age >= self.min_window_seconds:
            return "idle"
        return None
