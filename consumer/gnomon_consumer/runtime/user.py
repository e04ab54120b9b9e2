"""The user of this process, which may have no name and no home, for example a pod's random user."""

import getpass
import os
from pathlib import Path


def user_name() -> str:
    """Return the user's name, or `uid N` for a user without one."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # before and since Python 3.13
        return f"uid {os.getuid()}"


def home_folder() -> Path | None:
    """Return the user's home, None for a user without one."""
    try:
        return Path.home()
    except RuntimeError:
        return None
