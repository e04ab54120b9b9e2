"""What is done about memory in processes that hold captures by the hundred thousand."""

import contextlib
import ctypes
import gc

_THRESHOLDS = (200_000, 20, 100)
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # <malloc.h>
_KEPT_BYTES, _LARGEST_BYTES = 512 * 2**20, 32 * 2**20  # the latter is the most that glibc takes


def collect_rarely() -> None:
    """Keep what exists out of every collection, and look for cycles once in many captures.

    Captures wait in plain tuples, without cycles, and are freed by their reference counts; walking all of them again
    for each thousand that is new costs more than sampling them. For processes of our own, before their loop begins.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)


def keep_memory() -> None:
    """Let glibc keep what is freed for what comes next, up to 512 MiB; another C library is left as it is.

    Windows come and go by the ten megabytes: given back each time, pages have to be asked for, and made zero, anew.
    """
    with contextlib.suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_BYTES)
