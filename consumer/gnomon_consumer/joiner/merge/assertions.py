"""Pair assertions: a scorer's claims about a window, compared with the rows that it wrote. No I/O."""

import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gnomon_consumer.joiner.merge.shadow_records import different
from gnomon_schemas.records import NO_STRATUM, SamplingWindow

_RELATIVE = 1e-12
"""Scorer and joiner compute the same quotient of the same integers, so they differ by rounding at most."""


def contradictions(seal: SamplingWindow, rows: pa.RecordBatch) -> list[str]:
    """Return where rows and cells disagree: a cell's count, a row's inclusion probability, a row of no cell.

    The probability of each row of a cell is draw_probability * sampled / seen, see `sampling.reservoir`.
    """
    cells = {cell.stratum: cell for cell in seal.cells}
    strata = pc.fill_null(rows.column("stratum"), NO_STRATUM)
    keys, key_of = different(strata, rows.column("inclusion_probability"))
    counts = np.bincount(key_of, minlength=len(keys)).tolist() if rows.num_rows else []
    held = dict.fromkeys(cells, 0)
    found: list[str] = []
    for (stratum, probability), count in zip(keys if rows.num_rows else [], counts, strict=True):
        cell = cells.get(stratum)
        if cell is None:
            found.append(f"{count} rows of cell {stratum!r}, which the window does not have")
            continue
        held[stratum] += count
        exact = cell.draw_probability * cell.sampled / cell.seen if cell.seen else 0.0
        if not math.isclose(probability, exact, rel_tol=_RELATIVE):
            found.append(f"{count} rows of cell {stratum!r} have probability {probability}, the cell says {exact}")
    found += [
        f"cell {stratum!r} has {held[stratum]} rows and says {cell.sampled}"
        for stratum, cell in cells.items()
        if held[stratum] != cell.sampled
    ]
    return found
