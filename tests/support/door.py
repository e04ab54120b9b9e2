"""The command line without a new process: status and both outputs of `gnomon …`, many times in a second."""

import contextlib
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from gnomon_consumer.cli import main


@dataclass(frozen=True, slots=True)
class Ended:
    """The status and outputs of a command."""

    status: int
    stdout: str
    stderr: str

    @property
    def returncode(self) -> int:
        """Return the status under the name that it has for a separate process."""
        return self.status

    @property
    def line(self) -> str:
        """Return the command's error line, without its log."""
        said = [line for line in self.stderr.splitlines() if line.startswith("gnomon: ")]
        return said[-1].removeprefix("gnomon: ") if said else ""


def enter(*arguments: object, cwd: Path, env: Mapping[str, str] | None = None) -> Ended:
    """Run `gnomon` with arguments in this process, as the shipped script does; raise an internal error unchanged."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("GNOMON_", "PG"))}
    stdout, stderr = io.StringIO(), io.StringIO()
    status = 0
    with (
        contextlib.chdir(cwd),
        mock.patch.dict(os.environ, {**clean, "COLUMNS": "200", **(env or {})}, clear=True),
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
    ):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
    return Ended(status, stdout.getvalue(), stderr.getvalue())
