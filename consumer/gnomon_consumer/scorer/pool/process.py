"""One worker process as its parent sees it: its frames, its output, and its end."""

import contextlib
import fcntl
import os
import queue
import signal
import subprocess
import threading
from typing import Any, BinaryIO, cast

from gnomon_consumer.runtime.logging import get_logger
from gnomon_consumer.scorer.pool.messages import PipeFrame
from gnomon_consumer.scorer.worker import launch, pipe
from gnomon_consumer.scorer.worker.sandbox import Limits

KEEPER_SECONDS = 5.0  # seconds that a keeper may take to end its processes
MAX_LINES, MAX_LINE = 200, 1000
_PIPE_BYTES = 2**20  # a whole job of a thousand captures, instead of many writes into the kernel's default of 64 KiB
_CLEAN_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
log = get_logger("pool")

WorkerEvent = tuple["WorkerProcess", dict[str, Any] | None, list[bytes]]
"""A message of a worker; without a header, the worker has ended."""


class WorkerProcess:
    """A keeper with its worker, and the thread that talks to it, so that the scorer's thread never waits.

    `load` is the first frame; the thread puts answers and the worker's end into `events`.
    """

    def __init__(self, load: PipeFrame, limits: Limits, events: "queue.SimpleQueue[WorkerEvent]") -> None:
        environment = {name: os.environ[name] for name in _CLEAN_ENVIRONMENT if name in os.environ}
        environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
        # joblib needs semaphores, which the sandbox does not allow; without them it warns, and works in the same way.
        environment["JOBLIB_MULTIPROCESSING"] = "0"
        self._popen = subprocess.Popen(
            launch.command(limits),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        for end in (self._popen.stdin, self._popen.stdout):
            with contextlib.suppress(OSError):  # the kernel limits the number for each user
                fcntl.fcntl(cast(BinaryIO, end), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._inbox: queue.SimpleQueue[PipeFrame | None] = queue.SimpleQueue()
        self._events = events
        self.ask(load)
        for work in (self._converse, self._relay):
            threading.Thread(target=work, daemon=True, name=f"worker {self.pid}").start()

    @property
    def pid(self) -> int:
        """Return the keeper's process id."""
        return self._popen.pid

    def ask(self, frame: PipeFrame) -> None:
        """Send a frame; return at once."""
        self._inbox.put(frame)

    def end(self) -> None:
        """Let the keeper kill the worker and everything that it forked; return at once."""
        # otherwise a worker that had answered would wait for its next frame, and nobody would notice its end
        self._inbox.put(None)
        self._popen.terminate()

    def kill(self) -> None:
        """Kill a keeper that does not end (a model may have stopped it), with its session; the worker dies with it."""
        log.warning("keeper does not end", pid=self.pid)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def status(self) -> int:
        """Wait for the end, at most KEEPER_SECONDS, then force it; a negative status is a signal."""
        try:
            return self._popen.wait(KEEPER_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._popen.wait()

    def _converse(self) -> None:
        """Write frames and read answers until each frame is answered; a broken pipe means that the worker ended."""
        sink, source = cast(BinaryIO, self._popen.stdin), cast(BinaryIO, self._popen.stdout)
        try:
            while (frame := self._inbox.get()) is not None:
                pipe.write(sink, *frame)
                while True:
                    header, blobs = pipe.read(source, pipe.MAX_ANSWER)
                    self._events.put((self, header, blobs))
                    if header.get("op") != "progress":
                        break
        except (pipe.WireError, OSError, ValueError):
            pass
        finally:
            for end in (sink, source):
                with contextlib.suppress(OSError):
                    end.close()
            self.status()  # in this thread, because nobody waits for it
            self._events.put((self, None, []))

    def _relay(self) -> None:
        """Log the model's output, at most MAX_LINES lines of MAX_LINE bytes for each worker; drop the rest."""
        lines = 0
        with cast(BinaryIO, self._popen.stderr) as stream, contextlib.suppress(OSError, ValueError):
            while line := stream.readline(MAX_LINE):
                lines += 1
                if lines <= MAX_LINES:
                    log.info("worker output", pid=self.pid, text=line.decode("utf-8", "replace").rstrip())


def cause(status: int) -> str:
    """Return the cause of a process's end, as text."""
    if status < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-status).name
    return f"exit status {status}"
