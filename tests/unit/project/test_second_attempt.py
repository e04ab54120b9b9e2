"""CI repeats a failed test once (ADR 0051): its second attempt has a time-out, too."""

import subprocess
from pathlib import Path

from tests.support import inner_run

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
    ended = subprocess.run(
        inner_run.command(tmp_path, "--reruns", "1"),
        cwd=tmp_path,
        env=inner_run.environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "Timeout" in ended.stdout
    assert "1 failed, 1 rerun" in ended.stdout
