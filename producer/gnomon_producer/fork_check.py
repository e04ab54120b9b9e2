"""A check whether a forked child can use librdkafka: a thread that may wait forever asks it for random bytes first.

A fork copies locks as they are. If a thread of the parent holds the lock of OpenSSL's random generator at that moment,
nobody in the child releases it. librdkafka's threads then wait forever, and hold a lock that `produce` takes. And
`produce` keeps Python's GIL while it waits, so the whole service would block. A call through ctypes releases the GIL,
so here only one idle thread waits.
"""

import ctypes
import threading
from collections.abc import Callable

from confluent_kafka import cimpl

PATIENCE_S = 0.1  # the check takes microseconds; a thread may start late on a busy machine


def _salting() -> Callable[[], object] | None:
    """Return a function of librdkafka that draws random bytes, for a salt.

    None if this librdkafka has no such function, because it was built without OpenSSL.
    """
    try:
        library = ctypes.CDLL(cimpl.__file__)
        make = library.rd_kafka_UserScramCredentialUpsertion_new
        destroy = library.rd_kafka_UserScramCredentialAlteration_destroy
    except (AttributeError, OSError):
        return None
    make.restype = ctypes.c_void_p
    make.argtypes = [
        ctypes.c_char_p, ctypes.c_int, ctypes.c_int32,  # user, mechanism (1: SCRAM-SHA-256), iterations
        ctypes.c_char_p, ctypes.c_size_t,  # password
        ctypes.c_char_p, ctypes.c_size_t,  # salt
    ]  # fmt: skip
    destroy.argtypes, destroy.restype = [ctypes.c_void_p], None
    return lambda: destroy(make(b"-", 1, 4096, b"-", 1, None, 0))


draw_bytes = _salting()  # looked up before any fork, because the dynamic linker has a lock, too


class ForkCheck:
    """One check of one process; `draw` asks librdkafka's OpenSSL for random bytes."""

    def __init__(self, draw: Callable[[], object] | None = draw_bytes) -> None:
        self._draw = draw
        self._passed = threading.Event()
        self._thread: threading.Thread | None = None

    def passed(self) -> bool:
        """Return whether librdkafka can be used. The first call waits up to PATIENCE_S, later ones do not wait.

        Raises RuntimeError if the process cannot start a thread.
        """
        if self._draw is not None and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="gnomon-fork-check", daemon=True)
            self._thread.start()
            self._passed.wait(PATIENCE_S)
        return self._draw is None or self._passed.is_set()

    def _run(self) -> None:
        assert self._draw is not None
        self._draw()
        self._passed.set()
