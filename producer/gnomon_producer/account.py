"""The account of what was offered: offered = delivered + dropped(reason) + in flight, at any moment."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

from confluent_kafka import KafkaError

from gnomon_producer.errors import DropReason


@dataclass(frozen=True, slots=True)
class Counts:
    """All counters of an Account at one moment."""

    offered: int
    delivered: int
    dropped: Mapping[str, int]
    _: KW_ONLY
    sampled_out: int
    switched_off: int
    rejected: int = 0

    @property
    def in_flight(self) -> int:
        """Return the number that is neither acknowledged nor abandoned yet."""
        return self.offered - self.delivered - sum(self.dropped.values())


class Account:
    """Counts each thing offered into exactly one bucket.

    The lock is reentrant because a signal handler that drains may interrupt a thread inside it.
    """

    def __init__(self, lost: Callable[[KafkaError, Any], None] = lambda _error, _message: None) -> None:
        """Create an empty one; `lost` is called with each message that could not be delivered."""
        self._lost = lost
        self._lock = threading.RLock()
        self._offered = 0
        self._delivered = 0
        self._dropped: dict[str, int] = {}
        self._apart = {"sampled_out": 0, "switched_off": 0, "rejected": 0}

    def offer(self) -> int:
        """Count one more capture and return its sequence number, from 0."""
        with self._lock:
            sequence = self._offered
            self._offered = sequence + 1
            return sequence

    def drop(self, reason: DropReason) -> None:
        """Count one capture as lost."""
        with self._lock:
            self._dropped[reason] = self._dropped.get(reason, 0) + 1

    def leave_out(self, why: Literal["sampled_out", "switched_off", "rejected"]) -> None:
        """Count one that is deliberately not offered: it takes no sequence number and is not a loss."""
        with self._lock:
            self._apart[why] += 1

    def on_delivery(self, error: KafkaError | None, message: Any) -> None:
        """Handle librdkafka's delivery report."""
        if error is None:
            with self._lock:
                self._delivered += 1
        else:
            self.drop("too_large" if error.code() == KafkaError.MSG_SIZE_TOO_LARGE else "delivery_failed")
            self._lost(error, message)

    def counts(self) -> Counts:
        """Return all counters of one moment."""
        with self._lock:
            return Counts(self._offered, self._delivered, dict(self._dropped), **self._apart)
