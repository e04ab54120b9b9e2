"""The limit on a worker's processes counts only the worker's own, whatever else its user runs on this machine."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import ordinary_user
from tests.support.servers.shared import ROOT

from gnomon_consumer.scorer.worker import process_limit

NEIGHBOUR = """
import threading
until = threading.Event()
for _ in range(200):
    threading.Thread(target=until.wait, daemon=True).start()
print("ready", flush=True)
input()
"""

FORK = """
import os, sys
while True:
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
"""

SCORE = """
import sys, time
import numpy as np
from tests.support.live_stream import FEATURES, Stream
from gnomon_consumer.scorer.worker import process_limit
from gnomon_consumer.scorer.worker import models
from gnomon_consumer.scorer.worker import sandbox
from gnomon_consumer.scorer.pool.jobs import Job
from gnomon_consumer.scorer.worker.encoding import codec
from gnomon_consumer.scorer.pool.pool import Pool
from gnomon_consumer.scorer.captures import Row, Rows
from gnomon_schemas.codec import Reader
from gnomon_schemas.store import packaged_schemas

pool = Pool(1, models.describe("starts:make"), sandbox.Limits(2**31, processes=int(sys.argv[1])), call_seconds=30.0)
try:
    pool.start(FEATURES.live)
    value = Stream("127.0.0.1:1", "none").capture("r", amount=float(sys.argv[2]))
    rows = Rows.of([Row(0, 0, b"r", value, None, 0, 1.0)])
    pool.submit(Job(window_id="w", partition=0, sealed_at=0, rows=rows, places=np.arange(1), single=False))
    done = []
    while not done:
        done = pool.poll(wait=0.05)
finally:
    pool.close()
found = Reader(packaged_schemas()).decode(done[0].scored[0].message).record
print(found["error"]["message"] if found["error"] else found["prediction"]["value"], flush=True)
"""

MODEL = """
import os, threading, time
import numpy as np

def make():
    def predict(columns):
        count = int(columns["amount"][0])
        until = threading.Event()
        if count < 0:  # that many processes
            for _ in range(-count):
                if os.fork() == 0:
                    time.sleep(600)
        for _ in range(count):
            threading.Thread(target=until.wait, daemon=True).start()
        until.set()
        return np.asarray(columns["amount"])
    return predict
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    with ordinary_user.folder() as made:
        (made / "starts.py").write_text(MODEL)
        yield made


def run(folder: Path, limit: int, count: int, *, root: bool = False) -> subprocess.CompletedProcess[str]:
    """Let a model start `count` threads (negative: processes) in a worker with this limit."""
    python = sys.executable if root else ordinary_user.interpreter()
    if python is None:
        pytest.skip("the only Python of this version is one that an ordinary user may not run")
    environment = ordinary_user.environment()
    environment["PYTHONPATH"] = f"{ROOT}:{environment['PYTHONPATH']}"
    arguments = {} if root else ordinary_user.popen_arguments()
    return subprocess.run(
        [python, "-c", SCORE, str(limit), str(count)],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False, **arguments,
    )  # fmt: skip


def test_two_hundred_threads_of_the_same_user_stop_no_worker(folder: Path) -> None:
    python = ordinary_user.interpreter()
    if python is None:
        pytest.skip("the only Python of this version is one that an ordinary user may not run")
    with subprocess.Popen(
        [python, "-c", NEIGHBOUR],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, **ordinary_user.popen_arguments(),
    ) as neighbour:  # fmt: skip
        assert neighbour.stdout is not None
        assert neighbour.stdout.readline() == b"ready\n"
        found = run(folder, 64, 10)
        neighbour.communicate(b"\n")
    assert found.stdout.splitlines()[-1] == "10.0", found.stderr


@pytest.mark.parametrize("root", [False, True])
@pytest.mark.parametrize("count", [200, -200])
def test_a_worker_is_held_to_its_own_limit_and_told_which(folder: Path, count: int, root: bool) -> None:
    if root and os.geteuid() != 0:
        pytest.skip("these tests do not run as root")
    found = run(folder, 20, count, root=root)
    assert "a worker may have 20 processes and threads (setting score.processes)" in found.stdout.splitlines()[-1]


def test_processes_may_end_while_they_are_counted() -> None:
    with subprocess.Popen([sys.executable, "-c", FORK]) as forking:
        try:
            for _ in range(3000):
                assert forking.pid in list(process_limit.descendants(os.getpid()))
        finally:
            forking.kill()
