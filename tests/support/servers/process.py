"""The shipped `gnomon` command as a test sees it: a real process, real signals, its lines as they arrive."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

from gnomon_consumer.runtime.parent_death import tie_to_parent
from tests.support.door import Ended, enter

COMMAND = Path(sys.executable).with_name("gnomon")
# Only an upper limit: a loaded machine takes many times as long as an idle one.
DEFAULT_TIMEOUT_S = 180.0


class GnomonProcess:
    """A running `gnomon …`, leader of its own process group; `lines` holds both its outputs in order of arrival."""

    def __init__(self, arguments: tuple[str, ...], env: Mapping[str, str], cwd: Path) -> None:
        self.arguments = arguments
        self.lines: list[str] = []
        self._stdout: list[str] = []
        self._changed = threading.Condition()
        self._open_streams = 2
        tests = os.getpid()
        self.popen = subprocess.Popen(
            [str(COMMAND), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=dict(env),
            cwd=cwd,
            start_new_session=True,
            # An interrupted or killed test run leaves no command behind.
            preexec_fn=lambda: tie_to_parent(tests, signal.SIGKILL),
        )
        assert self.popen.stdout is not None
        assert self.popen.stderr is not None
        self._readers = [
            threading.Thread(target=self._read, args=(stream, sink), daemon=True)
            for stream, sink in ((self.popen.stdout, self._stdout), (self.popen.stderr, []))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: object, sink: list[str]) -> None:
        for line in stream:  # type: ignore[attr-defined]  # a text pipe; typeshed's IO is invariant here
            with self._changed:
                sink.append(line.rstrip("\n"))
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._open_streams -= 1
            self._changed.notify_all()

    @property
    def pid(self) -> int:
        """Return the process id, which is also the process group's."""
        return self.popen.pid

    @property
    def stdout(self) -> str:
        """Return its standard output so far."""
        with self._changed:
            return "\n".join(self._stdout)

    @property
    def output(self) -> str:
        """Return both outputs so far."""
        with self._changed:
            return "\n".join(self.lines)

    def wait_for(self, wanted: "str | Callable[[str], bool]", timeout: float = DEFAULT_TIMEOUT_S) -> str:
        """Return the first line, past or future, that matches (a regular expression or a predicate).

        Raises:
            AssertionError: it ended or `timeout` seconds passed without one; the text shows all its lines.
        """
        matches = wanted if callable(wanted) else (lambda line: re.search(wanted, line) is not None)
        deadline = time.monotonic() + timeout
        checked = 0
        with self._changed:
            while True:
                while checked < len(self.lines):
                    if matches(self.lines[checked]):
                        return self.lines[checked]
                    checked += 1
                left = deadline - time.monotonic()
                if self._open_streams == 0 or left <= 0:
                    why = "ended" if self._open_streams == 0 else f"said nothing of the kind in {timeout:g} s"
                    raise AssertionError(f"{self}: {why} (waiting for {wanted!r}):\n" + "\n".join(self.lines))
                self._changed.wait(left)

    def page(self, path: str) -> tuple[int, str]:
        """Return status and text of a page of its server for metrics and probes."""
        port = self.wait_for("event=metrics").rsplit("port=", 1)[1]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, ""

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process alone (not to its children)."""
        self.popen.send_signal(number)

    def kill(self) -> int:
        """SIGKILL the process alone and return its exit status; its children must notice by themselves."""
        self.popen.kill()
        return self.wait()

    def terminate(self, timeout: float = DEFAULT_TIMEOUT_S) -> int:
        """SIGTERM, then wait; return the exit status."""
        self.popen.terminate()
        return self.wait(timeout)

    def wait(self, timeout: float = DEFAULT_TIMEOUT_S) -> int:
        """Return the exit status.

        Raises:
            AssertionError: it still runs after `timeout` seconds; the text shows all its lines.
        """
        try:
            status = self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self}: still running after {timeout:g} s:\n{self.output}") from None
        for reader in self._readers:
            reader.join(5)  # a child of its own may hold the pipe a little longer
        return status

    def close(self) -> None:
        """Kill the rest of the process group and close the pipes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.popen.wait()
        for reader, stream in zip(self._readers, (self.popen.stdout, self.popen.stderr), strict=True):
            reader.join(5)
            if not reader.is_alive():
                assert stream is not None
                stream.close()

    def __str__(self) -> str:
        return "gnomon " + " ".join(self.arguments)


class Gnomon:
    """Starts `gnomon` with arguments and environment, in a folder of the test's own (fixture `gnomon`)."""

    def __init__(self, cwd: Path) -> None:
        self.cwd = cwd
        self._started: list[GnomonProcess] = []

    def start(self, *arguments: object, env: Mapping[str, str] | None = None) -> GnomonProcess:
        """Start it and return at once; the end of the test kills it if it still runs."""
        process = GnomonProcess(tuple(map(str, arguments)), self._environment(env), self.cwd)
        self._started.append(process)
        return process

    def run(
        self,
        *arguments: object,
        env: Mapping[str, str] | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> "subprocess.CompletedProcess[str]":
        """Run it to its end, whatever its exit status."""
        return subprocess.run(
            [str(COMMAND), *map(str, arguments)],
            capture_output=True,
            text=True,
            env=self._environment(env),
            cwd=self.cwd,
            timeout=timeout,
            check=False,
        )

    def enter(self, *arguments: object, env: Mapping[str, str] | None = None) -> Ended:
        """Run it to its end in this process: for a step on the way to what a test is about."""
        return enter(*arguments, cwd=self.cwd, env=env)

    @staticmethod
    def _environment(env: Mapping[str, str] | None) -> dict[str, str]:
        # The machine's own settings of Gnomon must not leak into a test.
        clean = {name: value for name, value in os.environ.items() if not name.startswith("GNOMON_")}
        return {**clean, "PYTHONUNBUFFERED": "1", "COLUMNS": "120", **(env or {})}

    def close(self) -> None:
        """End everything that was started."""
        for process in self._started:
            process.close()
