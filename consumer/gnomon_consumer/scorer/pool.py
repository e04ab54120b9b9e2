"""A pool of worker processes. The scorer's own thread calls it and never waits for a worker.

A job that kills its worker, or outlives its time, is tried once more with care: one row at a time, each announced. The
row at which that dies too is quarantined (or timed out), and the rest goes on without it.
"""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from gnomon_consumer.logs import get_logger
from gnomon_consumer.scorer import wire
from gnomon_consumer.scorer.models import ModelSpec
from gnomon_consumer.scorer.outcomes import STATUSES, Outcomes, Scored, undecoded
from gnomon_consumer.scorer.rows import Places, Rows
from gnomon_consumer.scorer.sandbox import Limits
from gnomon_schemas.errors import ConfigurationError, DependencyUnreachableError, GnomonError
from gnomon_schemas.framing import SchemaKey
from gnomon_schemas.records import Failure, FailureKind
from gnomon_schemas.schema import Schema

START_SECONDS = 120.0
KEEPER_SECONDS = 5.0
MAX_LINES, MAX_LINE = 200, 1000
_RESTART_PAUSES = (0.0, 0.2, 1.0, 5.0, 15.0)
_CLEAN_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
log = get_logger("pool")


@dataclass(slots=True, eq=False)
class Job:
    """Rows of one window for one worker. `single`: one at a time, for latency. `places` are the caller's own."""

    window_id: str
    partition: int
    sealed_at: int
    rows: Rows
    places: Places
    single: bool
    careful: bool = False


@dataclass(slots=True, eq=False)
class Finished:
    """Outcomes of some rows of a job, in its order; what they cost."""

    job: Job
    scored: Outcomes
    places: Places
    seconds: float = 0.0
    cpu_us: int = 0
    peak_rss_bytes: int = 0
    gpu_us: int | None = None
    gpu_peak_bytes: int | None = None


@dataclass(eq=False)
class _Worker:
    """One process, and the thread that talks to it so that the scorer's thread need not wait."""

    process: "subprocess.Popen[bytes]"
    inbox: "queue.SimpleQueue[tuple[dict[str, Any], list[bytes]] | None]"
    started_at: float
    ready: bool = False
    job: Job | None = None
    current: int = -1  # the row that was announced last, in a careful job
    deadline: float = 0.0
    hung: bool = False
    killed: bool = False  # it may still live, and speak, for a while: it gets no work and is not listened to
    keys: set[str] = field(default_factory=set)


Event = tuple[_Worker, dict[str, Any] | None, list[bytes]]


class Pool:
    """`size` workers with one model. Schemas are given as (first bytes of a message, schema)."""

    def __init__(
        self,
        size: int,
        spec: ModelSpec,
        limits: Limits,
        call_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._size = size
        self._spec = spec
        self._limits = limits
        self._call_seconds = call_seconds
        self._clock = clock
        self._now_us = now_us
        self._schemas: dict[str, Schema] = {}
        self._features_key = ""
        self._workers: list[_Worker] = []
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._waiting: deque[Job] = deque()
        self._finished: deque[Finished] = deque()
        self._failed_starts = 0
        self._next_start = 0.0
        self._started = False
        self.restarts = 0
        self.sandbox: Mapping[str, Any] = {}

    def learn(self, key: SchemaKey, schema: Schema) -> None:
        """Give the workers a writer schema, by the header that its messages begin with."""
        self._schemas[key.header.hex()] = schema

    def start(self, live: Schema, stopping: Callable[[], bool] = lambda: False) -> None:
        """Start the workers with the features of `live` and wait until each has loaded the model.

        Raises ConfigurationError (or what the worker says) where the model is refused.
        """
        self.learn(live.fingerprint, live)
        self._features_key = live.fingerprint.header.hex()
        for _ in range(self._size):
            self._spawn()
        deadline = self._clock() + START_SECONDS
        while not all(worker.ready for worker in self._workers):
            if stopping():
                return
            self._take(wait=0.05)
            if self._clock() > deadline:
                raise ConfigurationError(f"the model does not load within {START_SECONDS:g} seconds")
        self._started = True

    def submit(self, job: Job) -> None:
        """Queue a job."""
        self._waiting.append(job)

    def poll(self, wait: float = 0.0) -> list[Finished]:
        """Hand out work, enforce deadlines, replace what died, return what is done; waits `wait` seconds at most."""
        self._hand_out()
        self._take(wait if self.busy else 0.0)
        self._enforce()
        self._replace()
        self._hand_out()
        done = list(self._finished)
        self._finished.clear()
        return done

    @property
    def idle(self) -> bool:
        """Whether nothing waits for a worker; all of them may be at work."""
        return not self._waiting

    @property
    def busy(self) -> bool:
        """Whether any row is waiting or being scored."""
        return bool(self._waiting) or any(worker.job for worker in self._workers)

    @property
    def pids(self) -> list[int]:
        """Process ids of the living workers."""
        return [worker.process.pid for worker in self._workers]

    def cancel(self, windows: set[str]) -> None:
        """Forget the jobs of these windows; workers that hold one are killed and replaced."""
        self._waiting = deque(job for job in self._waiting if job.window_id not in windows)
        self._finished = deque(one for one in self._finished if one.job.window_id not in windows)
        for worker in self._workers:
            if worker.job is not None and worker.job.window_id in windows:
                worker.job = None
                self._kill(worker)

    def close(self) -> None:
        """End every worker."""
        for worker in self._workers:
            self._kill(worker)
        for worker in self._workers:
            _ended(worker.process)
        self._workers.clear()

    def _spawn(self) -> None:
        environment = {name: os.environ[name] for name in _CLEAN_ENVIRONMENT if name in os.environ}
        environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
        network = "network" if self._limits.network else "none"
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "gnomon_consumer.scorer.keeper", str(os.getpid()), network],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        worker = _Worker(process, queue.SimpleQueue(), self._clock())
        # A folder as sys.path[0] would let a model shadow our modules; only `module:factory` needs the caller's.
        header = {
            "op": "load",
            "model": self._spec.as_json(),
            "limits": self._limits.as_json(),
            "folder": str(Path.cwd()),
        }
        # The features that the model is bound to come last.
        keys = sorted(self._schemas, key=lambda key: key == self._features_key)
        header["keys"] = keys
        worker.keys.update(keys)
        worker.inbox.put((header, [self._schemas[key].text.encode() for key in keys]))
        threading.Thread(target=_converse, args=(worker, self._events), daemon=True, name="worker").start()
        threading.Thread(target=_relay, args=(process,), daemon=True, name="worker output").start()
        self._workers.append(worker)

    def _hand_out(self) -> None:
        for worker in self._workers:
            if not self._waiting or self._would_disturb(self._waiting[0]):
                return
            if worker.ready and worker.job is None and not worker.killed:
                self._give(worker, self._waiting.popleft())

    def _would_disturb(self, job: Job) -> bool:
        """Probes measure what a caller would wait for, so no batch runs beside one: probes and batches take turns."""
        return any(worker.job is not None and worker.job.single != job.single for worker in self._workers)

    def _give(self, worker: _Worker, job: Job) -> None:
        worker.job, worker.current = job, -1
        rows = job.rows
        limit = self._call_seconds * (len(rows) if job.single or job.careful else 1)
        worker.deadline = self._clock() + (self._call_seconds if job.careful else limit)
        new = [key for key in self._schemas if key not in worker.keys]
        worker.keys.update(new)
        header = {
            "op": "score",
            "keys": new,
            "window": job.window_id,
            "partition": job.partition,
            "sealed_at": job.sealed_at,
            "single": job.single,
            "careful": job.careful,
            "cpu_seconds": limit,
            "cells": rows.cells,
        }
        blobs = [self._schemas[key].text.encode() for key in new]
        worker.inbox.put((header, blobs + wire.packed(rows)))

    def _take(self, wait: float) -> None:
        """Process what the workers said; waits for the first word only."""
        while True:
            try:
                worker, header, blobs = self._events.get(timeout=wait) if wait else self._events.get_nowait()
            except queue.Empty:
                return
            wait = 0.0
            if worker not in self._workers:
                continue
            if header is None:
                self._bury(worker)
            elif worker.killed:
                continue  # an answer to a cancelled job must never be taken for the next one's
            elif header["op"] == "ready":
                worker.ready = True
                self._failed_starts = 0
                self.sandbox = header["sandbox"]
            elif header["op"] == "refused":
                self._refuse(header)
            elif header["op"] == "progress":
                worker.current = int(header["row"])
                worker.deadline = self._clock() + self._call_seconds
            elif worker.job is not None:
                self._finish(worker, header, blobs)

    def _refuse(self, header: dict[str, Any]) -> None:
        if self._started:  # it loaded before: the file or the server has changed since; try again, with pauses
            log.error("a restarted worker refuses the model", reason=header["message"])
            return
        error: GnomonError = ConfigurationError(header["message"])
        if header["status"] == DependencyUnreachableError.exit_status:
            error = DependencyUnreachableError(header["message"])
        raise error

    def _finish(self, worker: _Worker, header: dict[str, Any], blobs: list[bytes]) -> None:
        job = worker.job
        assert job is not None
        try:
            codes, messages = blobs[0], wire.parted(*blobs[1:])
            dead = {int(row): (str(reason), str(detail)) for row, reason, detail in header["dead"]}
        except (wire.WireError, IndexError, KeyError, TypeError, ValueError):
            codes, messages, dead = b"", [], {}
        if not len(codes) == len(messages) == len(job.rows) or max(codes, default=0) >= len(STATUSES):
            self._kill(worker)  # it does not speak our protocol any more
            return
        worker.job = None
        scored = Outcomes(codes, messages, dead)
        self._finished.append(
            Finished(
                job,
                scored,
                job.places,
                header["seconds"],
                header["cpu_us"],
                header["peak_rss_bytes"],
                header["gpu_us"],
                header["gpu_peak_bytes"],
            )
        )

    def _enforce(self) -> None:
        now = self._clock()
        for worker in self._workers:
            if worker.job is not None and now > worker.deadline and not worker.hung:
                worker.hung = True
                self._kill(worker)
            elif not worker.ready and now - worker.started_at > START_SECONDS:
                self._kill(worker)

    def _bury(self, worker: _Worker) -> None:
        """A worker is dead: give its job back, with care, and without the row that has now killed twice."""
        self._workers.remove(worker)
        self._kill(worker)
        status = _ended(worker.process)
        job = worker.job
        if not self._started:
            raise ConfigurationError(f"the model ends its worker while it loads ({_cause(status)})")
        if not worker.ready:
            self._failed_starts += 1
        pause = _RESTART_PAUSES[min(self._failed_starts, len(_RESTART_PAUSES) - 1)]
        self._next_start = self._clock() + pause
        if worker.ready:
            self.restarts += 1
        if job is None:
            return
        cause = f"no answer within {self._call_seconds:g} s" if worker.hung else _cause(status)
        log.warning("worker died", cause=cause, rows=len(job.rows), careful=job.careful, row=worker.current)
        if not job.careful:
            job.careful = True
            self._waiting.appendleft(job)
            return
        at = max(worker.current, 0)
        kind = FailureKind.TIMEOUT if worker.hung else FailureKind.QUARANTINED
        message = cause if worker.hung else f"this capture killed two workers, the last by {cause}"
        row = job.rows[at]
        now = self._now_us()
        outcome = undecoded(row, job.window_id, self._spec.artefact, Failure(kind, message), now)
        self._finished.append(
            Finished(
                job, Outcomes.of([Scored("timed_out" if worker.hung else "failed", outcome)]), job.places[at : at + 1]
            )
        )
        # What was scored before it is lost with the worker, so it is scored again; only then the rest.
        rest = np.delete(np.arange(len(job.rows)), at)
        if len(rest):
            again = job.rows.take(rest), job.places[rest]
            self._waiting.appendleft(Job(job.window_id, job.partition, job.sealed_at, *again, job.single, careful=True))

    def _replace(self) -> None:
        if len(self._workers) < self._size and self._clock() >= self._next_start:
            self._spawn()

    def _kill(self, worker: _Worker) -> None:
        worker.killed = True
        worker.inbox.put(None)  # one that had answered would wait for its next job, and its end go unnoticed
        worker.process.terminate()  # its keeper kills it, and whatever it has forked


def _ended(process: "subprocess.Popen[bytes]") -> int:
    """Wait for a keeper that ends; one that does not (a model may have stopped it) is killed, with its session."""
    try:
        return process.wait(KEEPER_SECONDS)
    except subprocess.TimeoutExpired:
        log.warning("a keeper does not end", pid=process.pid)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        return process.wait()


def _relay(process: "subprocess.Popen[bytes]") -> None:
    """Log what a model prints, bounded: at most MAX_LINES of MAX_LINE bytes a worker, the rest is dropped."""
    assert process.stderr is not None
    lines = 0
    with process.stderr as stream, contextlib.suppress(OSError, ValueError):
        while line := stream.readline(MAX_LINE):
            lines += 1
            if lines <= MAX_LINES:
                log.info("worker says", pid=process.pid, text=line.decode("utf-8", "replace").rstrip())


def _cause(status: int) -> str:
    if status < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-status).name
    return f"exit status {status}"


def _converse(worker: _Worker, events: "queue.SimpleQueue[Event]") -> None:
    """Write frames, read answers until the job is done; a broken pipe is the worker's end."""
    process = worker.process
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        while (frame := worker.inbox.get()) is not None:
            wire.write(cast(BinaryIO, process.stdin), *frame)
            while True:
                header, blobs = wire.read(cast(BinaryIO, process.stdout))
                events.put((worker, header, blobs))
                if header.get("op") != "progress":
                    break
    except (wire.WireError, OSError, ValueError):
        pass
    finally:
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()
        events.put((worker, None, []))
