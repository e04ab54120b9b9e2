"""System calls that Python does not offer, by name. Standard library only: a keeper imports nothing else."""

import ctypes
import os
import platform
from typing import Any

MACHINE = platform.machine()
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}.get(MACHINE)

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 4, 8, 36, 38
PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 47, 2
CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER = 0x00020000, 0x08000000, 0x10000000
CLONE_NEWPID, CLONE_NEWNET = 0x20000000, 0x40000000
MS_BIND, MS_PRIVATE_ALL = 0x1000, 0x4000 | 0x40000

_X86_ONLY = {
    "open": 2, "fork": 57, "vfork": 58, "rename": 82, "mkdir": 83, "rmdir": 84, "creat": 85, "link": 86, "unlink": 87,
    "symlink": 88, "chmod": 90, "chown": 92, "lchown": 94, "utime": 132, "mknod": 133, "uselib": 134, "ustat": 136,
    "sysfs": 139, "modify_ldt": 154, "iopl": 172, "ioperm": 173, "utimes": 235, "futimesat": 261,
}  # fmt: skip
_BOTH = {  # x86-64, arm64
    "ioctl": (16, 29), "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "socket": (41, 198),
    "connect": (42, 203), "bind": (49, 200), "socketpair": (53, 199), "clone": (56, 220), "kill": (62, 129),
    "semget": (64, 190), "msgget": (68, 186), "fcntl": (72, 25), "flock": (73, 32), "truncate": (76, 45),
    "fchmod": (91, 52), "fchown": (93, 55), "ptrace": (101, 117), "syslog": (103, 116),
    "rt_sigqueueinfo": (129, 138), "personality": (135, 92), "setpriority": (141, 140),
    "sched_setparam": (142, 118), "sched_setscheduler": (144, 119), "vhangup": (153, 58), "pivot_root": (155, 41),
    "adjtimex": (159, 171), "chroot": (161, 51), "sync": (162, 81), "acct": (163, 89), "settimeofday": (164, 170),
    "mount": (165, 40), "umount2": (166, 39), "swapon": (167, 224), "swapoff": (168, 225), "reboot": (169, 142),
    "sethostname": (170, 161), "setdomainname": (171, 162), "init_module": (175, 105), "delete_module": (176, 106),
    "quotactl": (179, 60), "nfsservctl": (180, 42), "setxattr": (188, 5), "lsetxattr": (189, 6),
    "fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    "tkill": (200, 130), "sched_setaffinity": (203, 122), "clock_settime": (227, 112), "tgkill": (234, 131),
    "mq_open": (240, 180), "mq_unlink": (241, 181), "kexec_load": (246, 104), "add_key": (248, 217),
    "request_key": (249, 218), "keyctl": (250, 219), "ioprio_set": (251, 30), "migrate_pages": (256, 238),
    "openat": (257, 56), "mkdirat": (258, 34), "mknodat": (259, 33), "fchownat": (260, 54), "unlinkat": (263, 35),
    "renameat": (264, 38), "linkat": (265, 37), "symlinkat": (266, 36), "fchmodat": (268, 53), "unshare": (272, 97),
    "move_pages": (279, 239), "utimensat": (280, 88), "rt_tgsigqueueinfo": (297, 240),
    "perf_event_open": (298, 241), "fanotify_init": (300, 262), "fanotify_mark": (301, 263), "prlimit64": (302, 261),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "clock_adjtime": (305, 266),
    "syncfs": (306, 267), "setns": (308, 268), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "kcmp": (312, 272), "finit_module": (313, 273), "sched_setattr": (314, 274), "renameat2": (316, 276),
    "seccomp": (317, 277), "kexec_file_load": (320, 294), "bpf": (321, 280), "userfaultfd": (323, 282),
    **{name: (number, number) for name, number in {
        "pidfd_send_signal": 424, "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427,
        "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433,
        "clone3": 435, "openat2": 437, "pidfd_getfd": 438, "process_madvise": 440, "mount_setattr": 442,
        "quotactl_fd": 443, "landlock_create_ruleset": 444, "landlock_add_rule": 445, "landlock_restrict_self": 446,
        "memfd_secret": 447, "process_mrelease": 448, "fchmodat2": 452, "setxattrat": 463, "removexattrat": 466,
        "open_tree_attr": 467, "file_setattr": 469,
    }.items()},
}  # fmt: skip

libc = ctypes.CDLL(None, use_errno=True)


def number(name: str) -> int | None:
    """Return the number of a system call, None if this machine does not have it or is unknown."""
    if name in _X86_ONLY:
        return _X86_ONLY[name] if MACHINE == "x86_64" else None
    return _BOTH[name][MACHINE == "aarch64"] if AUDIT_ARCH else None


def call(name: str, *arguments: Any) -> int:
    """Make a system call; raises OSError."""
    here = number(name)
    if here is None:
        raise OSError(38, f"the number of the system call {name} is not known for {MACHINE}")
    return checked(libc.syscall(here, *(ctypes.c_long(one) if isinstance(one, int) else one for one in arguments)))


def checked(result: int) -> int:
    """Raise OSError for the error of a call through `libc`."""
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def prctl(option: int, value: int, more: int = 0) -> None:
    """Set a property of this process; raises OSError."""
    checked(libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(more), ctypes.c_ulong(0), ctypes.c_ulong(0)))
