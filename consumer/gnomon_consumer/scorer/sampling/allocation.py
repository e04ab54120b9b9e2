"""Divide a budget of rows among cells, and seal each cell with its exact inclusion probability. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, Literal

from gnomon_consumer.scorer.sampling.reservoir import Reservoir, Sample, Strata, T, merged
from gnomon_schemas.records import NO_STRATUM

Allocation = Literal["house", "senate", "default"]
_LEAST = 2  # minimum rows of a cell: with one row there is no variance, with none the cell is missing in every estimate


def allocate(seen: list[int], held: list[int], budget: int, policy: Allocation) -> list[int]:
    """Divide `budget` rows among cells of `seen` captures, of which `held` can still be sampled.

    *house* in proportion to size, *senate* equally, *default* the larger of both, renormalised. Every cell gets at
    least min(2, seen) and at most what is held; the other cells get what a small cell cannot use (water-filling), and
    fractions are rounded by largest remainder. The caller ensures that the budget covers the minimum of every cell.
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
    """Return clamp(level * weight, low, high) for the level at which the sum is the budget.

    The level is found between its break points.
    """

    def filled_to(level: float) -> list[float]:
        return [min(max(level * w, lo), hi) for w, lo, hi in zip(weights, low, high, strict=True)]

    points = sorted({bound / w for w, lo, hi in zip(weights, low, high, strict=True) if w for bound in (lo, hi)})
    below, above = 0, len(points) - 1
    while below < above:  # the last break point at which the sum is still within the budget
        middle = (below + above + 1) // 2
        if sum(filled_to(points[middle])) <= budget:
            below = middle
        else:
            above = middle - 1
    level = points[below]
    if below + 1 < len(points):
        here, there = sum(filled_to(level)), sum(filled_to(points[below + 1]))
        if there > here:  # between break points the sum is linear
            level += (points[below + 1] - level) * min(1.0, max(0.0, (budget - here) / (there - here)))
    return filled_to(level)


@dataclass(slots=True, kw_only=True)
class SealedCell(Generic[T]):
    """One stratum of a sealed window: its counts and the sampled captures."""

    stratum: str
    seen: int
    sample: Sample[T]
    draw_probability: float
    threshold: int | None

    @property
    def inclusion_probability(self) -> float:
        """Return the probability of each sampled capture; 0 if nothing was sampled."""
        return self.draw_probability * len(self.sample) / self.seen if self.seen else 0.0


def seal(
    windows: Mapping[int, Strata[T]], budget: int, policy: Allocation, draw: Callable[[int], int]
) -> dict[int, list[SealedCell[T]]]:
    """Sample the windows (source partition -> stratum -> reservoir) that seal on one tick.

    If the budget is too small for two rows in every cell, the strata of each partition merge into one cell (stratum
    `''`); if it is too small for two rows in every partition, partitions are drawn by `draw` (a rank of the partition
    for this tick).
    """
    cells: dict[int, dict[str, Reservoir[T]]] = {}
    for partition, strata in windows.items():
        if seen := {stratum: reservoir for stratum, reservoir in sorted(strata.items()) if reservoir.seen}:
            cells[partition] = seen
    if _least_rows(cells) > budget:
        cells = {partition: {NO_STRATUM: merged(list(strata.values()))} for partition, strata in cells.items()}
    drawn, probability = set(cells), 1.0
    if _least_rows(cells) > budget:
        places = max(0, budget) // _LEAST
        drawn = set(sorted(cells, key=lambda partition: (draw(partition), partition))[:places])
        probability = places / len(cells)
    keys = [(partition, stratum) for partition, strata in cells.items() if partition in drawn for stratum in strata]
    reservoirs = [cells[partition][stratum] for partition, stratum in keys]
    rows = allocate([one.seen for one in reservoirs], [one.held for one in reservoirs], budget, policy)
    shares = dict(zip(keys, rows, strict=True))
    sealed: dict[int, list[SealedCell[T]]] = {partition: [] for partition in windows}
    for partition, strata in cells.items():
        for stratum, reservoir in strata.items():
            share = shares.get((partition, stratum), 0)  # a partition that was not drawn gets none
            sealed[partition].append(_cell(stratum, reservoir, share, probability))
    return sealed


def _least_rows(cells: Mapping[int, Strata[T]]) -> int:
    """Return the rows that give every cell its minimum."""
    return sum(min(_LEAST, reservoir.seen) for strata in cells.values() for reservoir in strata.values())


def _cell(name: str, reservoir: Reservoir[T], share: int, probability: float) -> SealedCell[T]:
    sample, threshold = reservoir.smallest(share)
    return SealedCell(
        stratum=name, seen=reservoir.seen, sample=sample, draw_probability=probability, threshold=threshold
    )
