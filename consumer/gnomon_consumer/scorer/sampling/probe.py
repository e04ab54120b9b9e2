"""The latency probe of a window: rows of its sample that are scored one at a time. No I/O, no clock.

The probe is a bottom-m within the bottom-k of each cell: m rows are allocated to the cells like the sample, and cell h
gives its m_h captures with the lowest ranks. So the probability that a capture of the cell is in the probe is exactly
draw_probability * m_h / seen_h, and its inverse is the weight of the row's latency. (The lowest ranks over all cells
together have no such probability: a cell that is sampled densely has higher ranks in its sample.)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from xxhash import xxh3_64_intdigest

from gnomon_consumer.scorer.sampling.allocation import Allocation, SealedCell, allocate
from gnomon_schemas.arrays import Indices

T = TypeVar("T")
_LEAST = 2  # minimum rows of a drawn cell, as in the sample


@dataclass(frozen=True, slots=True)
class CellProbe:
    """The probe of one cell: indices into the cell's sample, ascending, and each capture's probability to be in it."""

    places: Indices
    probability: float


NO_PROBE = CellProbe(np.empty(0, np.int64), 0.0)


def probe_of(
    cells: Sequence[SealedCell[T]], rows: int, policy: Allocation, draw: Callable[[str], int]
) -> list[CellProbe]:
    """Return the probe of each cell, about `rows` captures together.

    If `rows` is too small for two in every cell, cells are drawn by `draw` (a rank of the stratum for this window),
    each with the same probability, by which the probability of its captures is multiplied.
    """
    sampled = [at for at, cell in enumerate(cells) if len(cell.sample)]
    if rows <= 0 or not sampled:
        return [NO_PROBE for _ in cells]
    drawn, drawn_probability = sampled, 1.0
    if sum(min(_LEAST, len(cells[at].sample)) for at in sampled) > rows:
        count = max(1, rows // _LEAST)
        drawn = sorted(sampled, key=lambda at: (draw(cells[at].stratum), cells[at].stratum))[:count]
        drawn_probability = count / len(sampled)
    sizes = [(cells[at].seen, len(cells[at].sample)) for at in drawn]
    shares = allocate([seen for seen, _ in sizes], [held for _, held in sizes], rows, policy)
    result = [NO_PROBE for _ in cells]
    for at, share in zip(drawn, shares, strict=True):
        cell, most = cells[at], min(share, rows)
        places = (
            cell.sample.smallest(most)[0] if 0 < most < len(cell.sample) else np.arange(min(most, len(cell.sample)))
        )
        result[at] = CellProbe(places, cell.draw_probability * drawn_probability * most / cell.seen)
    return result


def window_draw(window_id: str) -> Callable[[str], int]:
    """Return the rank of a stratum in the draw of one window."""
    return lambda stratum: xxh3_64_intdigest(f"{window_id}/{stratum}".encode())
