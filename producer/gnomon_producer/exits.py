"""Draining when the process ends: at exit, on SIGTERM, and in the children of multiprocessing, which run no atexit."""

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Protocol


class Closable(Protocol):
    """An object that can be closed within a bounded time."""

    exit_timeout_s: float

    def close(self, timeout: float) -> bool:
        """Drain for at most `timeout` seconds; never raise."""
        ...


_open: set[Closable] = set()


def close_at_exit(delivery: Closable) -> None:
    """Close `delivery` when this process exits normally."""
    if not _open:
        atexit.register(_close_all)
        _close_at_multiprocessing_exit()
    _open.add(delivery)


def forget(delivery: Closable) -> None:
    """Remove it from the list: its owner has closed it."""
    _open.discard(delivery)


def close_on_sigterm() -> None:
    """Drain before SIGTERM ends the process, unless the service has its own handler.

    A server with its own handler (gunicorn, celery) ends by an orderly exit and is left alone.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        with contextlib.suppress(ValueError):  # a subinterpreter may not
            signal.signal(signal.SIGTERM, _on_sigterm)


def _on_sigterm(signum: int, _frame: FrameType | None) -> None:
    _close_all()
    signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)


def _close_all() -> None:
    """Close everything under one common deadline, however many there are."""
    deliveries = list(_open)
    if not deliveries:
        return
    deadline = time.monotonic() + max(delivery.exit_timeout_s for delivery in deliveries)
    for delivery in deliveries:
        delivery.close(max(0.0, deadline - time.monotonic()))


def _close_at_multiprocessing_exit() -> None:
    """Close at the end of a forked child of multiprocessing, which runs finalizers only (until Python 3.13)."""
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util.Finalize(None, _close_all, exitpriority=100)


# Clients that the parent opened are the parent's to close.
os.register_at_fork(after_in_child=_open.clear)
