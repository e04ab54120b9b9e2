"""Processes with the hook, for tests that end them.

`python -m tests.support.hook_processes MODE BOOTSTRAP STREAM …`
"""

import concurrent.futures
import json
import mmap
import multiprocessing
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from gnomon_producer import Tap
from tests.support.tap import GOOD, make_tap

BUFFER_BYTES = 2_000_000


def _work(tap: Tap, name: str, number: int) -> None:
    for index in range(number):
        with tap.capture(f"{name}-{index}", GOOD) as shot:
            shot.predicted(0.5)


def end_by_itself(bootstrap: str, stream: str) -> None:
    """Capture and reach the end of the program, nothing else."""
    _work(make_tap(bootstrap, stream), "r", 200)


def wait_for_sigterm(bootstrap: str, stream: str) -> None:
    """Capture, report it, and wait for the signal."""
    _work(make_tap(bootstrap, stream, handle_sigterm=True), "r", 200)
    print("ready", flush=True)
    while True:
        time.sleep(60)


def two_taps_wait_for_sigterm(bootstrap: str, stream: str) -> None:
    """Do the same with two hooks on a broker that may be unreachable: they share one deadline."""
    for number in range(2):
        _work(make_tap(bootstrap, f"{stream}{number}", handle_sigterm=True), "r", 5)
    print("ready", flush=True)
    while True:
        time.sleep(60)


TAP: Tap | None = None
"""A Tap as services have it: a global of the module, created on import, before any fork."""


def _child(name: str, number: int) -> None:
    assert TAP is not None
    _work(TAP, name, number)


def _spawned(bootstrap: str, stream: str, name: str, number: int) -> None:
    """Import the service again, in a spawned process."""
    _work(make_tap(bootstrap, stream), name, number)


def _fork_here(name: str) -> None:
    """Fork in a thread. Such a child ends with its thread and runs no exit handlers, so it closes the Tap itself."""
    assert TAP is not None
    pid = os.fork()
    if pid == 0:
        _work(TAP, name, 50)
        os._exit(0 if TAP.close() else 1)
    if os.waitpid(pid, 0)[1]:
        os._exit(1)  # the test sees it, unlike an exception of a thread


def fork(bootstrap: str, stream: str, how: str, used: str) -> None:
    """Fork in every way of Python, from a parent that has or has not `used` its Tap; each child captures 50."""
    global TAP
    TAP = make_tap(bootstrap, stream)
    if used == "used":
        _work(TAP, "parent", 50)
    busy = threading.Thread(target=_work, args=(TAP, "thread", 2000)) if used == "used" else None
    if busy:
        busy.start()
    if how == "os":
        children = []
        for number in range(3):
            pid = os.fork()
            if pid == 0:
                _work(TAP, f"child{number}", 50)
                sys.exit(0)  # a normal exit, like a gunicorn worker's
            children.append(pid)
        assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
    elif how == "nested":
        pid = os.fork()
        if pid == 0:
            _work(TAP, "child0", 50)
            if os.fork() == 0:
                _work(TAP, "child1", 50)
                sys.exit(0)
            assert os.wait()[1] == 0
            _work(TAP, "child2", 50)
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
    elif how == "thread":
        forking = [threading.Thread(target=_fork_here, args=(f"child{number}",)) for number in range(3)]
        for thread in forking:
            thread.start()
        for thread in forking:
            thread.join()
    elif how == "pool":
        with concurrent.futures.ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("fork")) as pool:
            list(pool.map(_child, [f"child{number}" for number in range(3)], [50] * 3))
    else:
        context: Any = multiprocessing.get_context(how)  # its type stubs have separate types for each kind of context
        arguments = [(bootstrap, stream)] * 3 if how != "fork" else [()] * 3
        target = _child if how == "fork" else _spawned
        processes = [
            context.Process(target=target, args=(*given, f"child{number}", 50))
            for number, given in enumerate(arguments)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
            assert process.exitcode == 0
    if busy:
        busy.join()


def _peak_bytes() -> int:
    """Return the peak memory of this program. (getrusage includes the program before the exec.)"""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def storm(bootstrap: str, stream: str, calls: str) -> None:
    """Capture without a broker, and report the cost: errors, peak memory over the start's, the account, the exit."""
    started = time.monotonic()
    tap = make_tap(bootstrap, stream, max_buffer_bytes=32 * 1024 * 1024)
    _work(tap, "warm-up", 1)
    start_s = time.monotonic() - started
    before = _peak_bytes()
    threads = [threading.Thread(target=_work, args=(tap, f"t{number}", int(calls) // 4)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    grown = _peak_bytes() - before
    seconds = time.monotonic() - started
    closing = time.monotonic()
    tap.close()
    stats = tap.stats()
    print(
        json.dumps(
            {
                "start_s": start_s,
                "seconds": seconds,
                "close_s": time.monotonic() - closing,
                "grown_bytes": grown,
                "offered": stats.offered,
                "delivered": stats.delivered,
                "dropped": dict(stats.dropped),
                "in_flight": stats.in_flight,
            }
        ),
        flush=True,
    )


def until_killed(bootstrap: str, stream: str, ledger: str) -> None:
    """Capture forever, counting offered and dropped captures in a mapped file, which survives SIGKILL."""
    tap = make_tap(bootstrap, stream, max_buffer_bytes=BUFFER_BYTES)
    with Path(ledger).open("r+b") as file, mmap.mmap(file.fileno(), 16) as noted:
        index = 0
        while True:
            noted[:8] = (index + 1).to_bytes(8, "little")
            tap.record(f"r{index}", GOOD, value=0.5)
            noted[8:] = sum(tap.delivery.captures.counts().dropped.values()).to_bytes(8, "little")
            index += 1
            if index % 10 == 0:
                time.sleep(0.001)


MODES = {
    "end": end_by_itself,
    "sigterm": wait_for_sigterm,
    "two-taps": two_taps_wait_for_sigterm,
    "fork": fork,
    "storm": storm,
    "until-killed": until_killed,
}

if __name__ == "__main__":
    signal.alarm(1800)  # a process that a test forgets ends by itself
    MODES[sys.argv[1]](*sys.argv[2:])  # type: ignore[operator]  # the tests give each mode its arguments
