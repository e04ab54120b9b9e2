"""The keeper of one worker: every process that the worker forks, detaches or leaves behind ends with it.

The worker runs as the keeper's child: in a process namespace if the kernel allows one (when its first process ends, all
its processes end), and always below a subreaper, which inherits the processes that a model detached. The keeper ends
when its worker ends, on SIGTERM, or with the scorer, and kills every descendant first.

A keeper imports only the standard library and modules of this folder that do the same, from texts that the scorer read
at its start (see `launch`), so a model cannot have changed them.
"""

import os
import resource
import signal
import site
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from gnomon_consumer.scorer.worker import opens, process_limit, sandbox


def main(told: dict[str, Any]) -> None:
    """Keep a worker whose frames are this process's standard streams; for the arguments see `launch.command`."""
    limits = sandbox.Limits(**told["limits"] | {"hidden": tuple(told["limits"]["hidden"])})

    def work(report: dict[str, str], opens_channel: opens.KeeperChannel) -> None:
        if told["check"]:
            from gnomon_consumer.scorer.worker import sandbox_check

            sandbox_check.work(report)
            return
        _import_like_the_scorer(told["path"])
        from gnomon_consumer.scorer.worker import main as worker

        worker.main(report, opens_channel)

    keep(told["parent"], limits, work)


def keep(parent: int, limits: sandbox.Limits, work: Callable[[dict[str, str], opens.KeeperChannel], None]) -> None:
    """Run `work` in a sandboxed child; exit as it exits, after all its processes.

    `work` gets the sandbox's report, and what this process sees of the files that it opens.
    """
    sandbox.end_with(parent, signal.SIGTERM)
    held = sandbox.hold(limits.network)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    first = _child(_reap) if held["processes"] == sandbox.NAMESPACE else None
    ours, theirs = socket.socketpair()

    def limited() -> None:
        ours.close()
        opens_channel = process_limit.hand_over(theirs, limits.opens)
        host = Path("/proc/self").readlink().name  # before this process has a /proc of its own namespace
        try:
            report = sandbox.enter(limits, held)
        except sandbox.SandboxError as refused:
            report = {"refused": str(refused)}
        work(report | {"pid": host}, opens_channel)

    worker = _child(limited)
    theirs.close()
    for descriptor in (0, 1):
        os.close(descriptor)  # the pipes must show the worker's end
    doomed = [worker] if first is None else [first, worker]
    signal.signal(signal.SIGTERM, lambda *_: _kill(doomed))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    process_limit.enforce(ours, doomed, limits.processes, limits.memory_bytes)
    _, status = os.waitpid(worker, 0)
    _end_descendants()
    _end_like(status)


def _import_like_the_scorer(path: list[str]) -> None:
    """Find modules where the scorer finds them. Code of site-packages runs only here, in the sandbox."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "gnomon_consumer"]:
        del sys.modules[name]
    isolated = list(sys.path)
    site.main()
    sys.path[:] = dict.fromkeys([*path, *isolated, *sys.path])


def _child(work: Callable[[], None]) -> int:
    keeper = os.getpid()
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        sandbox.end_with(keeper, signal.SIGKILL)
        work()
        status = 0
    finally:
        os._exit(status)  # whatever happened, a child must never continue in the keeper's own code


def _reap() -> None:
    """Be the first process of a namespace: it inherits the orphans there, and its end kills all of them."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for descriptor in (0, 1, 2):
        os.close(descriptor)
    while True:
        signal.pause()


def _kill(processes: list[int]) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _end_descendants() -> None:
    """Kill children until there are none; what a killed child has forked becomes a child of this subreaper."""
    while True:
        _kill(list(process_limit.descendants(os.getpid())))
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _end_like(status: int) -> None:
    if os.WIFSIGNALED(status):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status) & 255)
