"""The division of a sealed window into jobs: the probe over all workers, the rest in batches, every row once."""

import numpy as np
import pytest

from gnomon_consumer.scorer.sampling.allocation import SealedCell
from gnomon_consumer.scorer.sampling.open_window import AssignmentToken
from gnomon_consumer.scorer.sampling.reservoir import Sample
from gnomon_consumer.scorer.sealed.sampled_rows import SampledRows
from gnomon_consumer.scorer.sealed.window import Seal, SealedWindow
from gnomon_schemas.records import NO_STRATUM


def window(rows: int, probe: int) -> SealedWindow:
    """Return a window of which every capture was sampled; ranks fall as offsets rise."""
    keys = [f"r{at}".encode() for at in range(rows)]
    ranks, offsets = np.arange(rows, 0, -1, dtype=np.int64), np.arange(rows)
    cells = [
        SealedCell(
            stratum=NO_STRATUM,
            seen=rows,
            sample=Sample(ranks, keys, offsets, keys),
            draw_probability=1.0,
            threshold=None,
        )
    ]
    seal = Seal(owner=AssignmentToken(2), window_id="w", start=0, end=rows, opened_at=0, sealed_at=1, reason="time")
    return SealedWindow(seal, SampledRows.of(2, "w", cells, probe_rows=probe, allocation="default"))


@pytest.mark.parametrize(
    ("rows", "probe", "workers", "singles", "batches"),
    [
        (0, 32, 2, [], []),
        (1, 32, 4, [1], []),
        (32, 32, 3, [11, 11, 10], []),
        (100, 32, 1, [32], [40, 28]),
        (100, 32, 2, [16, 16], [40, 28]),
        (100, 0, 2, [], [40, 40, 20]),
    ],
)
def test_jobs(rows: int, probe: int, workers: int, singles: list[int], batches: list[int]) -> None:
    jobs = list(window(rows, probe).jobs(40, workers))
    assert [len(job.rows) for job in jobs if job.single] == singles
    assert [len(job.rows) for job in jobs if not job.single] == batches
    assert sorted(int(place) for job in jobs for place in job.places) == list(range(rows))
    assert all([row.key for row in job.rows] == [f"r{place}".encode() for place in job.places] for job in jobs)
    probed = {int(place) for job in jobs if job.single for place in job.places}
    assert probed == set(range(rows - min(rows, probe), rows))  # the rows of the lowest ranks
