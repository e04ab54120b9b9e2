"""Embedded servers that outlive the command that started them: `gnomon up` and `gnomon down`.

A holder process keeps both servers, in a session of its own. A folder contains the database, which stays, and
`up.json`, which has the addresses of the running servers. The holder ends on SIGTERM. If it is killed, its children
stop the servers, and the remaining file names a process that no longer exists.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from gnomon_consumer.quickstart.embedded.server import STOP_SECONDS
from gnomon_consumer.quickstart.embedded.start import start_kafka, start_postgres
from gnomon_consumer.runtime.folder_lock import alone_in
from gnomon_schemas.errors import ConfigurationError, DependencyUnreachableError, GnomonError

STATE = "up.json"
DATABASE = "database"
START_SECONDS = 120.0
_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class RunningServers:
    """Running servers: process id and start time (Linux clock ticks) of the holder, and both addresses."""

    pid: int
    started: str
    bootstrap_servers: str
    database_url: str


def _started(pid: int) -> str | None:
    """Return when a process started, None if it does not exist. Pid and start time together are unique."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def running_servers(folder: Path) -> RunningServers | None:
    """Return the running servers of a folder, None if there are none or only the file of a killed holder."""
    try:
        found = RunningServers(**json.loads((folder / STATE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return found if _started(found.pid) == found.started else None


def start(folder: Path) -> RunningServers:
    """Start the servers of a folder and return their addresses; return running servers unchanged.

    Raises ConfigurationError if the folder cannot be created, DependencyUnreachableError if a server does not start.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be made: {error.strerror}") from None
    with _alone(folder):
        return running_servers(folder) or _start(folder)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other command starts or stops the servers of a folder; the lock ends with its process."""
    with ExitStack() as stack:
        try:
            stack.enter_context(alone_in(folder))
        except OSError as error:
            raise ConfigurationError(f"{folder} cannot be used: {error.strerror}") from None
        yield


def _start(folder: Path) -> RunningServers:
    try:
        log = (folder / "servers.log").open("ab")
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be written: {error.strerror}") from None
    with log:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(folder)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True,
        )  # fmt: skip
    assert process.stdout is not None
    answer = json.loads(process.stdout.readline() or '{"error": "the servers ended while they started"}')
    process.stdout.close()
    if "error" in answer:
        process.wait(STOP_SECONDS)
        raise DependencyUnreachableError(f"{answer['error']}; see {folder / 'servers.log'}")
    return RunningServers(**answer)


def stop(folder: Path) -> bool:
    """Stop the servers of a folder and wait until they have ended; return whether there were any."""
    if not folder.is_dir():
        return False
    with _alone(folder):
        running = running_servers(folder)
        if running is not None:
            _end(running)
        (folder / STATE).unlink(missing_ok=True)
    return running is not None


def _end(running: RunningServers) -> None:
    """End a holder, and wait until it has ended."""
    descriptor = os.pidfd_open(running.pid)
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGTERM)
        while _started(running.pid) == running.started:
            time.sleep(0.05)  # until init has taken its exit status: before that, `running_servers` still finds it
    finally:
        os.close(descriptor)


def main(folder: Path) -> int:
    """Hold the servers until SIGTERM, or until one of them ends; return the exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with ExitStack() as stack:
            kafka = stack.enter_context(start_kafka(log=folder / "kafka.log"))
            postgres = stack.enter_context(start_postgres(folder / DATABASE, log=folder / "postgres.log"))
            # Waited for below, without a handler; before, SIGTERM ends this process, and its children stop the servers.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            here = RunningServers(os.getpid(), _started(os.getpid()) or "", kafka.address, postgres.address)
            text = json.dumps(asdict(here))
            state = folder / STATE
            state.touch(mode=0o600)
            state.write_text(text, encoding="utf-8")
            print(text, flush=True)
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads it from here on
            while kafka.running() and postgres.running():
                if signal.sigtimedwait({signal.SIGTERM}, _LOOK_SECONDS) is not None:
                    break
            state.unlink(missing_ok=True)
    except (GnomonError, OSError) as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
