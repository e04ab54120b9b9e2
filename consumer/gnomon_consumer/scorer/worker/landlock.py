"""Landlock rules (Linux 5.13): files that a worker may read, devices that it may write. Standard library only.

Landlock also keeps a process from tracing others and from reading their environment and memory in /proc, and, from
Linux 6.12 on, from signalling them.
"""

import ctypes
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from gnomon_consumer.scorer.worker import kernel

_WRITE_FILE, _READ_FILE, _READ_DIRECTORY, _REFER, _TRUNCATE, _IOCTL = (1 << bit for bit in (1, 2, 3, 13, 14, 15))
_CHANGES = _WRITE_FILE | sum(1 << bit for bit in range(4, 13))  # remove files, and create files of each kind
_SCOPES = 0b11  # abstract sockets, signals
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full")
_GPUS = ("nvidia*", "nvidia-caps/*", "dri/*", "kfd", "dxg")
WRITING_STOPS = 3  # the version from which truncation is covered


def version() -> int:
    """Return this kernel's version of Landlock, 0 without Landlock."""
    try:
        return kernel.call("landlock_create_ruleset", 0, 0, 1)
    except OSError:
        return 0


def restrict(hidden: Sequence[str]) -> int:
    """Let this process read all files but `hidden` and write only devices; return the Landlock version in force.

    Raises OSError. `hidden` are real paths; files created later next to a hidden file cannot be read either.
    """
    found = version()
    handled = _CHANGES | _READ_FILE | _READ_DIRECTORY
    size = 8  # of the attributes that this version knows
    if found >= 2:
        handled |= _REFER
    if found >= 3:
        handled |= _TRUNCATE
    if found >= 4:
        size = 16
    if found >= 5:
        handled |= _IOCTL
    if found >= 6:
        size = 24
    attributes = struct.pack("<QQQ", handled, 0, _SCOPES)[:size]
    ruleset = kernel.call("landlock_create_ruleset", ctypes.c_char_p(attributes), size, 0)
    for path in readable("/", hidden):
        _allow(ruleset, path, _READ_FILE | _READ_DIRECTORY if Path(path).is_dir() else _READ_FILE)
    for path in split("/", hidden):
        _allow(ruleset, path, _READ_DIRECTORY)
    for path in (*_DEVICES, *gpus()):
        _allow(ruleset, path, (_READ_FILE | _WRITE_FILE | _TRUNCATE | _IOCTL) & handled)
    kernel.call("landlock_restrict_self", ruleset, 0)
    os.close(ruleset)
    return found


def gpus() -> Iterator[str]:
    """Return the devices of graphics processors."""
    return (str(path) for pattern in _GPUS for path in Path("/dev").glob(pattern) if not path.is_dir())


def readable(folder: str, hidden: Iterable[str]) -> Iterator[str]:
    """Return the largest trees below `folder` without a hidden file."""
    within = [path for path in hidden if _within(path, folder)]
    if not within:
        yield folder
    elif folder not in within:
        with suppress(OSError), os.scandir(folder) as entries:
            # A rule for a link grants nothing: its target is checked at its own path.
            for entry in entries:
                if not entry.is_symlink():
                    yield from readable(entry.path, within)


def split(folder: str, hidden: Iterable[str]) -> Iterator[str]:
    """Return the folders above hidden files: they can be listed, but new files in them cannot be read."""
    for path in hidden:
        if _within(path, folder):
            above = [str(parent) for parent in Path(path).parents]
            yield from above[: above.index(folder) + 1]


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _allow(ruleset: int, path: str, rights: int) -> None:
    with suppress(OSError):  # it was removed, or its file system does not support rules
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            kernel.call("landlock_add_rule", ruleset, 1, ctypes.c_char_p(struct.pack("=Qi", rights, descriptor)), 0)
        finally:
            os.close(descriptor)
