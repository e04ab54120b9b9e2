"""Stratified bottom-k sampling by keyed hash, and the allocation of a budget over cells. No I/O, no clock.

The rank of a capture is a 63-bit hash (XXH3) of request id and seed: uniform, and the same on every machine. A cell
keeps the captures with the smallest ranks, so its inclusion probability is exact: pi = draw_probability * sampled /
seen (random-sort reservoir sampling, Sunter 1977; bottom-k sketches, Cohen and Kaplan 2007).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from gnomon_consumer.scorer.captures import chained, picked
from gnomon_schemas.arrays import Indices

T = TypeVar("T")

Entry = tuple[int, bytes, int, T]
"""Rank, request id, offset, payload. Equal ranks are ordered by request id, equal ids by offset."""


@dataclass(frozen=True, slots=True)
class Sample(Generic[T]):
    """Captures of one cell as columns, in the order of their arrival; iterated as entries."""

    ranks: NDArray[np.int64]
    request_ids: Sequence[bytes]
    offsets: NDArray[np.int64]
    payloads: Sequence[T]

    def __len__(self) -> int:
        return len(self.request_ids)

    def __iter__(self) -> Iterator[Entry[T]]:
        return zip(self.ranks.tolist(), self.request_ids, self.offsets.tolist(), self.payloads, strict=True)

    def select(self, places: Indices) -> "Sample[T]":
        """Return the captures at these indices."""
        return Sample(
            self.ranks[places],
            picked(self.request_ids, places),
            self.offsets[places],
            picked(self.payloads, places),
        )

    def by_rank(self) -> Indices:
        """Return the indices in order of rank."""
        order = np.argsort(self.ranks, kind="stable")
        ranks = self.ranks[order]
        if (ranks[1:] == ranks[:-1]).any():
            ranks, ids, offsets = self.ranks, self.request_ids, self.offsets
            return np.array(sorted(order.tolist(), key=lambda at: (ranks[at], ids[at], offsets[at])), np.int64)
        return order

    def smallest(self, k: int) -> tuple[Indices, int]:
        """Return the indices of the `k` captures with the smallest ranks, ascending, and the next rank; 0 < k < n.

        Without equal ranks at the cut, they are found by a selection, which takes a tenth of the sort's time.
        """
        ends = np.partition(self.ranks, (k - 1, k))
        if ends[k - 1] < ends[k]:
            return np.flatnonzero(self.ranks < ends[k]), int(ends[k])
        return np.sort(self.by_rank()[:k]), int(ends[k])


def joined(samples: "Sequence[Sample[T]]") -> Sample[T]:
    """Return all captures of some samples."""
    if len(samples) == 1:
        return samples[0]
    none = [np.empty(0, np.int64)]
    return Sample(
        np.concatenate([sample.ranks for sample in samples] or none),
        chained(sample.request_ids for sample in samples),
        np.concatenate([sample.offsets for sample in samples] or none),
        chained(sample.payloads for sample in samples),
    )


class Reservoir(Generic[T]):
    """The captures of one cell with the smallest ranks: at most `cap`, which may only shrink.

    Captures are appended and cut to the cap when they exceed twice the cap; this is faster than a heap and keeps the
    same captures.
    """

    __slots__ = ("_kept", "_parts", "cap", "cut", "seen")

    def __init__(self, cap: int) -> None:
        self.cap = cap
        self.seen = 0
        self.cut: int | None = None  # the smallest rank that was dropped so far
        self._parts: list[Sample[T]] = []
        self._kept = 0

    def offer(self, captures: Sample[T]) -> None:
        """Count captures and keep those whose rank is among the smallest."""
        self.seen += len(captures)
        if self.cut is not None:
            captures = captures.select(np.flatnonzero(captures.ranks <= self.cut))
        if len(captures):
            self._parts.append(captures)
            self._kept += len(captures)
        if self._kept >= 2 * self.cap + 64:
            self.trim()

    def shrink(self, cap: int) -> None:
        """Lower the cap; ignore a higher one, because dropped captures do not come back."""
        self.cap = min(self.cap, cap)

    def trim(self) -> Sample[T]:
        """Cut to the cap and return what is kept."""
        kept = joined(self._parts)
        if len(kept) > self.cap:
            kept, first_out = _smallest(kept, self.cap)
            self.cut = first_out if self.cut is None else min(self.cut, first_out)
        self._parts, self._kept = [kept], len(kept)
        return kept

    @property
    def held(self) -> int:
        """Return how many captures can be sampled: min(seen, cap)."""
        return min(self.seen, self.cap)

    def smallest(self, k: int) -> tuple[Sample[T], int | None]:
        """Return the `k` captures with the smallest ranks, and the first rank left out (None if none was)."""
        kept = self.trim()
        return _smallest(kept, k) if k < len(kept) else (kept, self.cut)


def _smallest(sample: Sample[T], k: int) -> tuple[Sample[T], int]:
    """Return the `k` smallest, `k` being less than their number, and the rank of the next."""
    places, next_rank = sample.smallest(k)
    return sample.select(places), next_rank


def merged(reservoirs: "list[Reservoir[T]]") -> Reservoir[T]:
    """Return the reservoir of the union. Its cap is the smallest effective cap: below that it is the exact bottom-k."""
    cutting = [item.cap for item in reservoirs if item.seen > item.cap]
    union: Reservoir[T] = Reservoir(min(cutting) if cutting else sum(item.cap for item in reservoirs))
    union._parts = [item.trim() for item in reservoirs]
    union.cut = min((item.cut for item in reservoirs if item.cut is not None), default=None)
    union.seen = sum(item.seen for item in reservoirs)
    union.trim()
    return union


Strata = Mapping[str, Reservoir[T]]
