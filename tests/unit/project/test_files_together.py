"""Tests that share one thing run in one worker: pytest-xdist obeys the mark."""

import subprocess
from pathlib import Path

from tests.support import inner_run

# The first worker with a test of the free file waits for the other worker, which may start slowly.
WAIT = """
    deadline = time.monotonic() + 120
    while len({file.read_text() for file in Path(__file__).parent.glob("test_free-*")} - {""}) < 2:
        assert time.monotonic() < deadline, "one worker has all of them"
        time.sleep(0.01)
"""
BODY = """
import os
import time
from pathlib import Path
import pytest
{mark}
@pytest.mark.parametrize("number", range(8))
def test_it(number):
    (Path(__file__).parent / f"{{Path(__file__).stem}}-{{number}}").write_text(os.environ["PYTEST_XDIST_WORKER"])
{wait}
"""


def test_a_file_that_is_one_group_has_one_worker(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("from tests.conftest import *\n")
    (tmp_path / "test_group.py").write_text(BODY.format(mark='pytestmark = pytest.mark.xdist_group("one")', wait=""))
    (tmp_path / "test_free.py").write_text(BODY.format(mark="", wait=WAIT))
    done = subprocess.run(
        inner_run.command(tmp_path, "-q", "-n", "2", "--dist", "loadgroup"),
        env=inner_run.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len({file.read_text() for file in tmp_path.glob("test_group-*")}) == 1
    assert len({file.read_text() for file in tmp_path.glob("test_free-*")}) == 2
