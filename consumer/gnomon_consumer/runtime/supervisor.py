"""Child processes that are watched and never outlive their parent.

Each child leads its own session, so that Ctrl-C reaches only the parent, which then stops the children in its own
order; `parent_death` ends them if the parent cannot. A child's output goes to a log file, whose last
lines explain its end, or to the parent's standard error.
"""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType

from gnomon_consumer.runtime.parent_death import leashed
from gnomon_schemas.errors import GnomonError

LAST_LINES = 8


class ChildDiedError(GnomonError):
    """A child process ended although it was needed; the text names it and shows its last lines."""

    def __init__(self, name: str, status: int, last_lines: str) -> None:
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        super().__init__(f"{name} {how}:\n{last_lines}" if last_lines else f"{name} {how}; its last lines are above")
        # An unreachable dependency is the parent's problem, too.
        self.exit_status = 3 if status == 3 else 1


def clean_environment() -> dict[str, str]:
    """Return this process's environment without Gnomon's settings, so that children see only the given ones."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GNOMON_")}


class Child:
    """One running child; `process.stdin` and `.stdout` are pipes of text if it is `piped`."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path | None,
        environment: Mapping[str, str],
        *,
        piped: bool = False,
        show: bool = False,
    ) -> None:
        self.name = name
        self.log = log
        pipe = subprocess.PIPE if piped else None
        with log.open("ab") if log else nullcontext() as output:
            self.process = subprocess.Popen(
                leashed(command),
                stdin=pipe or subprocess.DEVNULL,
                stdout=None if show else pipe or output,
                stderr=output,
                text=True,
                env=environment,
                start_new_session=True,
            )

    def last_lines(self) -> str:
        """Return the last lines of its log; empty without a log."""
        if self.log is None:
            return ""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-LAST_LINES:]) or f"(it printed nothing; its log is {self.log})"

    def died(self, status: int) -> ChildDiedError:
        """Return the error for its end."""
        return ChildDiedError(self.name, status, self.last_lines())


class Children(AbstractContextManager["Children"]):
    """Several children that belong together; leaving the block stops them all.

    `logs` is the folder of their log files, None for our own outputs; `environment` is added to ours.
    """

    def __init__(
        self, logs: Path | None = None, grace_seconds: float = 12.0, environment: Mapping[str, str] | None = None
    ) -> None:
        self._logs = logs
        self._environment = clean_environment() if environment is None else {**os.environ, **environment}
        self._grace_seconds = grace_seconds
        self._running: list[Child] = []

    def start(self, name: str, command: Sequence[str], piped: bool = False, show: bool = False) -> Child:
        """Start one; it should run until `stop`."""
        log = self._logs / f"{name.replace(' ', '-')}.log" if self._logs else None
        child = Child(name, command, log, self._environment, piped=piped, show=show)
        self._running.append(child)
        return child

    def start_gnomon(self, name: str, *arguments: object, show: bool = False) -> Child:
        """Start a `gnomon` command of this installation; `show` lets it write to our standard output."""
        return self.start(name, [sys.executable, "-m", "gnomon_consumer", *map(str, arguments)], show=show)

    def run_gnomon(self, name: str, *arguments: object, show: bool = False) -> None:
        """Run a `gnomon` command to its end; raise ChildDiedError if the status is not 0."""
        self.expect_end(self.start_gnomon(name, *arguments, show=show))

    def check(self, but: Child | None = None) -> None:
        """Raise ChildDiedError if one has ended; `but` may have ended without an error."""
        for child in self._running:
            status = child.process.poll()
            if status is not None and not (child is but and status == 0):
                raise child.died(status)

    def forget(self, child: Child) -> None:
        """Stop watching one that was allowed to end."""
        self._running.remove(child)

    def expect_end(self, child: Child) -> None:
        """Wait until one ends without an error while the others run; raise ChildDiedError for any other end."""
        while (status := child.process.poll()) is None:
            for other in self._running:
                if other is not child and (ended := other.process.poll()) is not None:
                    raise other.died(ended)
            time.sleep(0.02)
        self._running.remove(child)
        if status != 0:
            raise child.died(status)

    def stop(self) -> None:
        """Send SIGTERM to all; after the grace time, SIGKILL to the rest."""
        deadline = time.monotonic() + self._grace_seconds
        for child in self._running:
            child.process.terminate()
        for child in self._running:
            try:
                child.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
            for pipe in (child.process.stdin, child.process.stdout):
                if pipe is not None:
                    pipe.close()
        self._running.clear()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
