"""The scorer's workers: outcomes arrive after a random time, some fail, some never arrive."""

from functools import cache
from types import SimpleNamespace
from typing import Any

from gnomon_consumer.scorer.captures import Row
from gnomon_consumer.scorer.outcomes import Outcomes, Scored
from gnomon_consumer.scorer.pool.jobs import Finished, Job
from gnomon_consumer.scorer.worker import encoding
from gnomon_schemas.records import Artefact, Failure, FailureKind, Prediction, as_dict
from tests.simulation.traffic import POISON
from tests.simulation.world import World

MODEL = Artefact("gb", "1", "ab" * 32)
_MODEL = as_dict(MODEL)
_WORST_S = 1e9


@cache
def model() -> Any:
    """The part of a model that the scorer uses."""
    return SimpleNamespace(artefact=MODEL, name=MODEL.name, sha256=MODEL.sha256, kind="native")


class Workers:
    """The part of the product's `Pool` that the scorer uses."""

    restarts = 0

    def __init__(self, world: World, seconds_a_row: float) -> None:
        self.sandbox: dict[str, Any] = {}
        self.model = model()
        self._world = world
        self._seconds = seconds_a_row
        self._jobs: list[tuple[float, Job]] = []
        self._free_at = 0.0

    @property
    def busy(self) -> bool:
        return bool(self._jobs)

    @property
    def idle(self) -> bool:
        return len(self._jobs) < 2

    def submit(self, job: Job) -> None:
        """Start when the job before is done."""
        seconds = len(job.rows) * self._seconds * self._world.dice.uniform(0.5, 2)
        if self._world.chance(0.01):
            self._world.count("a model hangs")
            self._jobs.append((_WORST_S, job))
            return
        self._free_at = max(self._free_at, self._world.now) + seconds
        self._jobs.append((self._free_at, job))

    def poll(self, wait: float = 0.0) -> list[Finished]:
        """Return finished jobs; wait for the first answer, at most `wait` seconds."""
        if wait > 0 and self._jobs:
            first = min(due for due, _ in self._jobs)
            self._world.sleep(max(0.0001, min(10 * wait, first - self._world.now)))
        done = [job for due, job in self._jobs if due <= self._world.now]
        self._jobs = [(due, job) for due, job in self._jobs if due > self._world.now]
        return [self._finished(job) for job in done]

    def cancel(self, windows: set[str]) -> None:
        """Forget the jobs of these windows."""
        self._jobs = [(due, job) for due, job in self._jobs if job.window_id not in windows]

    def _finished(self, job: Job) -> Finished:
        outcomes = [self._outcome(job, row) for row in job.rows]
        return Finished(job, Outcomes.of(outcomes), job.places, seconds=len(job.rows) * self._seconds)

    def _outcome(self, job: Job, row: Row) -> Scored:
        answer: Prediction | Failure = Prediction(value=0.25, label="late")
        status: Any = "scored"
        reason = detail = ""
        if row.value == POISON:
            reason, detail = "truncated", "the message ends within a number"
            status, answer = "dead_lettered", Failure(FailureKind.DEAD_LETTER, f"{reason}: {detail}")
        elif self._world.chance(0.02):
            status, answer = "failed", Failure(FailureKind.MODEL_ERROR, "drawn")
        message = encoding.encode(
            row,
            job.window_id,
            _MODEL,
            answer,
            request_id=row.key.decode(),
            scored_at=self._world.now_us(),
            latency_us=90,
            batch_size=1 if job.single else 8,
            queued_us=10,
        )
        return Scored(status, message, reason, detail)


class KnownSchemas:
    """Replaces the product's `WriterSchemas`: a schema is known, or its topic does not answer for a while."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._silent_until = 0.0

    def ready(self, values: Any, now: float) -> bool:
        """Return whether captures may go to the workers."""
        if self._world.chance(0.003):
            self._world.count("the schemas topic is silent")
            self._silent_until = now + self._world.dice.uniform(1, 8)
        return now >= self._silent_until
