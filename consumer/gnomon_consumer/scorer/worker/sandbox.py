"""The restrictions of a worker, set before it loads a model. Standard library only: a keeper imports nothing else.

`hold` runs in the keeper, `enter` in its child, the worker, while that has one thread. Each layer is tried separately,
and a layer that fails is reported: in a container without namespaces, Landlock and the system call filter remain.
"""

import ctypes
import os
import resource
import socket
import stat
import sys
from contextlib import suppress
from dataclasses import KW_ONLY, asdict, dataclass
from pathlib import Path
from typing import Any

from gnomon_consumer.scorer.worker import kernel, landlock, seccomp

NAMESPACE = "a process namespace: every process that a model starts ends with its worker"
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH, _CAP_KILL, _CAP_SETGID, _CAP_SETUID = 1, 2, 5, 6, 7
_CAPABILITY_VERSION = 0x20080522
_NOBODY = 65534
_DESCRIPTORS = 1024
_WAYS_OUT = (
    "allow the worker Landlock, or namespaces (docs/security.md), or set score.sandbox = preferred"
    " (GNOMON_SCORE__SANDBOX) to run it anyway"
)


class SandboxError(Exception):
    """A required layer of the sandbox does not work on this machine."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a worker: bytes of memory and of a file, processes with threads; `network`: connections.

    `hidden` files cannot be read. With `required`, a worker refuses to load a model if a layer does not work. With
    `opens`, its keeper notes the files that it opens.
    """

    memory_bytes: int
    _: KW_ONLY
    file_bytes: int = 0
    processes: int = 64
    network: bool = False
    hidden: tuple[str, ...] = ()
    required: bool = False
    opens: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return the fields for a keeper, and for a frame to a worker."""
        return asdict(self)


def end_with(parent: int, number: int) -> None:
    """Have the kernel send this process a signal when its parent ends; end at once if it has."""
    kernel.prctl(kernel.PR_SET_PDEATHSIG, number)
    if os.getppid() not in (parent, 0):  # 0: the parent is outside of this process namespace
        os._exit(0)


def keep_memory_private() -> None:
    """Prevent other processes of this user from tracing this one and reading its memory and environment."""
    with suppress(OSError):
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)


def hold(network: bool) -> dict[str, str]:
    """Prepare this process to keep a worker; return the layers of its children: {"network": …, "processes": …}.

    A process that is not root creates the namespaces within a user namespace. A refusal by the kernel is reported.
    """
    keep_memory_private()
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    refused = _unshare(kernel.CLONE_NEWPID)
    processes = f"a subreaper only: the kernel refuses a process namespace ({refused})" if refused else NAMESPACE
    if network:
        return {"network": "open", "processes": processes}
    refused = _unshare(kernel.CLONE_NEWNET)
    return {
        "network": f"open: the kernel refuses a network namespace ({refused})" if refused else "none",
        "processes": processes,
    }


def enter(limits: Limits, held: dict[str, str]) -> dict[str, str]:
    """Apply all layers to this process permanently; return the result of each layer. Raise SandboxError."""
    parent = os.getppid()
    own = held["processes"] == NAMESPACE
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    mounts = _arrange_mounts(limits.hidden, own)
    ruled, no_rules = 0, ""
    try:
        ruled = landlock.restrict([os.path.realpath(path) for path in limits.hidden])
    except OSError as refused:
        no_rules = refused.strerror or "refused"
    user = _leave_root()
    with suppress(OSError):
        kernel.prctl(kernel.PR_SET_PDEATHSIG, 9)  # a change of user clears it
        kernel.prctl(kernel.PR_SET_DUMPABLE, 1)  # its keeper measures how much memory it uses
    if os.getppid() != parent:
        os._exit(0)
    if not limits.network:
        sys.addaudithook(_refuse_connections)
    for kind, value in (
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, _DESCRIPTORS),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        _lower(kind, value)
    written = ruled >= landlock.WRITING_STOPS or "read-only" in mounts
    calls = "filtered"
    try:
        seccomp.restrict(network=limits.network, own_processes=own, files=written, pid=os.getpid())
    except OSError as refused:
        calls = f"open: the kernel accepts no filter ({refused.strerror})"
    report = held | {
        "files": _files(ruled, "read-only" in mounts, calls == "filtered", no_rules),
        "secrets": _secrets(limits.hidden),
        "calls": calls,
        "environment": "hidden" if ruled or user or (own and "proc" in mounts) else _OPEN_ENVIRONMENT,
        "user": f"{os.geteuid()}, not root" if os.geteuid() else "open: root, without its capabilities",
    }
    if not limits.network and calls == "filtered":
        report["network"] = "none"
    _require(limits, report)
    return report


_OPEN_ENVIRONMENT = "open: a model that runs as the scorer's user can read what other processes keep in /proc"


def failures(report: dict[str, str], network: bool) -> dict[str, str]:
    """Return the layers that do not work; an allowed network is not a failure."""
    checked = {"files", "secrets", "calls", "environment", *(() if network else ("network",))}
    return {name: text for name, text in report.items() if name in checked and text.startswith("open")}


def limit_cpu(seconds: float) -> None:
    """Let this process use `seconds` more of CPU time before SIGXCPU ends it; the hard limit does not change."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime + seconds) + 2, hard))


def network_is_gone() -> bool:
    """Return whether no packet can leave this process: it gets no socket, or has only a loopback that is down."""
    try:
        socket.socket().close()
        names = [name for _, name in socket.if_nameindex()]
    except OSError:
        return True
    return names in ([], ["lo"])


def _require(limits: Limits, report: dict[str, str]) -> None:
    open_layers = failures(report, limits.network)
    if limits.required and open_layers:
        told = "; ".join(f"{name}: {text}" for name, text in open_layers.items())
        raise SandboxError(f"the sandbox is incomplete here ({told}): {_WAYS_OUT}")


def _unshare(kind: int) -> str:
    """Leave a namespace of this kind; return the error, or nothing."""
    try:
        kernel.call("unshare", kind)
    except OSError:
        user, group = os.geteuid(), os.getegid()
        try:
            kernel.call("unshare", kernel.CLONE_NEWUSER | kind)
        except OSError as refused:
            return refused.strerror or "refused"
        _map_user(user, group)
    return ""


def _map_user(user: int, group: int) -> None:
    """Map this user to itself in the new user namespace; without that, its files belong to nobody."""
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with suppress(OSError):
            descriptor = os.open(f"/proc/self/{name}", os.O_WRONLY)
            try:
                os.write(descriptor, text.encode())
            finally:
                os.close(descriptor)


def _arrange_mounts(hidden: tuple[str, ...], own: bool) -> set[str]:
    """Create a view of the files for this process alone; return the parts that succeeded: "proc", "read-only"."""
    done: set[str] = set()
    with suppress(OSError):
        kernel.call("unshare", kernel.CLONE_NEWNS)
        _mount(None, b"/", None, kernel.MS_PRIVATE_ALL)
        with suppress(OSError):
            kernel.call("unshare", kernel.CLONE_NEWIPC)
        if own:  # of its own namespace: a model must not see other processes there
            with suppress(OSError):
                _mount(b"proc", b"/proc", b"proc", 0)
                done.add("proc")
        for path in hidden:
            with suppress(OSError):
                _mount(b"/dev/null", os.fsencode(path), None, kernel.MS_BIND)
        attributes = (1).to_bytes(8, sys.byteorder) + bytes(24)  # MOUNT_ATTR_RDONLY
        kernel.call("mount_setattr", -100, b"/", 0x8000, attributes, len(attributes))  # AT_FDCWD, AT_RECURSIVE
        done.add("read-only")
    return done


def _mount(source: bytes | None, target: bytes, kind: bytes | None, flags: int) -> None:
    kernel.call("mount", source, target, kind, flags, None)


def _leave_root() -> bool:
    """Become a separate user that can only read what root can, if this process is root; return whether it did."""
    had = _capabilities()
    reading = next((1 << one for one in (_CAP_DAC_READ_SEARCH, _CAP_DAC_OVERRIDE) if had >> one & 1), 0)
    changed = False
    # Without CAP_KILL its keeper could no longer end it.
    if os.geteuid() == 0 and all(had >> one & 1 for one in (_CAP_KILL, _CAP_SETGID, _CAP_SETUID)):
        groups = {Path(path).stat().st_gid for path in landlock.gpus()}
        kernel.prctl(kernel.PR_SET_KEEPCAPS, 1)
        # A container may not be able to map the worker's own user ids; then it uses nobody's.
        for user in (0x6E000000 + os.getpid(), _NOBODY):
            with suppress(OSError):
                os.setgroups(sorted(groups))
                os.setresgid(_NOBODY, _NOBODY, _NOBODY)
                os.setresuid(user, user, user)
                changed = True
                break
    kept = reading if changed or os.geteuid() == 0 else 0
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    kernel.libc.capset(header, (ctypes.c_uint32 * 6)(kept, kept, kept, 0, 0, 0))
    with suppress(OSError):  # processes that it starts can read the same files
        if kept:
            kernel.prctl(kernel.PR_CAP_AMBIENT, kernel.PR_CAP_AMBIENT_RAISE, kept.bit_length() - 1)
    return changed


def _capabilities() -> int:
    with suppress(OSError), Path("/proc/self/status").open() as status:
        return next(int(line.split()[1], 16) for line in status if line.startswith("CapEff"))
    return 0


def _files(ruled: int, mounted: bool, filtered: bool, no_rules: str) -> str:
    if ruled >= landlock.WRITING_STOPS:
        return f"read only (Landlock, version {ruled})"
    if mounted:
        return "read only (mounts)"
    if filtered:
        return "read only (filter of system calls)"
    return f"open: neither Landlock ({no_rules or f'version {ruled}'}), nor mounts, nor a filter"


def _secrets(hidden: tuple[str, ...]) -> str:
    for path in hidden:
        with suppress(OSError), Path(path).open("rb") as found:
            if not stat.S_ISCHR(os.fstat(found.fileno()).st_mode):
                return f"open: a model can read {path}"
    return "hidden"


def _refuse_connections(event: str, _: tuple[object, ...]) -> None:
    """Raise an error with the reason when Python code opens a connection."""
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo", "socket.bind"):
        raise PermissionError("a model in the shadow only observes: connections are refused (--allow-network)")


def _lower(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(kind, (value, value))
