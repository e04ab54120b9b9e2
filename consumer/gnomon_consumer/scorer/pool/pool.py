"""A pool of worker processes. The scorer's own thread calls it and never waits for a worker.

A job that kills its worker, or exceeds its time, is tried once more, one row at a time, each announced before it
starts. The row at which the worker dies again is quarantined (or timed out), and the other rows are scored without it.
"""

import math
import queue
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

import numpy as np

from gnomon_consumer.runtime.logging import get_logger
from gnomon_consumer.scorer.outcomes import Outcomes, Scored, Status
from gnomon_consumer.scorer.pool import messages
from gnomon_consumer.scorer.pool.jobs import Finished, Job, JobQueue
from gnomon_consumer.scorer.pool.process import KEEPER_SECONDS, WorkerEvent, WorkerProcess, cause
from gnomon_consumer.scorer.worker import pipe
from gnomon_consumer.scorer.worker.encoding import undecoded
from gnomon_consumer.scorer.worker.models import ModelSpec
from gnomon_consumer.scorer.worker.sandbox import Limits
from gnomon_consumer.scorer.worker.scoring import MOST_UNBOUND, UnboundWriter
from gnomon_consumer.times import now_us
from gnomon_schemas.errors import ConfigurationError, DependencyUnreachableError
from gnomon_schemas.framing import SchemaKey
from gnomon_schemas.records import Failure, FailureKind
from gnomon_schemas.schema import Schema

START_SECONDS = 120.0
_RESTART_PAUSES = (0.0, 0.2, 1.0, 5.0, 15.0)
log = get_logger("pool")


@dataclass(eq=False)
class _Worker:
    """A worker process and its current job; `deadline`, `started_at` and `kill_at` in the clock's seconds."""

    process: WorkerProcess
    started_at: float
    keys: set[str]
    _: KW_ONLY
    ready: bool = False
    job: Job | None = None
    current: int = -1  # the row that a careful job announced last
    deadline: float = 0.0
    hung: bool = False
    # It was told to end, but may still run and write for a while: it gets no work, and its messages are ignored.
    ending: bool = False
    kill_at: float = math.inf


class Pool:
    """`size` workers with one model. Schemas are given as (first bytes of a message, schema)."""

    def __init__(
        self,
        size: int,
        spec: ModelSpec,
        limits: Limits,
        call_seconds: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        now_us: Callable[[], int] = now_us,
    ) -> None:
        self._size = size
        self._spec = spec
        self.model = spec
        """The SHA-256 of the loaded model: for a Python model it covers the files that it opened."""
        self._limits = replace(limits, opens=spec.kind == "callable")
        self._call_seconds = call_seconds
        self._clock = clock
        self._now_us = now_us
        self._schemas: dict[str, Schema] = {}
        self._features_key = ""
        self._workers: list[_Worker] = []
        self._events: queue.SimpleQueue[WorkerEvent] = queue.SimpleQueue()
        self._queue = JobQueue()
        self._finished: deque[Finished] = deque()
        self._unbound: set[tuple[str, str]] = set()
        self._failed_starts = 0
        self._next_start = 0.0
        self._started = False
        self.restarts = 0
        self.sandbox: Mapping[str, Any] = {}
        self.reading = ""
        self.widths: Mapping[str, int] = {}
        self.files: list[str] = []
        """What a Python model opened while it loaded, besides its own source; `unseen`: why some may be missing."""
        self.unseen = ""

    def learn(self, key: SchemaKey, schema: Schema) -> None:
        """Give the workers a writer schema, with the header at the start of its messages."""
        self._schemas[key.header.hex()] = schema

    def start(self, live: Schema, stopping: Callable[[], bool] = lambda: False) -> None:
        """Start the workers with the features of `live` and wait until each has loaded the model.

        Raises ConfigurationError (or the worker's error) if the model is refused.
        """
        self.learn(live.fingerprint, live)
        self._features_key = live.fingerprint.header.hex()
        for _ in range(self._size):
            self._spawn()
        deadline = self._clock() + START_SECONDS
        while not all(worker.ready for worker in self._workers):
            if stopping():
                return
            self._read_messages(wait=0.05)
            if self._clock() > deadline:
                raise ConfigurationError(f"the model does not load within {START_SECONDS:g} seconds")
        self._started = True

    def submit(self, job: Job) -> None:
        """Queue a job."""
        self._queue.add_job(job)

    def poll(self, wait: float = 0.0) -> list[Finished]:
        """Hand out jobs, enforce deadlines, replace dead workers, return finished jobs; wait at most `wait` seconds."""
        self._hand_out()
        self._read_messages(wait if self.busy else 0.0)
        self._enforce()
        self._replace()
        self._hand_out()
        done = list(self._finished)
        self._finished.clear()
        return done

    @property
    def idle(self) -> bool:
        """Return whether no job waits for a worker; all workers may be busy."""
        return not self._queue

    @property
    def free(self) -> int:
        """Return the number of workers without a job, if no job waits."""
        idle = sum(worker.ready and not worker.ending and worker.job is None for worker in self._workers)
        return max(0, idle - len(self._queue))

    @property
    def busy(self) -> bool:
        """Return whether any row is waiting or being scored."""
        return bool(self._queue) or any(worker.job for worker in self._workers)

    @property
    def pids(self) -> list[int]:
        """Return the process ids of the living workers."""
        return [worker.process.pid for worker in self._workers]

    def cancel(self, windows: set[str]) -> None:
        """Forget the jobs of these windows; workers that hold one are killed and replaced."""
        self._queue.forget(windows)
        self._finished = deque(one for one in self._finished if one.job.window_id not in windows)
        for worker in self._workers:
            if worker.job is not None and worker.job.window_id in windows:
                worker.job = None
                self._end(worker)

    def close(self) -> None:
        """End every worker."""
        for worker in self._workers:
            self._end(worker)
        for worker in self._workers:
            worker.process.status()
        self._workers.clear()

    def _spawn(self) -> None:
        bound_to = self._schemas.pop(self._features_key)
        self._schemas[self._features_key] = bound_to  # the last row
        load = messages.load(self._spec, self._limits, self._schemas)
        started = WorkerProcess(load, self._limits, self._events)
        self._workers.append(_Worker(started, self._clock(), set(self._schemas)))

    def _hand_out(self) -> None:
        living = [worker for worker in self._workers if worker.ready and not worker.ending]
        for worker in living:
            if worker.job is not None:
                continue
            job = self._queue.pop(at_work=any(one.job is not None for one in living))
            if job is None:
                return
            self._give(worker, job)

    def _give(self, worker: _Worker, job: Job) -> None:
        worker.job, worker.current = job, -1
        rows = job.rows
        limit = self._call_seconds * (len(rows) if job.single or job.careful else 1)
        worker.deadline = self._clock() + (self._call_seconds if job.careful else limit)
        new = {key: schema for key, schema in self._schemas.items() if key not in worker.keys}
        worker.keys.update(new)
        worker.process.ask(messages.score(job, limit, new))

    def _read_messages(self, wait: float) -> None:
        """Process the workers' messages; wait only for the first."""
        while True:
            try:
                process, header, blobs = self._events.get(timeout=wait) if wait else self._events.get_nowait()
            except queue.Empty:
                return
            wait = 0.0
            worker = next(one for one in self._workers if one.process is process)
            if header is None:
                self._bury(worker)
            elif not worker.ending:  # an answer to a cancelled job must never be mistaken for an answer to the next one
                try:
                    self._process_message(worker, header, blobs)
                except pipe.WireError as error:
                    log.warning("worker violates the protocol", reason=str(error)[:200])
                    self._end(worker)

    def _process_message(self, worker: _Worker, header: dict[str, Any], blobs: list[bytes]) -> None:
        said = header.get("op")
        if not worker.ready and said == "ready":
            if not self._accept(messages.files(header)):
                self._end(worker)
                return
            worker.ready = True
            self._failed_starts = 0
            self.sandbox = messages.sandbox(header)
            self.reading = messages.reading(header)
            self.widths = messages.widths(header)
            self.files = sorted(messages.files(header))
            self.unseen = messages.unseen(header)
        elif not worker.ready and said == "refused":
            self._refuse(header)
        elif worker.job is not None and said == "progress":
            worker.current = messages.progress(worker.job, worker.current, header)
            worker.deadline = self._clock() + self._call_seconds
        elif worker.job is not None and said == "done":
            self._finished.append(messages.finished(worker.job, self.model.artefact, header, blobs))
            worker.job = None
            self._log_unbound(messages.unbound_writers(header))
        else:
            raise pipe.WireError(f"{said!r} at the wrong time")

    def _log_unbound(self, unbound_writers: list[UnboundWriter]) -> None:
        """Log the services whose captures fail, each once, whichever worker met them."""
        for one in unbound_writers:
            if (one.writer, one.reason) not in self._unbound and len(self._unbound) < MOST_UNBOUND:
                self._unbound.add((one.writer, one.reason))
                log.warning(
                    "the captures of a service fail: the model cannot be bound to their features",
                    live_model=one.writer, producer=one.producer, reason=one.reason,
                    way_out="give that service its own stream, or add these features to its record",
                )  # fmt: skip

    def _accept(self, files: Mapping[str, str]) -> bool:
        """Return whether a worker has loaded the same model as the others; raise ConfigurationError during start-up."""
        loaded = self._spec.covering(files)
        if not self._started and not any(worker.ready for worker in self._workers):
            self.model = loaded
        if loaded == self.model:
            return True
        if not self._started:
            raise ConfigurationError(f"{loaded.location}: two workers opened different files while loading it")
        log.error("restarted worker loaded a different model: a file that it opens was changed", model=loaded.location)
        return False

    def _refuse(self, header: dict[str, Any]) -> None:
        # the model was loaded before, so the file or the server has changed since: try again, with pauses
        if self._started:
            log.error("restarted worker refuses the model", reason=str(header.get("message")))
            return
        unreachable = header.get("status") == DependencyUnreachableError.exit_status
        raise (DependencyUnreachableError if unreachable else ConfigurationError)(str(header.get("message")))

    def _enforce(self) -> None:
        now = self._clock()
        for worker in self._workers:
            if worker.job is not None and now > worker.deadline and not worker.hung:
                worker.hung = True
                self._end(worker)
            elif not worker.ready and not worker.ending and now - worker.started_at > START_SECONDS:
                self._end(worker)
            elif now > worker.kill_at:
                worker.kill_at = math.inf
                worker.process.kill()

    def _bury(self, worker: _Worker) -> None:
        """Replace a dead worker after a pause, and try its job again."""
        self._workers.remove(worker)
        ended_by = cause(worker.process.status())
        job = worker.job
        if not self._started:
            raise ConfigurationError(f"the model ends its worker while it loads ({ended_by})")
        if not worker.ready:
            self._failed_starts += 1
        pause = _RESTART_PAUSES[min(self._failed_starts, len(_RESTART_PAUSES) - 1)]
        self._next_start = self._clock() + pause
        if worker.ready:
            self.restarts += 1
        if job is None:
            return
        if worker.hung:
            ended_by = f"no answer within {self._call_seconds:g} s"
        log.warning("worker died", cause=ended_by, rows=len(job.rows), careful=job.careful, row=worker.current)
        if job.careful:
            self._quarantine(job, max(worker.current, 0), worker.hung, ended_by)
        else:
            job.careful = True
            self._queue.give_back(job)

    def _quarantine(self, job: Job, at: int, hung: bool, ended_by: str) -> None:
        """Quarantine the row at `at`, which ended two workers, and try the other rows once more."""
        status: Status
        if hung:
            status, failure = "timed_out", Failure(FailureKind.TIMEOUT, ended_by)
        else:
            told = f"this capture killed two workers, the last by {ended_by}"
            status, failure = "failed", Failure(FailureKind.QUARANTINED, told)
        outcome = undecoded(job.rows[at], job.window_id, self.model.artefact, failure, self._now_us())
        self._finished.append(Finished(job, Outcomes.of([Scored(status, outcome)]), job.places[at : at + 1]))
        # The results of the earlier rows were lost with the worker, so they are scored again; the rest follows.
        rest = np.delete(np.arange(len(job.rows)), at)
        if len(rest):
            self._queue.give_back(replace(job, rows=job.rows.select(rest), places=job.places[rest], careful=True))

    def _replace(self) -> None:
        if len(self._workers) < self._size and self._clock() >= self._next_start:
            self._spawn()

    def _end(self, worker: _Worker) -> None:
        worker.ending, worker.kill_at = True, self._clock() + KEEPER_SECONDS
        worker.process.end()
