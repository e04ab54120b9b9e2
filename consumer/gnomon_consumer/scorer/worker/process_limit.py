"""A limit on the processes and threads of one worker, counted over its own descendants only.

RLIMIT_NPROC counts every thread of a user on the whole host, other containers included, and does not limit root. So
each fork and each new thread of the worker waits for its keeper (seccomp user notification, Linux 5.5), which counts
and answers. If the kernel has no notification, the keeper counts at short intervals instead.
"""

import errno
import fcntl
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from gnomon_consumer.scorer.worker import kernel, opens, seccomp

_STARTS = ("clone", "fork", "vfork", "clone3")
_NOTIFICATION = struct.Struct("<QII64s")
_CALL = struct.Struct("<iI3Q")  # in it: number, architecture, address, two arguments
_RECEIVE = 0xC0502100  # _IOWR('!', 0, struct seccomp_notif)
_ANSWER = 0xC0182101  # _IOWR('!', 1, struct seccomp_notif_resp)
_SET_FLAGS = 0x40082104  # _IOW('!', 4, __u64)
_SAME_CPU = 1  # Linux 6.6: who is asked runs where the caller waits, instead of being woken up elsewhere
_CONTINUE = 1
_CLONE_THREAD = 0x10000
_POLL_MILLISECONDS = 20
_MEMORY_MILLISECONDS = 250
_SILENT_SECONDS = 1.0


def advice(limit: int) -> str:
    """Name the limit and the setting that changes it."""
    return f"a worker may have {limit} processes and threads (setting score.processes)"


def explained(error: BaseException, limit: int) -> str:
    """Return the text of a model's exception, with the limit if that is its likely cause."""
    text = f"{type(error).__name__}: {error}"
    refused = isinstance(error, BlockingIOError) or "can't start new thread" in text
    return f"{text} ({advice(limit)})" if refused else text


def hand_over(channel: socket.socket, also_opens: bool) -> opens.KeeperChannel:
    """Let the other end of `channel` decide on each process and thread that this process starts from now on.

    Sends the reason instead if the kernel refuses. Returns what the other end sees of opened files: nothing without
    `also_opens`.
    """
    try:
        listener = _listener((*_STARTS, *opens.CALLS) if also_opens else _STARTS)
    except OSError as refused:
        reason = refused.strerror or "refused"
        channel.sendall(reason.encode())
        channel.close()
        return opens.KeeperChannel(None, f"the kernel cannot report system calls ({reason})")
    socket.send_fds(channel, [b"listener"], [listener])
    os.close(listener)
    if also_opens:
        return opens.KeeperChannel(channel)
    channel.close()
    return opens.KeeperChannel(None)


def enforce(channel: socket.socket, kept: Sequence[int], limit: int, memory_bytes: int) -> None:
    """Enforce the limits of the worker, the last of this process's children `kept`, and its descendants, until it ends.

    The kernel limits each process to `memory_bytes` (RLIMIT_AS); this function limits their sum.
    """
    _, descriptors, _, _ = socket.recv_fds(channel, 200, 1)
    opened = opens.OpenedPaths(channel)
    count = _Count(limit, len(kept) - 1, opened)
    end = os.pidfd_open(kept[-1])
    told = channel.fileno()
    ready = select.poll()
    for descriptor in (end, told, *descriptors):
        ready.register(descriptor, select.POLLIN)
    for listener in descriptors:
        with suppress(OSError):
            fcntl.ioctl(listener, _SET_FLAGS, _SAME_CPU)
    while True:
        pause = _MEMORY_MILLISECONDS if count.forked else None
        events = dict(ready.poll(pause if descriptors else _POLL_MILLISECONDS))
        if end in events:
            return
        if told in events:  # before the calls that followed
            opened.read_message()
            if opened.channel is None:
                ready.unregister(told)
        for listener in descriptors:
            if events.get(listener, 0) & select.POLLIN:
                count.answer(listener)
        if not descriptors and not count.fits():
            _end(kept, advice(limit))
            return
        if (count.forked or not descriptors) and _memory(descendants(os.getpid())) > memory_bytes:
            _end(kept, f"a worker and what it starts may have {memory_bytes} bytes (setting score.memory_bytes)")
            return


def descendants(ancestor: int) -> Iterator[int]:
    """Return the processes below `ancestor`, parents first."""
    children = _children_by_task if Path(f"/proc/self/task/{os.getpid()}/children").exists() else _all_children()
    waiting = [ancestor]
    while waiting:
        found = children(waiting.pop())
        yield from found
        waiting += found


def _listener(calls: Sequence[str]) -> int:
    """Install the filter for this process and return the descriptor for its notifications."""
    rules = []
    for name in calls:
        number = kernel.number(name)
        if number is not None:
            rules += [(seccomp.JUMP_EQUAL, 0, 1, number), (seccomp.RETURN, 0, 0, seccomp.NOTIFY)]
    return seccomp.install(rules, seccomp.NEW_LISTENER, foreign=seccomp.NOTIFY)


class _Count:
    """The number of processes and threads below this process, without the `own` ones that do not count."""

    def __init__(self, limit: int, own: int, opened: opens.OpenedPaths) -> None:
        self._limit, self._own, self._opened = limit, own, opened
        self._said = -_SILENT_SECONDS
        self.forked = False  # whether the worker has started another process

    def fits(self, more: int = 0) -> bool:
        """Return whether the limit still holds with this many more."""
        return sum(map(_threads, descendants(os.getpid()))) - self._own + more <= self._limit

    def answer(self, listener: int) -> None:
        """Allow an opening, and a start within the limit; refuse the rest with EAGAIN, as the kernel does."""
        buffer = bytearray(_NOTIFICATION.size)
        try:
            fcntl.ioctl(listener, _RECEIVE, buffer)
        except OSError:  # the caller has ended meanwhile
            return
        call, process, _, data = _NOTIFICATION.unpack(buffer)
        number, architecture, _, flags, second = _CALL.unpack(data[: _CALL.size])
        if architecture == kernel.AUDIT_ARCH and self._opened.is_opening(number):
            self._opened.record(process, number, (flags, second))
            with suppress(OSError):
                fcntl.ioctl(listener, _ANSWER, struct.pack("<QqiI", call, 0, 0, _CONTINUE))
            return
        self.forked |= number != kernel.number("clone") or not flags & _CLONE_THREAD
        fits = self.fits(1)
        error, answer = (0, _CONTINUE) if fits else (-errno.EAGAIN, 0)
        with suppress(OSError):
            fcntl.ioctl(listener, _ANSWER, struct.pack("<QqiI", call, 0, error, answer))
        if not fits and time.monotonic() - self._said > _SILENT_SECONDS:
            self._said = time.monotonic()
            _say(f"a new process or thread is refused: {advice(self._limit)}")


def _end(kept: Sequence[int], reason: str) -> None:
    """End the worker. Stop its descendants first: they could fork while others are killed."""
    _say(f"the worker is killed: {reason}")
    for process in descendants(os.getpid()):
        _signal(process, signal.SIGSTOP)
    for process in kept:
        _signal(process, signal.SIGKILL)


def _memory(processes: Iterator[int]) -> int:
    """Return the bytes that processes use together; shared memory counts once if the kernel reports it."""
    return sum(map(_proportional, processes))


def _proportional(process: int) -> int:
    try:
        with Path(f"/proc/{process}/smaps_rollup").open("rb") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(b"Pss:"))
    except (OSError, StopIteration):
        pass
    try:
        _, resident, shared, *_ = Path(f"/proc/{process}/statm").read_text().split()
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


def _signal(process: int, number: int) -> None:
    with suppress(OSError):
        os.kill(process, number)


def _say(text: str) -> None:
    with suppress(OSError):
        os.write(2, f"{text}\n".encode())


def _threads(process: int) -> int:
    try:
        return Path(f"/proc/{process}/task").stat().st_nlink - 2
    except OSError:
        return 0


def _children_by_task(process: int) -> list[int]:
    """Return the children of a process; it and its threads may end at any moment, and one that has ended has none."""
    found: list[int] = []
    with suppress(OSError):
        for task in Path(f"/proc/{process}/task").iterdir():
            with suppress(OSError):
                found += map(int, (task / "children").read_text().split())
    return found


def _all_children() -> Callable[[int], list[int]]:
    """Read every process once, for kernels that do not list the children of a process."""
    found: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # pid (name) state parent …, and a name may contain any character
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            found.setdefault(parent, []).append(int(stat.parent.name))
    return lambda process: found.get(process, [])
