"""A filter that denies system calls that no model needs. Standard library only.

It denies calls that change something outside of the worker (owners and modes of files, other processes, clocks,
mounts, keys, locks), calls that circumvent other limits (namespaces, io_uring, shared memory segments, file handles),
and sockets. Everything else is allowed, because models are other people's code.
"""

import ctypes
import errno
import socket
import struct
from collections.abc import Iterable

from gnomon_consumer.scorer.worker import kernel

Line = tuple[int, int, int, int]
LOAD, JUMP_EQUAL, JUMP_NOT_BELOW, JUMP_ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, NOTIFY, _ERRNO = 0x7FFF0000, 0x7FC00000, 0x00050000
NUMBER, ARCHITECTURE, _ARGUMENTS = 0, 4, 16
X32 = 0x40000000  # a bit in the numbers of x86's third set of system calls
NEW_LISTENER, _SPECULATION_ALLOWED = 1 << 3, 1 << 2

_NEVER = (
    # other processes
    "ptrace", "process_vm_readv", "process_vm_writev", "kcmp", "pidfd_getfd", "process_madvise", "process_mrelease",
    "pidfd_send_signal", "move_pages", "migrate_pages", "perf_event_open",
    # mounts and namespaces
    "mount", "umount2", "pivot_root", "chroot", "open_tree", "open_tree_attr", "move_mount", "fsopen", "fsconfig",
    "fsmount", "fspick", "mount_setattr", "unshare", "setns",
    # metadata of files; file handles, which bypass folders without read permission
    "chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "fchown", "lchown", "fchownat", "setxattr", "lsetxattr",
    "fsetxattr", "setxattrat", "removexattr", "lremovexattr", "fremovexattr", "removexattrat", "utime", "utimes",
    "futimesat", "utimensat", "file_setattr", "name_to_handle_at", "open_by_handle_at", "fanotify_init",
    "fanotify_mark", "truncate",
    # memory that process limits do not count
    "shmget", "shmat", "shmctl", "semget", "msgget", "mq_open", "mq_unlink", "memfd_secret",
    # the kernel and the machine
    "add_key", "request_key", "keyctl", "bpf", "io_uring_setup", "io_uring_enter", "io_uring_register",
    "userfaultfd", "kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "reboot",
    "swapon", "swapoff", "settimeofday", "clock_settime", "adjtimex", "clock_adjtime", "sethostname",
    "setdomainname", "acct", "quotactl", "quotactl_fd", "iopl", "ioperm", "modify_ldt", "syslog", "vhangup",
    "nfsservctl", "personality", "uselib", "ustat", "sysfs", "sync", "syncfs",
)  # fmt: skip
_NAMESPACES = 0x7E020080  # CLONE_NEW… of clone
_STREAMS = tuple(socket.SOCK_STREAM | flag for flag in (0, 0o4000, 0o2000000, 0o2004000))
# owners and signals of descriptors, leases and locks (other processes see a file's lock); size of a pipe
_FCNTL = (8, 10, 15, 6, 7, 37, 38, 1024, 1026, 1031)
# Terminals, flags of files, owners of descriptors
_IOCTL = (0x5412, 0x541C, 0x40086602, 0x40046602, 0x401C5820, 0x40087602, 0x5452, 0x8901, 0x8902)
_SIGNALS = ("kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo")
_SCHEDULING = ("sched_setparam", "sched_setscheduler", "sched_setaffinity", "sched_setattr")
_WRITING = 0o1 | 0o2 | 0o100 | 0o1000 | 0o20000000  # O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, O_TMPFILE
_CHANGES = (
    "creat", "unlink", "unlinkat", "rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat",
    "mkdir", "mkdirat", "rmdir", "mknod", "mknodat",
)  # fmt: skip


def restrict(*, network: bool, own_processes: bool, files: bool, pid: int) -> None:
    """Install the filter for this process permanently; raise OSError.

    Without `own_processes` (a process namespace), signals and priorities may only target the process itself, `pid`.
    Without `files` (another layer prevents writing), no file can be opened for writing.
    """
    rules = [line for name in _NEVER for line in deny(name)]
    # its flags are in memory, which a filter cannot read; without clone3 the C library uses clone
    rules += deny("clone3", errno.ENOSYS)
    rules += deny("flock", errno.ENOSYS)  # the same error as on a file system without locks
    rules += any_bit("clone", 0, _NAMESPACES)
    rules += one_of("fcntl", 1, _FCNTL) + one_of("ioctl", 1, _IOCTL)
    rules += none_but("prlimit64", 0, (0, pid)) + none_but("setpriority", 0, (0,)) + none_but("setpriority", 1, (0,))
    rules += none_but("ioprio_set", 0, (1,)) + none_but("ioprio_set", 1, (0,))
    rules += none_but("socket", 0, (socket.AF_INET, socket.AF_INET6) if network else ())
    # A datagram socket pair could send to the path of another socket.
    rules += none_but("socketpair", 0, (socket.AF_UNIX,)) + none_but("socketpair", 1, _STREAMS)
    if not own_processes:
        for name in (*_SIGNALS, *_SCHEDULING):
            rules += none_but(name, 0, (pid, *((0,) if name in _SCHEDULING else ())))
    if not files:
        rules += [line for name in _CHANGES for line in deny(name)]
        rules += deny("openat2", errno.ENOSYS) + any_bit("open", 1, _WRITING) + any_bit("openat", 2, _WRITING)
    install(rules)


def deny(name: str, error: int = errno.EPERM) -> list[Line]:
    """Return lines that refuse a system call."""
    return _when(name, [(RETURN, 0, 0, _ERRNO | error)])


def none_but(name: str, argument: int, values: Iterable[int]) -> list[Line]:
    """Return lines that refuse a call unless its argument is one of these."""
    allowed = tuple(values)
    jumps = [(JUMP_EQUAL, len(allowed) - at, 0, value) for at, value in enumerate(allowed)]
    return _when(name, [(LOAD, 0, 0, _ARGUMENTS + 8 * argument), *jumps, (RETURN, 0, 0, _ERRNO | errno.EPERM)])


def one_of(name: str, argument: int, values: Iterable[int]) -> list[Line]:
    """Return lines that refuse a call whose argument is one of these."""
    lines: list[Line] = [(LOAD, 0, 0, _ARGUMENTS + 8 * argument)]
    for value in values:
        lines += [(JUMP_EQUAL, 0, 1, value), (RETURN, 0, 0, _ERRNO | errno.EPERM)]
    return _when(name, lines)


def any_bit(name: str, argument: int, bits: int) -> list[Line]:
    """Return lines that refuse a call whose argument has one of these bits."""
    load = (LOAD, 0, 0, _ARGUMENTS + 8 * argument)
    return _when(name, [load, (JUMP_ANY_BIT, 0, 1, bits), (RETURN, 0, 0, _ERRNO | errno.EPERM)])


def install(rules: list[Line], flags: int = 0, foreign: int = _ERRNO | errno.ENOSYS) -> int:
    """Install a filter, which begins with the call's number loaded; return what the kernel returns.

    Calls of another architecture, whose numbers differ, get the answer `foreign`. Raises OSError.
    """
    if kernel.AUDIT_ARCH is None:
        raise OSError(errno.ENOSYS, f"no table of system calls for {kernel.MACHINE}")
    program: list[Line] = [
        (LOAD, 0, 0, ARCHITECTURE),
        (JUMP_EQUAL, 1, 0, kernel.AUDIT_ARCH),
        (RETURN, 0, 0, foreign),
        (LOAD, 0, 0, NUMBER),
        (JUMP_NOT_BELOW, 0, 1, X32),
        (RETURN, 0, 0, foreign),
        *rules,
        (RETURN, 0, 0, ALLOW),
    ]
    text = b"".join(struct.pack("<HBBI", *line) for line in program)
    code = ctypes.create_string_buffer(text, len(text))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(code)))
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    return kernel.call("seccomp", 1, flags | _SPECULATION_ALLOWED, header)


def _when(name: str, lines: list[Line]) -> list[Line]:
    """Return the lines for one call; the number is loaded again after them."""
    number = kernel.number(name)
    if number is None:
        return []
    again = (LOAD, 0, 0, NUMBER)
    return [(JUMP_EQUAL, 0, len(lines) + 1, number), *lines, again]
