"""The end of a long-running command: the first signal asks it to stop; a second one, or ten seconds, end it at once."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

GRACE_SECONDS = 9.5
SIGNALS = (signal.SIGTERM, signal.SIGINT)


def why_stopped(asked: bool, otherwise: str) -> str:
    """Return why a service ends, for its last log line: an error being raised, a signal, or `otherwise`."""
    if sys.exc_info()[0] is not None:
        return "error"
    return "signal" if asked else otherwise


@contextmanager
def stop_on_signals(grace_seconds: float = GRACE_SECONDS) -> Iterator[threading.Event]:
    """Yield an event that SIGTERM or SIGINT sets.

    A second signal, or the end of the grace time within the block, exits at once with 128 + the signal's number; the
    next run repeats uncommitted work. Both also work while the main thread is inside a call of a C library, for which
    Python's own handlers wait. A thread sets the event and not a handler: a handler runs in the main thread, also while
    that thread holds the event's lock, and would wait for itself.
    """
    stop = threading.Event()
    heard, told = socket.socketpair()
    told.setblocking(False)
    before = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
    others = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
    watch = threading.Thread(target=_watch, args=(heard, stop, grace_seconds), name="gnomon-stop", daemon=True)
    watch.start()
    try:
        yield stop
    finally:
        signal.set_wakeup_fd(others)
        for number, handler in before.items():
            signal.signal(number, handler)
        told.close()
        watch.join()
        heard.close()


def _watch(heard: socket.socket, stop: threading.Event, grace_seconds: float) -> None:
    """Wait for the first signal, then for the second one; the socket closes at the end of the block."""
    first = _next_signal(heard)
    if first is None:
        return
    stop.set()
    heard.settimeout(grace_seconds)
    try:
        second = _next_signal(heard)
    except TimeoutError:
        os.write(2, b"gnomon: still busy, ended anyway; the next run repeats uncommitted work\n")
        second = first
    if second is not None:
        os._exit(128 + second)


def _next_signal(heard: socket.socket) -> int | None:
    while number := heard.recv(1):
        if number[0] in SIGNALS:
            return number[0]
    return None
