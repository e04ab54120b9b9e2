"""One server of a kind for the whole test run, whichever process of the run asks first.

A server belongs to a process of its own (`tests.support.servers.server`), not to the pytest worker that happened to
ask first: workers come and go, and that process also detects when the run is killed. The run's folder holds
a lock and a note (address or error) for each kind.
"""

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
STOP_TIMEOUT_S = 20.0


class ServerUnavailableError(Exception):
    """The server is not available on this machine; the text lists what was tried."""


@dataclass(frozen=True)
class Servers:
    """The servers of the test run that process `owner` leads; `folder` is shared by all its processes."""

    folder: Path
    owner: int

    @classmethod
    def create(cls) -> "Servers":
        """Begin a run led by this process."""
        return cls(Path(tempfile.mkdtemp(prefix="gnomon-test-")), os.getpid())

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold the run-wide lock `name`."""
        with (self.folder / f"{name}.lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def address(self, kind: str) -> str:
        """Return the address of the run's server of this kind, starting it first if nobody has.

        Raises:
            ServerUnavailableError: it cannot be started here (the answer is remembered for the whole run).
        """
        note = self.folder / f"{kind}.json"
        with self.lock(kind):
            if not note.exists():
                note.write_text(json.dumps(self._start_server(kind)))
        answer = json.loads(note.read_text())
        if answer["error"] is not None:
            raise ServerUnavailableError(answer["error"])
        return str(answer["address"])

    def _start_server(self, kind: str) -> dict[str, str | None]:
        command = [sys.executable, "-m", "tests.support.servers.server", kind, str(self.folder), str(self.owner)]
        log = self.folder / f"{kind}.log"
        with log.open("w") as errors:
            child = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        (self.folder / f"{kind}.pid").write_text(str(child.pid))
        assert child.stdout is not None
        with child.stdout:
            line = child.stdout.readline()
        if not line:
            tail = "\n".join(log.read_text().splitlines()[-15:])
            return {"address": None, "error": f"the process of {kind} died:\n{tail}"}
        answer: dict[str, str | None] = json.loads(line)
        if answer["error"] is None:
            # The child outlives this process; Popen must not complain about that when it is collected.
            child.returncode = 0
        else:
            child.wait()
        return answer

    def stop(self) -> None:
        """Stop every server of the run and remove the folder; only the owner calls this, at the end."""
        handles: dict[int, int] = {}
        for note in self.folder.glob("*.pid"):
            with contextlib.suppress(ProcessLookupError):
                pid = int(note.read_text())
                handles[pid] = os.pidfd_open(pid)
                signal.pidfd_send_signal(handles[pid], signal.SIGTERM)
        for pid, handle in handles.items():
            if not wait_for_exit(handle, STOP_TIMEOUT_S):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
            os.close(handle)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        shutil.rmtree(self.folder, ignore_errors=True)


def wait_for_exit(handle: int, timeout_s: float | None) -> bool:
    """Wait until the process of the pidfd `handle` has ended; False if it lives after `timeout_s` seconds."""
    return bool(select.select([handle], [], [], timeout_s)[0])
