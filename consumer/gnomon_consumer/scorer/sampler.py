"""Stratified bottom-k sampling by keyed hash, and the allocation of a budget over cells. No I/O, no clock.

The rank of a capture is a 63-bit hash (XXH3) of request id and seed: uniform, and the same on every machine. A cell
keeps the captures with the smallest ranks, so its inclusion probability is exact: pi = draw_probability * sampled /
seen (random-sort reservoir sampling, Sunter 1977; bottom-k sketches, Cohen and Kaplan 2007).
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from gnomon_consumer.scorer.rows import Places, chained, picked

Allocation = Literal["house", "senate", "default"]
Rank = Callable[[bytes], int]
Ranks = Callable[[Sequence[bytes]], NDArray[np.int64]]
T = TypeVar("T")

RANK_BITS = 63
NO_STRATUM = ""
OTHER = "other"
_LEAST = 2  # rows a cell gets at least: one row has no variance, none lets the cell vanish from every estimate


def ranker(seed: int) -> Rank:
    """The rank function of a seed: bytes of a request id -> 0 … 2**63 - 1."""
    ranks = ranker_of_many(seed)
    return lambda request_id: int(ranks([request_id])[0])


def ranker_of_many(seed: int) -> Ranks:
    """The rank function of a seed for many request ids at a time."""
    seeds = itertools.repeat(seed % 2**64)

    def ranks(request_ids: Sequence[bytes]) -> NDArray[np.int64]:
        digests = np.fromiter(map(xxh3_64_intdigest, request_ids, seeds), np.uint64, len(request_ids))
        return (digests >> np.uint64(1)).astype(np.int64)

    return ranks


Entry = tuple[int, bytes, int, T]
"""Rank, request id, offset, payload. Ties of rank fall to the request id, those of one id to the earlier offset."""


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

    def at(self, places: Places) -> "Sample[T]":
        """The captures at these places."""
        return Sample(
            self.ranks[places],
            picked(self.request_ids, places),
            self.offsets[places],
            picked(self.payloads, places),
        )

    def by_rank(self) -> Places:
        """The places in order of rank."""
        order = np.argsort(self.ranks, kind="stable")
        ranks = self.ranks[order]
        if (ranks[1:] == ranks[:-1]).any():
            ranks, ids, offsets = self.ranks, self.request_ids, self.offsets
            return np.array(sorted(order.tolist(), key=lambda at: (ranks[at], ids[at], offsets[at])), np.int64)
        return order


def joined(samples: "Sequence[Sample[T]]") -> Sample[T]:
    """All captures of some samples."""
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

    Kept as they come and cut when they have doubled, which costs less than a heap and keeps the same captures.
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
            captures = captures.at(np.flatnonzero(captures.ranks <= self.cut))
        if len(captures):
            self._parts.append(captures)
            self._kept += len(captures)
        if self._kept >= 2 * self.cap + 64:
            self.trim()

    def shrink(self, cap: int) -> None:
        """Lower the cap; a higher one is ignored, because what was dropped does not come back."""
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
        """How many captures can be sampled: min(seen, cap)."""
        return min(self.seen, self.cap)

    def smallest(self, k: int) -> tuple[Sample[T], int | None]:
        """The `k` captures of the smallest ranks, and the first rank left out (None if nothing was)."""
        kept = self.trim()
        return _smallest(kept, k) if k < len(kept) else (kept, self.cut)


def _smallest(sample: Sample[T], k: int) -> tuple[Sample[T], int]:
    """The `k` smallest, fewer than there are, and the rank of the next."""
    order = sample.by_rank()
    return sample.at(np.sort(order[:k])), int(sample.ranks[order[k]])


def merged(reservoirs: "list[Reservoir[T]]") -> Reservoir[T]:
    """The reservoir of the union. Its cap is the smallest cap that has cut: below that it is the exact bottom-k."""
    cutting = [item.cap for item in reservoirs if item.seen > item.cap]
    union: Reservoir[T] = Reservoir(min(cutting) if cutting else sum(item.cap for item in reservoirs))
    union._parts = [item.trim() for item in reservoirs]
    union.cut = min((item.cut for item in reservoirs if item.cut is not None), default=None)
    union.seen = sum(item.seen for item in reservoirs)
    union.trim()
    return union


def allocate(seen: list[int], held: list[int], budget: int, policy: Allocation) -> list[int]:
    """Share `budget` rows over cells of `seen` captures, of which `held` can still be sampled.

    *house* in proportion to size, *senate* equally, *default* the larger of both, renormalised. Every cell gets at
    least min(2, seen) and at most what is held; what a small cell leaves goes to the others (water-filling), and
    fractions are rounded by largest remainder. The caller sees to it that the budget covers the least of every cell.
    """
    cells = range(len(seen))
    total, count = sum(seen), sum(1 for n in seen if n)
    if not total or budget <= 0:
        return [0 for _ in cells]
    low = [min(_LEAST, n, h) for n, h in zip(seen, held, strict=True)]
    high = [min(n, h) for n, h in zip(seen, held, strict=True)]
    if budget >= sum(high):
        return high
    weights = {
        "house": [n / total for n in seen],
        "senate": [1 / count if n else 0.0 for n in seen],
        "default": [max(n / total, 1 / count) if n else 0.0 for n in seen],
    }[policy]
    filled = _water_fill(weights, low, high, budget)
    whole = [int(share) for share in filled]
    left = budget - sum(whole)
    for cell in sorted(cells, key=lambda c: (whole[c] - filled[c], c)):
        if left <= 0:
            break
        if whole[cell] < high[cell]:
            whole[cell] += 1
            left -= 1
    return whole


def _water_fill(weights: list[float], low: list[int], high: list[int], budget: int) -> list[float]:
    """clamp(level * weight, low, high) for the level at which the sum is the budget, found between its break points."""

    def at(level: float) -> list[float]:
        return [min(max(level * w, lo), hi) for w, lo, hi in zip(weights, low, high, strict=True)]

    points = sorted({bound / w for w, lo, hi in zip(weights, low, high, strict=True) if w for bound in (lo, hi)})
    below, above = 0, len(points) - 1
    while below < above:  # the last break point at which the sum is still within the budget
        middle = (below + above + 1) // 2
        if sum(at(points[middle])) <= budget:
            below = middle
        else:
            above = middle - 1
    level = points[below]
    if below + 1 < len(points):
        here, there = sum(at(level)), sum(at(points[below + 1]))
        if there > here:  # linear in between
            level += (points[below + 1] - level) * min(1.0, max(0.0, (budget - here) / (there - here)))
    return at(level)


@dataclass(slots=True)
class SealedCell(Generic[T]):
    """One stratum of a sealed window: its counts and the sampled captures."""

    stratum: str
    seen: int
    sample: Sample[T]
    draw_probability: float
    threshold: int | None

    @property
    def inclusion_probability(self) -> float:
        """Of each sampled capture; 0 where nothing was sampled."""
        return self.draw_probability * len(self.sample) / self.seen if self.seen else 0.0


Strata = Mapping[str, Reservoir[T]]


def seal(
    windows: Mapping[int, Strata[T]], budget: int, policy: Allocation, draw: Callable[[int], int]
) -> dict[int, list[SealedCell[T]]]:
    """Sample the windows (source partition -> stratum -> reservoir) that seal on one tick.

    Where the budget cannot give every cell two rows, the strata of each partition merge into one cell (stratum `''`);
    where it cannot give every partition two, partitions are drawn by `draw` (a rank of the partition for this tick).
    """
    partitions = [p for p, strata in windows.items() if any(r.seen for r in strata.values())]
    cells: dict[int, dict[str, Reservoir[T]]] = {
        p: {name: r for name, r in sorted(windows[p].items()) if r.seen} for p in partitions
    }
    if _needs(cells) > budget:
        cells = {p: {NO_STRATUM: merged(list(strata.values()))} for p, strata in cells.items()}
    drawn, probability = set(partitions), 1.0
    if _needs(cells) > budget:
        places = max(0, budget) // _LEAST
        drawn = set(sorted(partitions, key=lambda p: (draw(p), p))[:places])
        probability = places / len(partitions)
    order = [(p, name) for p in partitions if p in drawn for name in cells[p]]
    picked = [cells[p][name] for p, name in order]
    shares = dict(zip(order, allocate([r.seen for r in picked], [r.held for r in picked], budget, policy), strict=True))
    return {
        p: [_cell(name, r, shares.get((p, name), 0), probability) for name, r in cells.get(p, {}).items()]
        for p in windows
    }


def _needs(cells: Mapping[int, Strata[T]]) -> int:
    return sum(min(_LEAST, r.seen) for strata in cells.values() for r in strata.values())


def _cell(name: str, reservoir: Reservoir[T], share: int, probability: float) -> SealedCell[T]:
    sample, threshold = reservoir.smallest(share)
    return SealedCell(name, reservoir.seen, sample, probability, threshold)
