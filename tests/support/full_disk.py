"""Fill a small file system."""

import contextlib
from pathlib import Path


def fill(disk: Path) -> Path:
    """Fill the disk completely; return the file to delete afterwards."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"\0" * 65_536):
            pass
    return ballast
