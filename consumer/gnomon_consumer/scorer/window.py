"""The open window of one source partition: a contiguous range of offsets, its strata and its ledger. No I/O.

A window belongs to the ownership of its partition (one assignment of a rebalance) and dies with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from gnomon_consumer.scorer.sampler import NO_STRATUM, OTHER, Rank, Reservoir

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Ownership:
    """One assignment of one partition. Compared by identity: a partition that comes back is another ownership."""

    partition: int


class Caps:
    """The cap of every open reservoir: M shared equally over the cells seen so far, so it only shrinks in a tick."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._cells = 0

    def another(self) -> int:
        """Count one more cell and return the cap that now holds for all of them, at least two."""
        self._cells += 1
        return self.current

    @property
    def current(self) -> int:
        """floor(M / cells), at least two."""
        return max(2, self._rows // max(1, self._cells))


@dataclass(slots=True)
class OpenWindow(Generic[T]):
    """Captures `[start, next_offset)` of one partition, counted by stratum; times in microseconds since the epoch."""

    owner: Ownership
    start: int
    opened_at: int
    caps: Caps
    max_strata: int
    strata: dict[str, Reservoir[T]] = field(default_factory=dict)
    next_offset: int = field(init=False)
    seen: int = 0
    bytes_seen: int = 0
    first: T | None = None
    last: T | None = None

    def __post_init__(self) -> None:
        self.next_offset = self.start

    @property
    def partition(self) -> int:
        """The source partition."""
        return self.owner.partition

    def add(self, offset: int, request_id: bytes, stratum: str, size: int, payload: T, rank: Rank) -> None:
        """Count one capture; raises ValueError where its offset is not the next one (the caller records the gap)."""
        if offset != self.next_offset:
            raise ValueError(f"offset {offset} where {self.next_offset} was due")
        self.next_offset = offset + 1
        self.seen += 1
        self.bytes_seen += size
        if self.first is None:
            self.first = payload
        self.last = payload
        reservoir = self.strata.get(stratum)
        if reservoir is None:
            reservoir = self._reservoir(stratum)
        reservoir.offer(rank(request_id), request_id, offset, payload)

    def _reservoir(self, stratum: str) -> Reservoir[T]:
        if len(self.strata) >= self.max_strata and stratum != NO_STRATUM:
            stratum = OTHER
        reservoir = self.strata.get(stratum)
        if reservoir is None:
            reservoir = self.strata[stratum] = Reservoir(self.caps.another())
        return reservoir

    def shrink(self) -> None:
        """Apply the cap of the moment to every stratum, before more is kept than the budget of rows allows."""
        for reservoir in self.strata.values():
            reservoir.shrink(self.caps.current)


@dataclass(frozen=True, slots=True)
class Tally:
    """Outcomes of the sampled rows of one cell."""

    scored: int = 0
    failed: int = 0
    timed_out: int = 0
    dead_lettered: int = 0


def tally(statuses: Sequence[str]) -> Tally:
    """Count outcomes; raises ValueError on one that the ledger has no bucket for."""
    counts = {"scored": 0, "failed": 0, "timed_out": 0, "dead_lettered": 0}
    for status in statuses:
        if status not in counts:
            raise ValueError(f"no bucket for {status!r}")
        counts[status] += 1
    return Tally(**counts)
