"""The `gnomon` command line within the test's own process, which takes a tenth of the time of a separate process."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest

from gnomon_consumer.cli import main


@dataclass(frozen=True)
class Ended:
    """The exit status of a command and its output."""

    returncode: int
    stdout: str
    stderr: str


class Command:
    """Runs command lines in the folder `cwd`, without the environment's own settings."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, cwd: Path) -> None:
        self.cwd = cwd
        self._capsys = capsys
        monkeypatch.chdir(cwd)
        monkeypatch.setenv("COLUMNS", "200")

    def __call__(self, *arguments: object, env: Mapping[str, str] | None = None) -> Ended:
        """Run one to its end, whatever its exit status, with the environment changed by `env`."""
        self._capsys.readouterr()
        with mock.patch.dict(os.environ, env or {}), pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        code = ended.value.code
        out, err = self._capsys.readouterr()
        return Ended(code if isinstance(code, int) else 1, out, err)
