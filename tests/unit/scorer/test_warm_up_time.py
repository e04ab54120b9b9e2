"""A warm-up ends, however slow the model is."""

from typing import Any

import numpy as np
import pytest

from gnomon_consumer.scorer.captures import Row
from gnomon_consumer.scorer.outcomes import Outcomes, Scored
from gnomon_consumer.scorer.pool.jobs import Finished, Job
from gnomon_consumer.scorer.rehearsal import warm_up
from gnomon_consumer.scorer.rehearsal.examples import REHEARSAL
from gnomon_consumer.scorer.worker.encoding import undecoded
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.records import Artefact, Failure, FailureKind

MODEL = Artefact("m", "1", "0" * 64)
ROWS = [Row(0, at, b"r", b"", None, at, 1.0) for at in range(8)]


class Pool:
    """Returns so many answers, and then none; a call without an answer takes the whole wait."""

    def __init__(self, answers: int) -> None:
        self.jobs: list[Job] = []
        self.left = answers
        self.cancelled: set[str] = set()
        self.now = 0.0

    def submit(self, job: Job) -> None:
        self.jobs.append(job)

    def poll(self, wait: float) -> list[Finished]:
        if not self.left or not self.jobs:
            self.now += wait
            return []
        self.left -= 1
        job = self.jobs.pop(0)
        failure = Failure(FailureKind.MODEL_ERROR, "no")
        scored = [Scored("failed", undecoded(row, job.window_id, MODEL, failure, 0)) for row in job.rows]
        return [Finished(job, Outcomes.of(scored), job.places, seconds=0.5)]

    def cancel(self, windows: set[str]) -> None:
        self.cancelled |= windows


@pytest.mark.parametrize(("answers", "outcomes"), [(1, 2), (3, 6), (4, 8)])
def test_what_has_an_outcome_in_time_counts(answers: int, outcomes: int) -> None:
    pool: Any = Pool(answers)
    found, rate = warm_up.rehearse(pool, ROWS, 2, lambda: False, clock=lambda: pool.now)
    assert len(found) == outcomes
    assert np.isclose(rate, 4.0)
    assert pool.cancelled == (set() if outcomes == len(ROWS) else {REHEARSAL})


def test_a_model_that_answers_nothing_is_refused() -> None:
    pool: Any = Pool(0)
    with pytest.raises(ConfigurationError, match="0 of 8 rows have an outcome after 60 s; give fewer with --warm-up N"):
        warm_up.rehearse(pool, ROWS, 2, lambda: False, clock=lambda: pool.now)
