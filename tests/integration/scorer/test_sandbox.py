"""A hostile Python model can do nothing from its worker."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from tests.support.live_stream import FEATURES, Stream

from gnomon_consumer.scorer.captures import Row, Rows
from gnomon_consumer.scorer.pool import process
from gnomon_consumer.scorer.pool.jobs import Finished, Job
from gnomon_consumer.scorer.pool.pool import Pool
from gnomon_consumer.scorer.worker import models
from gnomon_consumer.scorer.worker.encoding import codec
from gnomon_consumer.scorer.worker.sandbox import NAMESPACE, Limits
from gnomon_consumer.scorer.worker.sandbox_check import LAYERS, check_sandbox
from gnomon_schemas.codec import Reader
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.store import packaged_schemas

HOSTILE = """
import os, signal, socket, ctypes, json, sys, time
import numpy as np

def environment():
    return lambda columns: {"label": [json.dumps(dict(os.environ))] * len(columns["amount"])}

def _each(act):
    def predict(columns):
        for amount in columns["amount"]:
            if amount == 666.0:
                act()
        return np.asarray(columns["amount"])
    return predict

def allocate():
    return _each(lambda: bytearray(4 * 2**30))

def connect():
    return _each(lambda: socket.create_connection(("127.0.0.1", PORT), 2))

def raw_connect():
    '''Past Python: the system call itself.'''
    libc = ctypes.CDLL(None, use_errno=True)
    def act():
        fd = libc.socket(socket.AF_INET, socket.SOCK_STREAM, 0)
        address = (2).to_bytes(2, sys.byteorder) + PORT.to_bytes(2, "big") + bytes((127, 0, 0, 1)) + bytes(8)
        if libc.connect(fd, address, 16) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return _each(act)

def fork_bomb():
    def act():
        for _ in range(300):
            if os.fork() == 0:
                time.sleep(600)
        raise RuntimeError("three hundred children")
    return _each(act)

def detach():
    '''Sessions of their own, twice removed from the worker.'''
    def act():
        for _ in range(20):
            if os.fork() == 0:
                os.setsid()
                for _ in range(3):
                    os.fork()
                time.sleep(600)
        raise RuntimeError("scattered")
    return _each(act)

def spy():
    def act():
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                found = open(f"/proc/{pid}/environ", "rb").read()
            except OSError:
                continue
            if b"canary-secret" in found:
                raise LookupError("found it")
    return _each(act)

def hang():
    def act():
        while True:
            pass
    return _each(act)

def segfault():
    return _each(lambda: os.kill(os.getpid(), signal.SIGSEGV))

def leave():
    return _each(lambda: os._exit(0))

def write():
    return _each(lambda: open("written-by-a-model", "wb", 0).write(b"x"))

def chatter():
    def act():
        os.write(1, b"not a frame" * 1000)
        print("not a frame either")
    return _each(act)

def raises():
    def act():
        raise KeyError("inside the model")
    return _each(act)

def dies_at_birth():
    os._exit(3)

def refuses():
    raise ValueError("no weights here")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GNOMON_KAFKA__PROPERTIES", '{"sasl.password": "canary-secret"}')
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-secret")
    return tmp_path


@pytest.fixture
def listener() -> Iterator[tuple[int, list[object]]]:
    """Yield a server on loopback that records every connection."""
    accepted: list[object] = []
    server = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                accepted.append(server.accept())
            except OSError:
                return

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield server.getsockname()[1], accepted
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()
    for connection in accepted:
        connection[0].close()  # type: ignore[index]  # what accept() returned


def run(
    folder: Path, factory: str, amounts: list[float], *, port: int = 1, single: bool = False
) -> list[dict[str, object]]:
    """Score captures of these amounts in a pool of one worker; returns the outcomes as decoded records."""
    (folder / "hostile.py").write_text(f"PORT = {port}\n{HOSTILE}")
    pool = Pool(1, models.describe(f"hostile:{factory}"), Limits(memory_bytes=2**30), call_seconds=1.0)
    stream = Stream("127.0.0.1:1", "none")
    rows = []
    for offset, amount in enumerate(amounts):
        key = f"r{offset}"
        rows.append(Row(0, offset, key.encode(), stream.capture(key, amount=amount), None, offset, 1.0))
    try:
        pool.start(FEATURES.live)
        pids = pool.pids
        pool.submit(
            Job(window_id="w", partition=0, sealed_at=0, rows=Rows.of(rows), places=np.arange(len(rows)), single=single)
        )
        done: list[Finished] = []
        deadline = time.monotonic() + 150  # a worker may take many seconds to start on a loaded machine
        while sum(len(one.places) for one in done) < len(rows):
            assert time.monotonic() < deadline, "the pool never finished"
            done += pool.poll(wait=0.05)
    finally:
        pool.close()
    assert not any(psutil.pid_exists(pid) for pid in pids)
    placed = {place: scored for one in done for place, scored in zip(one.places, one.scored, strict=True)}
    reader = Reader(packaged_schemas())
    return [reader.decode(placed[place].message).record for place in range(len(rows))]


def kinds(found: list[dict[str, object]]) -> list[str]:
    return [str(one["error"]["kind"]) if one["error"] else "scored" for one in found]  # type: ignore[index]


def test_the_environment_holds_no_credentials(folder: Path) -> None:
    found = run(folder, "environment", [1.0])[0]["prediction"]
    assert isinstance(found, dict)
    seen = json.loads(str(found["label"]))
    assert "canary-secret" not in json.dumps(seen)
    assert not any(name.startswith(("GNOMON_", "AWS_", "KAFKA_", "PG")) for name in seen)


AMOUNTS = [1.0, 2.0, 666.0, 4.0, 5.0]


@pytest.mark.parametrize(
    ("factory", "kind"),
    [
        ("allocate", "exception"),
        ("hang", "timeout"),
        ("segfault", "quarantined"),
        ("leave", "quarantined"),
        ("write", "exception"),
        ("chatter", "scored"),
        ("raises", "exception"),
    ],
)
def test_only_the_hostile_row_fails(folder: Path, factory: str, kind: str) -> None:
    assert kinds(run(folder, factory, AMOUNTS)) == ["scored", "scored", kind, "scored", "scored"]


@pytest.mark.parametrize("factory", ["connect", "raw_connect"])
def test_no_connection_leaves_the_worker(folder: Path, listener: tuple[int, list[object]], factory: str) -> None:
    port, accepted = listener
    found = kinds(run(folder, factory, AMOUNTS, port=port))
    if factory == "raw_connect" and "none" not in _network():
        pytest.skip("this kernel refuses network namespaces to us, so only Python code is held back")
    assert found == ["scored", "scored", "exception", "scored", "scored"]
    assert accepted == []


def _network() -> str:
    """Return the sandbox layers that a worker of this machine has for its network."""
    return check_sandbox()["network"]


@pytest.mark.parametrize("factory", ["fork_bomb", "detach"])
def test_what_a_model_forks_is_bounded_and_ends_with_its_worker(folder: Path, factory: str) -> None:
    found = kinds(run(folder, factory, AMOUNTS))
    assert found[:2] == ["scored", "scored"]
    assert found[2] in ("exception", "timeout", "quarantined")
    assert _left_in(folder) == []


def _left_in(folder: Path) -> list[psutil.Process]:
    """Return workers and their descendants: their working folder is ours, also after their parent has ended."""
    there = psutil.process_iter(["cwd"])
    return [one for one in there if one.info["cwd"] == str(folder) and one.pid != os.getpid()]


def test_other_processes_keep_their_environment_to_themselves(folder: Path) -> None:
    """Values that Python sets at run time are not in /proc, so a child of ours has the secret from its start."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        if "open" in check_sandbox()["environment"]:
            pytest.skip("this kernel gives no process namespace, so models see the processes of their user")
        assert kinds(run(folder, "spy", [666.0])) == ["scored"]
        child.communicate(b"")


SCATTER = """
import os, signal, sys, time
from gnomon_consumer.scorer.worker import keeper
from gnomon_consumer.scorer.worker import sandbox
if sys.argv[2] == "subreaper":
    sandbox._unshare = lambda _: "refused by this test"
def work(report, seen):
    assert (report["processes"] == sandbox.NAMESPACE) == (sys.argv[2] != "subreaper")
    for _ in range(5):
        if os.fork() == 0:
            os.setsid()
            os.fork()
            time.sleep(600)
    print("scattered", flush=True)
    if sys.argv[3] == "dies":
        os.kill(os.getpid(), signal.SIGABRT)
    time.sleep(600 if sys.argv[3] != "returns" else 0)
keeper.keep(int(sys.argv[1]), sandbox.Limits(2**31), work)
"""


@pytest.mark.parametrize("holds", ["namespace", "subreaper"])
@pytest.mark.parametrize(("end", "status"), [("returns", 0), ("dies", -signal.SIGABRT), ("told", -signal.SIGKILL)])
def test_no_descendant_outlives_its_keeper(tmp_path: Path, holds: str, end: str, status: int) -> None:
    if holds == "namespace" and check_sandbox()["processes"] != NAMESPACE:
        pytest.skip("this kernel refuses process namespaces to us")
    command = [sys.executable, "-c", SCATTER, str(os.getpid()), holds, end]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=tmp_path) as keeper:
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == b"scattered\n"
        if end == "told":
            keeper.terminate()
        # Every descendant holds the pipe, so its end is the end of all of them.
        assert keeper.stdout.read() == b""
        assert keeper.wait(20) == status
    assert _left_in(tmp_path) == []


def test_a_keeper_that_its_model_has_stopped_is_killed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "KEEPER_SECONDS", 0.5)
    (folder / "hostile.py").write_text(f"PORT = 1\n{HOSTILE}")
    pool = Pool(1, models.describe("hostile:raises"), Limits(memory_bytes=2**30), call_seconds=1.0)
    pool.start(FEATURES.live)
    os.kill(pool.pids[0], signal.SIGSTOP)
    pool.close()
    _, left = psutil.wait_procs(_left_in(folder), timeout=10)  # killed with it, but nobody here waited for them
    assert left == []


def test_doctor_tells_what_the_sandbox_can_do_here() -> None:
    found = check_sandbox()
    assert tuple(found) == LAYERS
    assert found["memory"] == "limited"
    assert not any("not known" in text for text in found.values())


@pytest.mark.parametrize(("factory", "expected"), [("refuses", "no weights here"), ("dies_at_birth", "exit status 3")])
def test_a_model_that_cannot_be_loaded_is_refused(folder: Path, factory: str, expected: str) -> None:
    with pytest.raises(ConfigurationError, match=expected):
        run(folder, factory, [1.0])


def test_the_probe_has_rows_of_one(folder: Path) -> None:
    found = run(folder, "raises", [1.0, 2.0], single=True)
    assert [one["batch_size"] for one in found] == [1, 1]
    assert codec("ShadowPrediction").schema.name == "gnomon.v1.ShadowPrediction"
