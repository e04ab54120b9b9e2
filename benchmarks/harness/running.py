"""Runs a job as a process on a separate core and measures from outside its speed and its cost."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
COMMAND = Path(sys.executable).with_name("gnomon")
PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
_LOOK_S = 0.02
_MEMORY_LOOK_S = 0.2
_START_S = 60.0
_STALL_S = 15.0
_END_S = 5.0
# Before this process leaves the core of the jobs (for its brokers); afterwards it sees only the others.
_AVAILABLE = sorted(os.sched_getaffinity(0))


class BenchmarkError(Exception):
    """A job ended, or did nothing, before it could be measured."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One run: rows a second of wall time, microseconds of CPU a row (all processes of the job), peak memory.

    Memory is measured five times a second: the proportional set sizes of the job's processes together, so that a page
    which several of them share counts once.
    """

    rows: int
    rows_per_second: float
    cpu_us: float
    peak_bytes: int


@dataclass
class Series:
    """The runs of one contender."""

    name: str
    runs: list[Measured] = field(default_factory=list)
    error: str = ""


def cores() -> tuple[set[int], set[int]]:
    """Return the core that jobs are pinned to, and the others, which carry brokers and databases."""
    return {_AVAILABLE[0]}, set(_AVAILABLE[1:]) or {_AVAILABLE[0]}


def interleaved(
    contenders: Mapping[str, Callable[[int], Measured]],
    runs: int,
    say: Callable[[str], None],
    keep: Callable[[list[Series]], None] = lambda _: None,
) -> list[Series]:
    """Run each contender once, then each once more, and so on, so that changes of the machine affect them all alike.

    A contender that fails twice is left out from then on, and its series contains the error. `keep` gets the results
    after every round.
    """
    series = {name: Series(name) for name in contenders}
    failures = dict.fromkeys(contenders, 0)
    for number in range(runs):
        for name, measure in contenders.items():
            if failures[name] >= 2:
                continue
            try:
                measured = measure(number)
            except (BenchmarkError, subprocess.SubprocessError) as error:
                failures[name] += 1
                series[name].error = str(error)[-500:]
                say(f"{name}: FAILED: {series[name].error}")
                continue
            series[name].runs.append(measured)
            say(f"{name}: {measured.rows_per_second:,.0f}/s, {measured.cpu_us:.2f} µs CPU a row")
        keep(list(series.values()))
    return list(series.values())


class Job:
    """A command that runs on the cores it was given, with everything it starts; ended at the end of the block."""

    def __init__(
        self, command: Sequence[object], pinned: set[int], environment: Mapping[str, str] | None = None
    ) -> None:
        self._command = [str(part) for part in command]
        self._pinned = pinned
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("GNOMON_")}
        self._environment = {**inherited, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **(environment or {})}
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._peak = 0
        self._ended_s: dict[int, float] = {}

    def __enter__(self) -> "Job":
        pinned = self._pinned
        self._child = subprocess.Popen(
            self._command,
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: os.sched_setaffinity(0, pinned),
        )
        self._process = psutil.Process(self._child.pid)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(_END_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()
        self._log.close()

    def cpu_s(self) -> float:
        """Return the CPU time of the process and all below it so far, user and system, in seconds."""
        for process in [self._process, *self._process.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                self._ended_s[process.pid] = times.user + times.system
        return sum(self._ended_s.values())

    def look_at_memory(self) -> int:
        """Return the maximum bytes of the process and all below it so far, after another measurement."""
        held = 0
        for process in [self._process, *self._process.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                try:
                    held += process.memory_full_info().pss
                except psutil.AccessDenied:
                    held += process.memory_info().rss  # too much rather than too little
        self._peak = max(self._peak, held)
        return self._peak

    def check(self) -> None:
        """Raise BenchmarkError with its last output if it has ended."""
        if self._child.poll() is not None:
            raise BenchmarkError(f"ended with status {self._child.returncode}: {self.said()}")

    def said(self) -> str:
        """Return the end of its output."""
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - 1500))
        return self._log.read().decode("utf-8", "replace").strip()

    def watch(self, progress: Callable[[], int], rows: int, seconds: float, *, stall_s: float = _STALL_S) -> Measured:
        """Measure from the first 5,000 rows (or a tenth) until all rows, or until `seconds` later.

        So start-up time does not count. `progress` returns the number of finished rows. Raises BenchmarkError if the
        job ends or stalls.
        """
        first = self.until(progress, max(1, min(rows // 10, 5000)))
        cpu, began = self.cpu_s(), time.perf_counter()
        done, now = first, began
        moved = looked = began
        while done < rows and now - began < seconds:
            time.sleep(_LOOK_S)
            self.check()
            if now - looked > _MEMORY_LOOK_S:
                looked = now
                self.look_at_memory()
            reached, now = progress(), time.perf_counter()
            if reached > done:
                done, moved = reached, now
            elif now - moved > stall_s:
                raise BenchmarkError(f"stalled at {done} of {rows} rows: {self.said()}")
        ended = moved if done >= rows else now
        if done <= first:
            raise BenchmarkError(f"too fast to be measured: {first} of {rows} rows at the first look")
        return Measured(
            done - first,
            (done - first) / (ended - began),
            1e6 * (self.cpu_s() - cpu) / (done - first),
            self.look_at_memory(),
        )

    @property
    def pid(self) -> int:
        """Return the id of the started process."""
        return self._child.pid

    def pids(self) -> list[int]:
        """Return the process and all below it."""
        return [self.pid, *(process.pid for process in self._process.children(recursive=True))]

    def until(self, progress: Callable[[], int], rows: int, timeout_s: float = _START_S) -> int:
        """Wait until that many rows are done, and return their number; raise BenchmarkError after `timeout_s`."""
        deadline = time.perf_counter() + timeout_s
        while (done := progress()) < rows:
            self.check()
            if time.perf_counter() > deadline:
                raise BenchmarkError(f"{done} rows after {timeout_s:g} seconds: {self.said()}")
            time.sleep(_LOOK_S)
        return done


def say(line: str) -> None:
    """Show progress."""
    sys.stderr.write(line + "\n")
