"""The files that a worker opens, also by libraries in C, as its keeper sees them.

Python reports only files that it opens itself. The kernel asks the keeper at each opening (seccomp user notification,
see `process_limit`); the keeper reads the path in the worker's memory and allows the call. It records paths between
`begin` and `end`, which the worker sends before and after it loads a Python model. Standard library only.
"""

import errno
import json
import os
import socket
from contextlib import suppress
from pathlib import Path

from gnomon_consumer.scorer.worker import kernel

CALLS = ("open", "openat", "openat2")
_BEGIN, _END = b"b", b"e"
_HERE = 0xFFFFFF9C  # AT_FDCWD: relative to the working folder
_MOST_PATHS, _MOST_BYTES = 20_000, 4_000_000
_LONGEST = 4096
_ANSWER_SECONDS = 10.0


class KeeperChannel:
    """The worker's end of the channel to its keeper; `refused`: why the keeper sees nothing."""

    def __init__(self, channel: socket.socket | None, refused: str = "") -> None:
        self._channel, self._refused = channel, refused

    def begin(self) -> None:
        """Let the keeper record what is opened from now on."""
        if self._channel is not None:
            self._channel.sendall(_BEGIN)

    def end(self) -> tuple[list[str], str]:
        """Return the recorded paths, and why paths may be missing (empty if none is); the keeper stops recording."""
        if self._channel is None:
            return [], self._refused
        with self._channel as channel:
            channel.settimeout(_ANSWER_SECONDS)
            try:
                channel.sendall(_END)
                said = b"".join(iter(lambda: channel.recv(2**16), b""))
                paths, refused = json.loads(said)
            except (OSError, ValueError) as error:
                return [], f"the keeper did not answer: {error}"
        return paths, refused


class OpenedPaths:
    """The paths that a worker opens; `channel` is the keeper's end of the channel between them."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel: socket.socket | None = channel
        self._numbers = {kernel.number(name): name for name in CALLS}
        self._recording = False
        self._paths: set[str] = set()
        self._bytes = 0
        self._refused = ""

    def is_opening(self, number: int) -> bool:
        """Return whether a system call opens a file."""
        return number in self._numbers

    def read_message(self) -> None:
        """Read one message of the worker; close the channel after the answer, or if the worker closed it."""
        if self.channel is None:
            return
        try:
            word = self.channel.recv(1)
            if word == _BEGIN:
                self._recording = True
                return
            if word == _END:
                self.channel.settimeout(1.0)  # a model that does not read must not hold the keeper up
                self.channel.sendall(json.dumps([sorted(self._paths), self._refused]).encode())
        except OSError:
            pass
        self.channel.close()
        self.channel, self._recording, self._paths = None, False, set()

    def record(self, process: int, number: int, arguments: tuple[int, int]) -> None:
        """Record the path that a call is about to open, or why it cannot be read."""
        if not self._recording:
            return
        folder, address = (_HERE, arguments[0]) if self._numbers[number] == "open" else arguments
        try:
            path = _text(process, address)
            if path and not path.startswith("/"):
                where = "cwd" if folder & 0xFFFFFFFF == _HERE else f"fd/{folder & 0xFFFFFFFF}"
                path = str(Path(f"/proc/{process}/{where}").readlink() / path)
        except OSError as error:
            if error.errno not in (errno.ESRCH, errno.EBADF, errno.ENOENT):  # it ended, or its own call fails too
                self._refused = f"its memory cannot be read ({error.strerror})"
            return
        if path in self._paths:
            return
        self._bytes += len(path)
        if len(self._paths) >= _MOST_PATHS or self._bytes > _MOST_BYTES:
            self._refused = f"it opens more than {_MOST_PATHS} files"
        else:
            self._paths.add(path)


def _text(process: int, address: int) -> str:
    """Return the text at an address of a process, up to its NUL; raises OSError."""
    memory = os.open(f"/proc/{process}/mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with suppress(OverflowError):
            return os.fsdecode(os.pread(memory, _LONGEST, address).partition(b"\0")[0])
        return ""
    finally:
        os.close(memory)
