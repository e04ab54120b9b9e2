"""The join in a separate process that starts at once (imports are done) and can be killed anywhere."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import psycopg

from gnomon_consumer.runtime.parent_death import tie_to_parent
from gnomon_consumer.settings import load_settings

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    ["gnomon_consumer.cli.join", "gnomon_consumer.cli.labels", "tests.support.join_processes"]
)


def shipped(*arguments: str) -> ForkServerProcess:
    """Start the shipped command."""
    return _start(_command, list(arguments))


def killed_at(settings: Mapping[str, Any], point: str, turn: int) -> ForkServerProcess:
    """Start a joiner that kills itself with SIGKILL when it reaches `point` for the `turn`-th time."""
    return _start(_join_until, dict(settings), point, turn, signal.SIGKILL)


def stopped_at(settings: Mapping[str, Any], point: str) -> ForkServerProcess:
    """Return a joiner that has stopped itself with SIGSTOP when it first reached `point`."""
    process = _start(_join_until, dict(settings), point, 1, signal.SIGSTOP)
    deadline = time.monotonic() + 60
    while _status(process, "State") != "T":
        assert process.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.01)  # the kernel tells only the parent, which is the fork server
    return process


def replay_killed_at(url: str, point: str, shadow: Mapping[str, Any], value: bytes) -> ForkServerProcess:
    """Start the replay of one dead letter at partition 0 that kills itself with SIGKILL at `point`."""
    return _start(_replay_until, url, point, dict(shadow), value)


@contextmanager
def running(*arguments: str) -> Iterator[ForkServerProcess]:
    """Run the shipped command for the length of a block; it must end in time after SIGTERM.

    The block begins once the command listens to SIGTERM, so that the signal cannot arrive earlier.
    """
    process = shipped(*arguments)
    try:
        deadline = time.monotonic() + 60
        while not _catches_sigterm(process):
            assert process.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield process
        process.terminate()
        process.join(10)
        assert process.exitcode == 0
    finally:
        process.kill()
        process.join()


def _catches_sigterm(process: ForkServerProcess) -> bool:
    return bool(int(_status(process, "SigCgt"), 16) >> (signal.SIGTERM - 1) & 1)


def _status(process: ForkServerProcess, name: str) -> str:
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{name}:"))


def _start(target: Any, *arguments: Any) -> ForkServerProcess:
    # A daemon is ended at the exit of an interrupted run, which would else wait for it forever.
    process = _context.Process(target=_tied, args=(target, *arguments), daemon=True)
    process.start()
    return process


def _tied(target: Any, *arguments: Any) -> None:
    tie_to_parent(os.getppid(), signal.SIGKILL)  # the parent is the fork server, which ends with the run
    target(*arguments)


def _command(arguments: list[str]) -> None:
    from gnomon_consumer.cli import main

    main(arguments)


def _join_until(overrides: dict[str, Any], point: str, turn: int, signum: signal.Signals) -> None:
    from gnomon_consumer.joiner.service import Joiner

    at = _killer(point, turn, signum)
    Joiner(load_settings(overrides), "challenger", threading.Event(), drain=True, on_checkpoint=at).run()


def _replay_until(url: str, point: str, shadow: dict[str, Any], value: bytes) -> None:

    from gnomon_consumer.joiner.postgres.dead_letters import LetterSink
    from tests.support.joined_windows import READER

    LetterSink(psycopg.connect(url), "s", "challenger", _killer(point, 1)).replay(shadow, 0, "", value, READER)


def _killer(point: str, turn: int, signum: signal.Signals = signal.SIGKILL) -> Callable[[str], None]:
    """Return a function that sends itself a signal when it reaches `point` for the `turn`-th time."""
    seen = 0

    def at(place: str) -> None:
        nonlocal seen
        seen += place == point
        if seen == turn and place == point:
            os.kill(os.getpid(), signum)

    return at


def arguments(bootstrap: str, stream: str, url: str) -> list[str]:
    return ["--bootstrap-servers", bootstrap, "--stream", stream, "--deployment", "challenger", "--database-url", url]


def settings_of(bootstrap: str, stream: str, url: str, **properties: str) -> dict[str, Any]:
    """Return the same as settings; in the names of librdkafka's properties `_` is a point."""
    kafka = {"properties": {name.replace("_", "."): value for name, value in properties.items()}}
    return {"bootstrap_servers": bootstrap, "stream": stream, "database_url": url, "kafka": kafka}
