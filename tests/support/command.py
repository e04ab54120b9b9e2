"""The `gnomon` command line within the test's own process, which takes a tenth of the time of a separate process."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from gnomon_consumer.cli import main


@dataclass(frozen=True)
class Ended:
    """The exit status of a command and its output."""

    returncode: int
    stdout: str
    stderr: str


def in_process(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: Path
) -> Callable[..., Ended]:
    """Return a function that runs a command line in a folder, without the environment's own settings."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> Ended:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        code = ended.value.code
        out, err = capsys.readouterr()
        return Ended(code if isinstance(code, int) else 1, out, err)

    return run
