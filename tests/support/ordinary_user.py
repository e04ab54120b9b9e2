"""Run Python as an ordinary user: as the user of the tests, or as nobody if the tests run as root."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NOBODY = 65534


def popen_arguments() -> dict[str, Any]:
    """Return keyword arguments of `subprocess` that make the child an ordinary user's."""
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


def interpreter() -> str | None:
    """Return a Python of this version that an ordinary user may run, None if only root may run it."""
    for candidate in (sys.executable, f"/usr/bin/python{sys.version_info[0]}.{sys.version_info[1]}"):
        run: list[str] = [candidate, "-c", "import ctypes"]
        try:
            if subprocess.run(run, **popen_arguments(), cwd="/", capture_output=True, check=False).returncode == 0:
                return candidate
        except OSError:
            continue
    return None


def environment() -> dict[str, str]:
    """Return the environment in which that interpreter finds the modules of this one."""
    return {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "LANG": "C.UTF-8"}


@contextmanager
def folder() -> Iterator[Path]:
    """Create a folder that belongs to the ordinary user."""
    made = Path(tempfile.mkdtemp(prefix="gnomon-user-"))
    try:
        if os.geteuid() == 0:
            os.chown(made, NOBODY, NOBODY)
        yield made
    finally:
        shutil.rmtree(made)
