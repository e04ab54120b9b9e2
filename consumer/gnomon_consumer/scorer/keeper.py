"""The keeper of one worker: what it forks, detaches or leaves behind ends with it.

The worker runs as the keeper's child: in a process namespace where the kernel gives one (its first process is the
namespace's, and its end is the end of all in it), and below a subreaper anywhere, which inherits what a model has
detached. The keeper ends as its worker ends, on SIGTERM, or with the scorer, and kills every descendant before.
"""

import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from gnomon_consumer.scorer import sandbox


def main() -> None:
    """`keeper PARENT network|none`: keep a worker whose frames are this process's standard streams."""
    from_parent, network = int(sys.argv[1]), sys.argv[2] == "network"

    def work(report: dict[str, str]) -> None:
        from gnomon_consumer.scorer import worker  # only here: the keeper itself stays small

        worker.main(report)

    keep(from_parent, network, work)


def keep(parent: int, network: bool, work: Callable[[dict[str, str]], None]) -> None:
    """Run `work` in a child and end as it ends, when nothing of it is left."""
    sandbox.end_with(parent, signal.SIGTERM)
    report = sandbox.hold(network)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    first = _child(_reap) if report["processes"] == sandbox.NAMESPACE else None
    worker = _child(lambda: work(report))
    for descriptor in (0, 1, 2):
        os.close(descriptor)  # the worker's end has to be seen by its pipes
    doomed = [worker] if first is None else [first, worker]
    signal.signal(signal.SIGTERM, lambda *_: _kill(doomed))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    _, status = os.waitpid(worker, 0)
    _end_descendants()
    _end_like(status)


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
        os._exit(status)  # whatever happened, a child never runs the keeper's own lines


def _reap() -> None:
    """The first process of a namespace: it inherits the orphans there; with its end all of them are killed."""
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
        _kill(list(_children()))
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _children() -> Iterator[int]:
    mine = str(os.getpid())
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # pid (name) state parent …, and a name may hold anything
            if stat.read_text().rpartition(")")[2].split()[1] == mine:
                yield int(stat.parent.name)


def _end_like(status: int) -> None:
    if os.WIFSIGNALED(status):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status) & 255)


if __name__ == "__main__":
    main()
