"""Find partitions that have messages to read and make no progress, and members without partitions. No I/O."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

STALLED_S = 30.0
STANDBY = (
    "each partition belongs to one member of the group; with as many other members as partitions, this one stands by."
    " If it has no other members, `gnomon doctor` checks what brokers need for groups"
)
NEWER_PROTOCOL = "brokers before Kafka 4.0 never answer group.protocol=consumer"


@dataclass(frozen=True)
class PartitionPosition:
    """A partition's position: `mark` changes whenever it makes progress, `next_offset` is the next offset to read.

    `work` is true if there is work left, whatever end the broker reports.
    """

    mark: Hashable
    next_offset: int
    work: bool = False


@dataclass
class _Watched:
    mark: Hashable
    moved_at: float
    waiting: bool = False
    named: bool = False


class StallWatch:
    """Compares positions with the ends of their logs; each stall is logged once, and its end too.

    A partition without an end from the broker counts as having messages to read: its leader may be unreachable.
    """

    def __init__(self, log: Any, clock: Callable[[], float], stalled_seconds: float = STALLED_S) -> None:
        self._log = log
        self._clock = clock
        self._stalled_seconds = stalled_seconds
        self._watched: dict[int, _Watched] = {}

    def look(self, positions: Mapping[int, PartitionPosition], ends: Mapping[int, int]) -> None:
        """Compare with the last call; partitions without a position are forgotten."""
        now = self._clock()
        for gone in self._watched.keys() - positions.keys():
            del self._watched[gone]
        for partition, position in positions.items():
            watched = self._watched.setdefault(partition, _Watched(position.mark, now))
            end = ends.get(partition)
            waiting = position.work or end is None or end > position.next_offset
            if position.mark != watched.mark or not (waiting and watched.waiting):
                self._moved(partition, watched, position.mark, now)
            watched.waiting = waiting
            if not watched.named and self.seconds(partition) >= self._stalled_seconds:
                watched.named = True
                self._log.warning(
                    "partition stalled",
                    partition=partition,
                    next_offset=position.next_offset,
                    end="unknown" if end is None else end,
                    seconds=round(now - watched.moved_at),
                )

    def seconds(self, partition: int) -> float:
        """Return how long a partition has had messages without progress; 0 if it progresses, is empty or unknown."""
        watched = self._watched.get(partition)
        return self._clock() - watched.moved_at if watched is not None and watched.waiting else 0.0

    def _moved(self, partition: int, watched: _Watched, mark: Hashable, now: float) -> None:
        if watched.named:
            self._log.info("partition makes progress again", partition=partition, seconds=round(now - watched.moved_at))
        watched.mark, watched.moved_at, watched.named = mark, now, False


class StandbyWatch:
    """Logs once, with the reason, that this member has been without partitions for half a minute."""

    def __init__(self, log: Any, clock: Callable[[], float], reason: str, after_seconds: float = STALLED_S) -> None:
        self._log = log
        self._clock = clock
        self._reason = reason
        self._after_seconds = after_seconds
        self._since: float | None = None
        self._named = False

    def look(self, has_partitions: bool) -> None:
        """Note whether this member has partitions now."""
        now = self._clock()
        if has_partitions:
            self._since, self._named = None, False
            return
        self._since = now if self._since is None else self._since
        if not self._named and now - self._since >= self._after_seconds:
            self._named = True
            self._log.warning("no partitions", seconds=round(now - self._since), reason=self._reason)
