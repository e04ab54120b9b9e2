"""What a worker gives up before it loads a model, as far as the kernel allows: see `hold` and `enter`."""

import ctypes
import os
import resource
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import Any

_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWPID = 0x20000000
_CLONE_NEWNET = 0x40000000
_MS_PRIVATE_ALL = 0x4000 | 0x40000
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION = 0x20080522
_CAP_DAC_OVERRIDE = 1 << 1  # root in a container may have to read a model that belongs to somebody else

NAMESPACE = "a process namespace: whatever a model forks or detaches ends with its worker"


@dataclass(frozen=True, slots=True)
class Limits:
    """Address space and file size in bytes, processes of the user; `network` True: connections are allowed."""

    memory_bytes: int
    file_bytes: int = 0
    processes: int = 64
    network: bool = False

    def as_json(self) -> dict[str, Any]:
        """For a frame to a worker."""
        return asdict(self)


def end_with(parent: int, number: int) -> None:
    """Have the kernel send this process a signal when its parent ends; end at once if it has."""
    _libc().prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() not in (parent, 0):  # 0: it lives outside of this process namespace
        os._exit(0)


def hold(network: bool) -> dict[str, str]:
    """Prepare this process to keep a worker; returns what its children will have: {"network": …, "processes": …}.

    Namespaces are made within a user namespace where we are not root. Where the kernel refuses them, it is said.
    """
    libc = _libc()
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    refused = _unshare(libc, _CLONE_NEWPID)
    processes = f"a subreaper only: the kernel refuses a process namespace ({refused})" if refused else NAMESPACE
    if network:
        return {"network": "open", "processes": processes}
    refused = _unshare(libc, _CLONE_NEWNET)
    return {
        "network": f"open: the kernel refuses a network namespace ({refused})" if refused else "none",
        "processes": processes,
    }


def enter(limits: Limits) -> None:
    """Apply the limits to this process for good."""
    libc = _libc()
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _hide_processes(libc)
    _drop_capabilities(libc)
    if not limits.network:
        sys.addaudithook(_refuse_connections)
    _lower(resource.RLIMIT_AS, limits.memory_bytes)
    _lower(resource.RLIMIT_FSIZE, limits.file_bytes)
    _lower(resource.RLIMIT_NPROC, limits.processes)
    _lower(resource.RLIMIT_CORE, 0)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _unshare(libc: ctypes.CDLL, kind: int) -> str:
    """Leave a namespace of this kind; returns why not, or nothing."""
    if libc.unshare(kind) == 0 or libc.unshare(_CLONE_NEWUSER | kind) == 0:
        return ""
    return os.strerror(ctypes.get_errno())


def _hide_processes(libc: ctypes.CDLL) -> None:
    """A /proc of this process namespace: a model must not read the scorer's environment there."""
    if os.getppid() == 0 and libc.unshare(_CLONE_NEWNS) == 0:
        libc.mount(None, b"/", None, _MS_PRIVATE_ALL, None)
        libc.mount(b"proc", b"/proc", b"proc", 0, None)


def _drop_capabilities(libc: ctypes.CDLL) -> None:
    """Root without its powers: no mounting, no tracing of others, no raising of limits."""
    few = _CAP_DAC_OVERRIDE if os.geteuid() == 0 else 0
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    libc.capset(header, (ctypes.c_uint32 * 6)(few, few, 0, 0, 0, 0))


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


_PROBE = """
import os, time
from gnomon_consumer.scorer import keeper, sandbox
def work(report):
    sandbox.enter(sandbox.Limits(2**30))
    for name, text in report.items():
        print(name, text, sep="=")
    print("empty", sandbox.network_is_gone(), sep="=")
    try:
        open(f"/proc/{PARENT}/environ", "rb").close()
        print("environment=open: a model that runs as the scorer's user can read the scorer's environment")
    except OSError:
        print("environment=hidden")
    try:
        bytearray(2 * 2**30)
        print("memory=open: 2 GiB were given to a process that is limited to 1 GiB")
    except MemoryError:
        print("memory=limited", flush=True)
    if os.fork() == 0:
        os.setsid()
        time.sleep(600)  # it must be killed with its worker; doctor looks whether it was
keeper.keep(PARENT, False, work)
"""
_PROBE_SECONDS = 30.0


def probe() -> dict[str, str]:
    """What the sandbox of a worker can do on this machine, tried: keys network, processes, memory, environment.

    The probe leaves a detached process behind; it holds the pipe open that is read here, so the end of the pipe is the
    end of that process.
    """
    code = f"PARENT = {os.getpid()}\n{_PROBE}"
    process = subprocess.Popen([sys.executable, "-P", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        output, errors = process.communicate(timeout=_PROBE_SECONDS)
    except subprocess.TimeoutExpired as late:
        process.kill()
        output, errors = late.output or b"", b""
        output += b"processes=open: a detached process outlives its worker\n"
    said = dict(line.split("=", 1) for line in output.decode().splitlines())
    if said.pop("empty", "") != "True" and said.get("network") == "none":
        said["network"] = "open: the namespace is not empty"
    unknown = f"not known: {errors.decode('utf-8', 'replace').strip()[-200:]}"
    return {name: said.get(name, unknown) for name in ("network", "processes", "memory", "environment")}
