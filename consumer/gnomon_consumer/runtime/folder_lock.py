"""A lock on a folder between processes, for commands that read and then write files in it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def alone_in(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Enter the block when no other process is in it for the folder. The lock ends with its process.

    Raises OSError if the folder cannot be opened, and BlockingIOError if another process has the lock and `wait` is
    false.
    """
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(lock)
