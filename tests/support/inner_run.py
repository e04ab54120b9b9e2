"""A pytest run within a test, separate from the run around it."""

import os
import sys
from pathlib import Path

from tests.support.servers.shared import ROOT


def command(folder: Path, *options: str) -> list[str]:
    """Return the command that runs the tests in a folder, with the folder's own conftest.

    Without `--basetemp` pytest removes the temporary folders of earlier runs at its end, which can take minutes.
    """
    inner = ("-p", "no:cacheprovider", "--rootdir", str(folder), "--basetemp", str(folder / "inner"))
    return [sys.executable, "-m", "pytest", *inner, *options, str(folder)]


def environment(**more: str) -> dict[str, str]:
    """Return the environment, in which `tests` is importable and the options of the outer run do not apply."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": "", **more}
