"""Fill a small file system."""

import contextlib
from pathlib import Path


def fill(disk: Path) -> Path:
    """Leave no byte free; return the file that has to go."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"\0" * 65_536):
            pass
    return ballast
