"""The hook in processes that end, fork, lose their broker or are killed at any moment."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from tests.support.hook_processes import BUFFER_BYTES
from tests.support.tap import FEATURES, captures, records

from gnomon_schemas.features import FeatureSchema
from gnomon_schemas.store import MemorySchemas

ROOT = Path(__file__).parents[3]


@contextlib.contextmanager
def driver(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Yield a driver process, which ends with the test, including its children."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "tests.support.hook_processes", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def run(*arguments: str, timeout: float = 60) -> str:
    """Run a driver to its end; return its output."""
    with driver(*arguments) as process:
        output, errors = process.communicate(timeout=timeout)
        assert process.returncode == 0, errors
        return output


@pytest.fixture(params=["refused", "silent"])
def dead_broker(request: pytest.FixtureRequest) -> Iterator[str]:
    """Yield a port without a listener, and a port whose listener never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if request.param == "silent":
            listener.listen()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def test_the_end_of_the_program_drains(mock_bootstrap: str, stream_name: str) -> None:
    run("end", mock_bootstrap, stream_name)
    assert len(captures(mock_bootstrap, stream_name)) == 200
    assert [report["closed"] for report in by_time(mock_bootstrap, stream_name)][-1]


def test_sigterm_drains_and_still_ends_the_process_as_a_signal(mock_bootstrap: str, stream_name: str) -> None:
    with driver("sigterm", mock_bootstrap, stream_name) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        assert process.wait(10) == -signal.SIGTERM
    assert len(captures(mock_bootstrap, stream_name)) == 200
    last = by_time(mock_bootstrap, stream_name)[-1]
    assert last["closed"]
    assert (last["offered"], last["delivered"]) == (200, 200)


def test_exit_within_its_time_when_the_broker_is_dead(dead_broker: str, stream_name: str) -> None:
    with driver("two-taps", dead_broker, stream_name) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        started = time.monotonic()
        process.terminate()
        assert process.wait(10) == -signal.SIGTERM
        assert time.monotonic() - started < 8  # 2 s, and the time a loaded machine takes; undrained it would be minutes
    started = time.monotonic()
    run("end", dead_broker, stream_name)
    assert time.monotonic() - started < 20  # the interpreter's start and imports on a loaded machine, then 2 s


def by_time(bootstrap: str, stream: str) -> list[dict[str, Any]]:
    """Return the reports of a stream, oldest first."""
    return sorted(records(bootstrap, stream, "producers"), key=lambda report: report["reported_at"])


@pytest.mark.parametrize("used", ["unused", "used"])
@pytest.mark.parametrize("how", ["os", "nested", "thread", "fork", "spawn", "forkserver", "pool"])
def test_every_child_of_a_fork_delivers(mock_bootstrap: str, stream_name: str, how: str, used: str) -> None:
    run("fork", mock_bootstrap, stream_name, how, used)
    found = captures(mock_bootstrap, stream_name)
    names = Counter(record["request_id"].rpartition("-")[0] for record in found)
    parent = {"parent": 50, "thread": 2000} if used == "used" else {}
    assert names == {"child0": 50, "child1": 50, "child2": 50} | parent
    producers = {record["producer_id"] for record in found}
    for producer in producers:
        sequences = [record["sequence"] for record in found if record["producer_id"] == producer]
        assert sequences == list(range(len(sequences)))
    assert len({record["request_id"] for record in found}) == len(found)
    closed = {report["producer_id"] for report in records(mock_bootstrap, stream_name, "producers") if report["closed"]}
    assert closed == producers


def check_storm(broker: str, stream: str, calls: int) -> dict[str, Any]:
    """Capture without a working broker, and compare the result with the guarantees."""
    told: dict[str, Any] = json.loads(run("storm", broker, stream, str(calls), timeout=1200))
    assert told["start_s"] < 3
    assert told["offered"] == calls + 1 == sum(told["dropped"].values())
    assert told["delivered"] == told["in_flight"] == 0
    assert set(told["dropped"]) - {"publisher_dead"} == {"queue_full", "delivery_failed"}
    assert 0 < told["grown_bytes"] < 32 * 1024 * 1024
    assert told["close_s"] < 2.5  # measured inside the process: 2 s
    return told


def test_calls_with_a_dead_broker(dead_broker: str, stream_name: str) -> None:
    check_storm(dead_broker, stream_name, 60_000)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_ten_million_calls_with_a_dead_broker(dead_broker: str, stream_name: str) -> None:
    print(check_storm(dead_broker, stream_name, 10_000_000))


def check_kill(bootstrap: str, stream: str, ledger: Path, after_s: float) -> int:
    """Kill a driver at a random moment: its captures arrived, were counted as dropped, or were in the buffer."""
    ledger.write_bytes(bytes(16))
    with driver("until-killed", bootstrap, stream, str(ledger)) as process:
        deadline = time.monotonic() + 60
        while ledger.read_bytes() == bytes(16):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "the driver does not start"
            time.sleep(0.005)
        time.sleep(after_s)
        process.kill()
        process.wait()
    noted = ledger.read_bytes()
    offered, dropped = int.from_bytes(noted[:8], "little"), int.from_bytes(noted[8:], "little")
    # If it is killed at its start, captures may have arrived before the schema, which is in another topic.
    found = captures(bootstrap, stream, MemorySchemas([FeatureSchema.of(FEATURES).live]))
    sequences = [record["sequence"] for record in found]
    assert len(set(sequences)) == len(sequences)
    assert {record["request_id"] for record in found} == {f"r{sequence}" for sequence in sequences}
    lost = offered - len(sequences) - dropped
    assert 0 <= lost <= BUFFER_BYTES // 2048 + 1  # one buffer of messages, and the one in progress
    assert not any(report["closed"] for report in records(bootstrap, stream, "producers"))
    return lost


def test_kill_at_any_moment(mock_bootstrap: str, stream_name: str, tmp_path: Path) -> None:
    seed = int(os.environ.get("GNOMON_TEST_SEED", random.randrange(2**32)))
    print(f"GNOMON_TEST_SEED={seed}")
    chance = random.Random(seed)
    ledger = tmp_path / "ledger"
    lost = [check_kill(mock_bootstrap, f"{stream_name}{n}", ledger, chance.uniform(0, 1.2)) for n in range(10)]
    print(f"lost: {lost}")


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_kill_a_thousand_times(stream_name: str, tmp_path: Path) -> None:
    kills = int(os.environ.get("GNOMON_TEST_KILLS", "1000"))
    chance = random.Random(int(os.environ.get("GNOMON_TEST_SEED", "20130101")))
    ledger = tmp_path / "ledger"
    lost = []
    for _ in range(kills):
        # A new broker each time: this one keeps all data, and a thousand runs would fill the memory.
        cluster = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "mock"})
        bootstrap = ",".join(f"{b.host}:{b.port}" for b in cluster.list_topics(timeout=10).brokers.values())
        lost.append(check_kill(bootstrap, stream_name, ledger, chance.uniform(0, 1.6)))
        del cluster
    print(f"{kills} kills, lost at most {max(lost)}, {sum(lost) / kills:.0f} on average")
