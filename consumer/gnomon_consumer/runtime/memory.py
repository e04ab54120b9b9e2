"""Memory settings for processes that hold hundreds of thousands of captures."""

import contextlib
import ctypes
import gc

_THRESHOLDS = (200_000, 20, 100)
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # <malloc.h>
_KEPT_BYTES, _LARGEST_BYTES = 512 * 2**20, 32 * 2**20  # the latter is the most that glibc takes


def collect_rarely() -> None:
    """Exclude existing objects from garbage collection, and search for cycles rarely.

    Captures wait in plain tuples without cycles and are freed by their reference counts; walking all of them for every
    thousand new ones costs more than sampling them. Call this in our own processes only, before their loop begins.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)


def keep_memory() -> None:
    """Let glibc keep up to 512 MiB of freed memory for reuse; other C libraries are left unchanged.

    Windows allocate and free tens of megabytes: if freed pages return to the kernel, they must be requested and zeroed
    again.
    """
    with contextlib.suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_BYTES)
