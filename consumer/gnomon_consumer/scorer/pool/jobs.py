"""Jobs for the workers, their results, and the order of jobs. No I/O."""

from collections import deque
from collections.abc import Set
from dataclasses import KW_ONLY, dataclass

from gnomon_consumer.scorer.captures import Rows
from gnomon_consumer.scorer.outcomes import Outcomes
from gnomon_schemas.arrays import Indices


@dataclass(slots=True, eq=False, kw_only=True)
class Job:
    """Rows of one window for one worker. `single`: one at a time, for latency. Only the caller uses `places`."""

    window_id: str
    partition: int
    sealed_at: int
    rows: Rows
    places: Indices
    single: bool
    careful: bool = False


@dataclass(slots=True, eq=False)
class Finished:
    """Outcomes of some rows of a job, in its order, and their cost."""

    job: Job
    scored: Outcomes
    places: Indices
    _: KW_ONLY
    seconds: float = 0.0
    cpu_us: int = 0
    peak_rss_bytes: int = 0
    gpu_us: int | None = None
    gpu_peak_bytes: int | None = None


class JobQueue:
    """The jobs that wait for a worker. A probe measures a caller's waiting time, so no batch runs at the same time.

    Probes and batches alternate. A turn consists of the jobs of one kind that waited when it began, for all workers at
    once; the next turn begins when the last of them is done. So neither kind waits longer than one turn of the other.
    """

    def __init__(self) -> None:
        self._waiting: dict[bool, deque[Job]] = {True: deque(), False: deque()}
        self._single = False  # the kind of jobs in this turn
        self._left = 0  # jobs of this turn that still wait

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def add_job(self, job: Job) -> None:
        """Queue a job."""
        self._waiting[job.single].append(job)

    def give_back(self, job: Job) -> None:
        """Put a job whose worker died before the other jobs of its kind."""
        self._waiting[job.single].appendleft(job)
        self._left += job.single == self._single

    def forget(self, windows: Set[str]) -> None:
        """Forget the jobs of these windows."""
        for single, jobs in self._waiting.items():
            self._waiting[single] = deque(job for job in jobs if job.window_id not in windows)
        self._left = min(self._left, len(self._waiting[self._single]))

    def pop(self, at_work: bool) -> Job | None:
        """Return the next job for a free worker, None if it has to wait; `at_work`: whether any worker has a job."""
        mine, other = self._waiting[self._single], self._waiting[not self._single]
        if not mine or not self._left:
            if other and at_work:
                return None
            if other:
                self._single, mine = not self._single, other
            self._left = len(mine)
        if not mine:
            return None
        self._left -= 1
        return mine.popleft()
