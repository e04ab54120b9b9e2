"""Memory settings for processes that hold hundreds of thousands of captures."""

import contextlib
import ctypes
import gc
import sys
from importlib.abc import MetaPathFinder

from typing_extensions import override

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


class _WithoutPandas(MetaPathFinder):
    """Makes `import pandas` fail as if it were not installed."""

    @override
    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        """Raise ModuleNotFoundError for pandas; None, which leaves the answer to others, for the rest."""
        if fullname == "pandas":
            raise ModuleNotFoundError("left out", name=fullname)


def leave_out_pandas() -> None:
    """Have Arrow look for pandas now and not find it, so that it never loads it in this process.

    Where pandas is installed, Arrow's first use imports it to recognize series: some 0.3 s of CPU time and 50 MB in
    each process, for values that Gnomon never gives it. Code that imports pandas by itself is not affected.
    """
    if "pandas" in sys.modules:
        return
    import pyarrow as pa

    finder = _WithoutPandas()
    sys.meta_path.insert(0, finder)
    try:
        pa.array([])
    finally:
        sys.meta_path.remove(finder)
