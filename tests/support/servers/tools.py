"""Other programs that a test needs."""

import os
import shutil
from typing import NoReturn

import pytest


def tool(*names: str, package: str) -> str:
    """Return the path of a program, by any of its names; `package` provides it on Debian and Ubuntu."""
    found = next(filter(None, map(shutil.which, names)), None)
    return found or missing(f"no {names[0]} on this machine (Debian and Ubuntu: apt install {package})")


def missing(reason: str) -> NoReturn:
    """Skip the test with the reason, or fail it under GNOMON_REQUIRE_TOOLS."""
    if os.environ.get("GNOMON_REQUIRE_TOOLS"):
        pytest.fail(f"{reason}, and GNOMON_REQUIRE_TOOLS is set", pytrace=False)
    pytest.skip(reason)


def no_kafka(reason: object) -> NoReturn:
    """Skip the test with the reason, or fail it under GNOMON_REQUIRE_KAFKA."""
    if os.environ.get("GNOMON_REQUIRE_KAFKA"):
        pytest.fail(f"{reason} (and GNOMON_REQUIRE_KAFKA is set)", pytrace=False)
    pytest.skip(str(reason))
