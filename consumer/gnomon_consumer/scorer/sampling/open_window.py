"""The open window of one source partition: a contiguous range of offsets, its strata and its ledger. No I/O.

A window belongs to one assignment of its partition and is dropped with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

from gnomon_consumer.scorer.sampling.reservoir import Reservoir, Sample
from gnomon_schemas.records import NO_STRATUM, OTHER_STRATUM

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class AssignmentToken:
    """One assignment of one partition. Compared by identity: a partition that is assigned again gets another token."""

    partition: int


class Caps:
    """The cap of every open reservoir: M divided by the number of cells seen, so it only shrinks within a tick."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._cells = 0

    def another(self) -> int:
        """Count one more cell and return the new cap of all cells, at least two."""
        self._cells += 1
        return self.current

    @property
    def current(self) -> int:
        """Return floor(M / cells), at least two."""
        return max(2, self._rows // max(1, self._cells))


@dataclass(slots=True, kw_only=True)
class OpenWindow(Generic[T]):
    """Captures `[start, next_offset)` of one partition, counted by stratum; times in microseconds since the epoch.

    Offsets without a capture may lie between them: markers and aborted records of transactions. `lost` counts removed
    captures. `traces`: the `traceparent` of some captures by offset.
    """

    owner: AssignmentToken
    start: int
    opened_at: int
    caps: Caps
    max_strata: int
    strata: dict[str, Reservoir[T]] = field(default_factory=dict)
    next_offset: int = field(init=False)
    seen: int = 0
    lost: int = 0
    bytes_seen: int = 0
    traces: dict[int, bytes] = field(default_factory=dict)
    first: T | None = None
    last: T | None = None

    def __post_init__(self) -> None:
        self.next_offset = self.start

    @property
    def partition(self) -> int:
        """Return the source partition."""
        return self.owner.partition

    def add_captures(self, captures: Sample[T], size: int, strata: Sequence[str] | None = None) -> None:
        """Count captures at ascending offsets, `size` bytes together; `strata` is the stratum of each, if any.

        Raises ValueError if an offset was read before.
        """
        offset = int(captures.offsets[0])
        if offset < self.next_offset:
            raise ValueError(f"offset {offset} where {self.next_offset} was expected")
        self.next_offset = int(captures.offsets[-1]) + 1
        self.seen += len(captures)
        self.bytes_seen += size
        if self.first is None:
            self.first = captures.payloads[0]
        self.last = captures.payloads[-1]
        if strata is None:
            self._reservoir(NO_STRATUM).offer(captures)
            return
        places: dict[str, list[int]] = {}
        for place, stratum in enumerate(strata):
            places.setdefault(stratum, []).append(place)
        for stratum, those in places.items():
            self._reservoir(stratum).offer(captures.select(np.array(those)))

    def reach(self, end: int) -> None:
        """Record that no capture is between the last one and the offset `end`."""
        self.next_offset = max(self.next_offset, end)

    def _reservoir(self, stratum: str) -> Reservoir[T]:
        reservoir = self.strata.get(stratum)
        if reservoir is None and len(self.strata) >= self.max_strata and stratum != NO_STRATUM:
            stratum = OTHER_STRATUM
            reservoir = self.strata.get(stratum)
        if reservoir is None:
            reservoir = self.strata[stratum] = Reservoir(self.caps.another())
        return reservoir

    def shrink(self) -> None:
        """Apply the current cap to every stratum, before it keeps more captures than the budget of rows allows."""
        for reservoir in self.strata.values():
            reservoir.shrink(self.caps.current)
