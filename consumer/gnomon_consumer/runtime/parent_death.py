"""Tie a process to its parent: when the parent ends, even by SIGKILL, the process ends too.

Linux sends the chosen signal when the parent dies (prctl PR_SET_PDEATHSIG). The setting survives `exec`, so `python -m
gnomon_consumer.runtime.parent_death PARENT SIGNAL COMMAND…` ties any command to its parent without an extra process. It
follows the parent's *thread*: start tied processes from a thread that lasts as long as they should. On other systems
the command is not tied, and ends only if the parent stops it.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1


def tie_to_parent(parent: int, signum: int) -> None:
    """Have the kernel send `signum` to this process when `parent` dies; at once if it is dead already."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signum, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:  # it died before the signal was set
        os.kill(os.getpid(), signum)


def leashed(command: Sequence[str], signum: int = signal.SIGKILL) -> list[str]:
    """Return the command line that runs `command` tied to the calling process."""
    return [sys.executable, "-m", __name__, str(os.getpid()), str(int(signum)), *command]


def main(arguments: Sequence[str]) -> None:
    """Tie this process to its parent, then replace it by the command."""
    parent, signum, *command = arguments
    tie_to_parent(int(parent), int(signum))
    os.execvp(command[0], command)  # noqa: S606 -- a shell is not wanted


if __name__ == "__main__":
    main(sys.argv[1:])
