"""CI repeats a failed test once (ADR 0051): its second attempt has a time-out, too."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
BODY = """
import time
import pytest

attempts = []

@pytest.mark.timeout(2)
def test_it():
    attempts.append(1)
    assert len(attempts) > 1
    time.sleep(600)
"""


def test_a_second_attempt_ends_at_its_time_out(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(BODY)
    (tmp_path / "conftest.py").write_text("from tests.conftest import *\n")
    options = ["--reruns", "1", "-p", "no:cacheprovider", "--basetemp", str(tmp_path / "inner")]
    command = [sys.executable, "-m", "pytest", *options, str(tmp_path)]
    ended = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "Timeout" in ended.stdout
    assert "1 failed, 1 rerun" in ended.stdout
