"""An interrupted test run leaves no process: no server, no shipped command, no helper of a test."""

import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from tests.support import inner_run

BODY = """
import subprocess, sys, time
from pathlib import Path
from gnomon_consumer.runtime.parent_death import leashed
from tests.support.orphans import PARENT
def test_that_hangs(gnomon, mock_bootstrap):
    parent = subprocess.Popen(leashed([sys.executable, "-c", PARENT]), stdout=subprocess.PIPE, start_new_session=True)
    parent.stdout.readline()
    command = gnomon.start("labels", "consume", "--stream", "s", "--bootstrap-servers", mock_bootstrap,
                           "--database-url", "postgresql://127.0.0.1:1/none")
    Path("ready").touch()
    time.sleep(600)
"""


def marked(marker: str) -> list[psutil.Process]:
    """Return the processes that inherited the marker, wherever they are in the process tree."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("GNOMON_TEST_RUN_MARKER") == marker:
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_run_leaves_nothing(signum: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(BODY)
    (tmp_path / "conftest.py").write_text("from tests.conftest import *\n")
    marker = str(tmp_path)
    said = tmp_path / "said"
    with said.open("w") as output:
        run = subprocess.Popen(
            inner_run.command(tmp_path, "-q"),
            cwd=tmp_path,
            env=inner_run.environment(GNOMON_TEST_RUN_MARKER=marker),
            stdout=output,
            stderr=output,
        )
    deadline = time.monotonic() + 120
    while not (tmp_path / "ready").exists():
        assert run.poll() is None, "the inner run ended before it was ready"
        assert time.monotonic() < deadline
        time.sleep(0.1)
    family = marked(marker)
    assert len(family) > 4, "servers, a helper and a command are needed to prove anything"
    run.send_signal(signum)
    try:
        run.wait(120)
    except subprocess.TimeoutExpired:
        run.send_signal(signal.SIGABRT)  # pytest's faulthandler then shows the stack of each thread
        run.wait()
        pytest.fail(f"it goes on after the signal:\n{said.read_text()}")
    _, alive = psutil.wait_procs(family, timeout=40)
    assert [process.cmdline() for process in alive] == []
