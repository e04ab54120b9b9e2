"""What a worker gives up before it loads a model: address space, CPU time, core dumps, and the network where it can."""

import ctypes
import os
import resource
import signal
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import Any

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38


@dataclass(frozen=True, slots=True)
class Limits:
    """Address space and file size in bytes, processes of the user; `network` False takes the network away."""

    memory_bytes: int
    file_bytes: int = 0
    processes: int = 64
    network: bool = False
    parent: int = 0

    def as_json(self) -> dict[str, Any]:
        """For a frame to a worker."""
        return asdict(self)


def enter(limits: Limits) -> dict[str, Any]:
    """Apply the limits to this process for good; returns what could be taken away: {"network": …}."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if limits.parent and os.getppid() != limits.parent:
        os._exit(0)  # the parent ended before the line above
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    network = "open" if limits.network else _leave_network(libc)
    if not limits.network:
        sys.addaudithook(_refuse_connections)
    _lower(resource.RLIMIT_AS, limits.memory_bytes)
    _lower(resource.RLIMIT_FSIZE, limits.file_bytes)
    _lower(resource.RLIMIT_NPROC, limits.processes)
    _lower(resource.RLIMIT_CORE, 0)
    return {"network": network}


def _leave_network(libc: ctypes.CDLL) -> str:
    """An empty network namespace, in a user namespace where we are not root; where the kernel refuses, say so."""
    if libc.unshare(_CLONE_NEWNET) == 0 or libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0:
        return "none"
    return f"open: the kernel refuses a network namespace ({os.strerror(ctypes.get_errno())})"


def _refuse_connections(event: str, _: tuple[object, ...]) -> None:
    """Where the kernel leaves the network open, Python code is refused all the same; a hook cannot be taken off."""
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo", "socket.bind"):
        raise PermissionError("a model in the shadow only observes: connections are refused (--allow-network)")


def limit_cpu(seconds: float) -> None:
    """Let this process use `seconds` more of CPU time before SIGXCPU ends it; the hard limit stays where it was."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime + seconds) + 2, hard))


def network_is_gone() -> bool:
    """Whether no packet can leave this process (only loopback exists, and it is down)."""
    try:
        names = [name for _, name in socket.if_nameindex()]
    except OSError:
        return True
    return names in ([], ["lo"])


def _lower(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(kind, (value, value))


def probe_network() -> str:
    """What a worker of this machine can give up of the network, as `enter` says it; tried in a process of its own."""
    code = "from gnomon_consumer.scorer.sandbox import *; print(enter(Limits(2**33))['network'])"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.strip() or f"open: {done.stderr.strip()[-200:]}"
