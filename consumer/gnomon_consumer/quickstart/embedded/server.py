"""A child process that runs one embedded server and ends with its parent, however the parent ends.

The parent holds the writing end of the child's standard input and never writes. When the parent closes it or dies,
also by SIGKILL, the child reads the end of the file, stops its server and removes temporary files. The child runs in a
session of its own, so that Ctrl-C reaches the parent alone and the servers stop last.
"""

import json
import logging
import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

from gnomon_consumer.quickstart.embedded import kafka, postgres
from gnomon_schemas.errors import DependencyUnreachableError, GnomonError

STOP_SECONDS = 70.0


class EmbeddedServer(AbstractContextManager["EmbeddedServer"]):
    """The parent's handle on one embedded server.

    `kind` is `kafka` or `postgres`; `address` the bootstrap servers or the database URL. Raises
    DependencyUnreachableError if the server does not start.
    """

    def __init__(self, kind: str, *options: str, log: Path | None = None) -> None:
        self.kind = kind
        with open(log, "ab") if log else open("/dev/null", "wb") as stderr:  # noqa: PTH123 -- both one way
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, kind, *options],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, start_new_session=True,
            )  # fmt: skip
        assert self._process.stdout is not None
        try:
            line = self._process.stdout.readline()
        except BaseException:  # Ctrl-C while it starts
            self.stop()
            raise
        answer = json.loads(line or '{"error": "its process died"}')
        if "error" in answer:
            self.stop()
            raise DependencyUnreachableError(f"embedded {kind}: {answer['error']}")
        self.address: str = answer["address"]

    @property
    def pid(self) -> int:
        """Return the process id of the child that runs the server."""
        return self._process.pid

    def running(self) -> bool:
        """Return whether the child still runs."""
        return self._process.poll() is None

    def stop(self) -> None:
        """Stop the server and wait until it has ended. A second call does nothing."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _end_of_input(seconds: float) -> bool:
    """Wait up to `seconds`; return whether the parent has closed the pipe."""
    readable, _, _ = select.select([sys.stdin], [], [], seconds)
    return bool(readable) and os.read(sys.stdin.fileno(), 1) == b""


def main(arguments: Sequence[str]) -> int:
    """Be the child: start the server, print its address as one JSON line, stop it when the parent closes the pipe."""
    # SIGTERM takes the orderly way out; Ctrl-C is the parent's business.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    kind, *options = arguments
    try:
        server: AbstractContextManager[str]
        server = kafka.running() if kind == "kafka" else postgres.running(*map(Path, options))
        with server as address:
            print(json.dumps({"address": address}), flush=True)
            while not _end_of_input(3600):
                pass
    except (GnomonError, OSError) as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
