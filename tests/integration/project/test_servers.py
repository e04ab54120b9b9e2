"""The fixtures themselves: real servers, separate for each test, ended with the run however it ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from tests.support import inner_run
from tests.support.servers import docker
from tests.support.servers.shared import ROOT, Servers, wait_for_exit


def test_a_transaction_is_hidden_until_committed(kafka_bootstrap: str, stream_name: str) -> None:
    """Only a real broker does this: read_committed does not return an aborted record."""
    admin = AdminClient({"bootstrap.servers": kafka_bootstrap})
    for future in admin.create_topics([NewTopic(stream_name, 1, 1)]).values():
        future.result(30)
    producer = Producer({"bootstrap.servers": kafka_bootstrap, "transactional.id": stream_name})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(stream_name, b"aborted")
    producer.flush(30)
    producer.abort_transaction(30)
    producer.begin_transaction()
    producer.produce(stream_name, b"committed")
    producer.commit_transaction(30)
    consumer = Consumer(
        {
            "bootstrap.servers": kafka_bootstrap,
            "group.id": stream_name,
            "auto.offset.reset": "earliest",
            "group.protocol": "consumer",
        }
    )
    consumer.subscribe([stream_name])
    (message,) = consumer.consume(1, timeout=30)
    consumer.close()
    assert message.error() is None
    assert message.value() == b"committed"


def test_both_brokers_carry_a_message(broker: str, stream_name: str) -> None:
    admin = AdminClient({"bootstrap.servers": broker})
    assert admin.list_topics(timeout=10).brokers


def test_databases_are_separate(empty_database_url: str, postgres_server: str) -> None:
    with psycopg.connect(empty_database_url) as connection:
        connection.execute("CREATE TABLE mine (x int)")
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE tablename = 'mine'").fetchone() == (1,)
    with psycopg.connect(postgres_server) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE tablename = 'mine'").fetchone() == (0,)


def test_without_an_engine_docker_is_ruled_out_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/absent.sock")
    assert not docker.engine_answers()


@pytest.fixture
def owner() -> Iterator["subprocess.Popen[bytes]"]:
    """Start a process that represents a test run; it lives until it is killed."""
    process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("kind", ["kafka", "postgres"])
def test_a_killed_run_leaves_no_server(
    kind: str,
    owner: "subprocess.Popen[bytes]",
    request: pytest.FixtureRequest,
) -> None:
    """After SIGKILL of the run, its children notice and stop the servers."""
    request.getfixturevalue({"kafka": "kafka_bootstrap", "postgres": "postgres_server"}[kind])  # may skip
    run = Servers(Servers.create().folder, owner.pid)
    run.address(kind)
    child = psutil.Process(int((run.folder / f"{kind}.pid").read_text()))
    family = [child, *child.children(recursive=True), *processes_naming(run.folder)]
    handles = [os.pidfd_open(process.pid) for process in family]
    assert len(family) > 1, "a process without a server proves nothing"
    owner.send_signal(signal.SIGKILL)
    assert all(wait_for_exit(handle, 20) for handle in handles)
    for handle in handles:
        os.close(handle)
    os.waitpid(child.pid, 0)
    run.stop()


def processes_naming(folder: Path) -> list[psutil.Process]:
    """Return processes with `folder` on their command line: PostgreSQL leaves its starter's process tree."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if str(folder) in " ".join(process.info["cmdline"] or [])
    ]


@pytest.mark.parametrize(
    "body",
    [
        "import threading\n    t = threading.Thread(target=lambda: 1 / 0)\n    t.start()\n    t.join()",
        "class Bad:\n        def __del__(self):\n            raise OSError\n    b = Bad()\n    del b",
    ],
    ids=["thread", "destructor"],
)
def test_a_swallowed_error_fails_its_test(body: str, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(f"def test_it():\n    {body}\n")
    (tmp_path / "conftest.py").write_text("from tests.conftest import no_swallowed_errors\n")
    run = subprocess.run(
        inner_run.command(tmp_path), cwd=ROOT, env=inner_run.environment(), capture_output=True, text=True, check=False
    )
    assert run.returncode == 1, run.stdout
    assert "errors that nobody saw" in run.stdout


def test_migrated_databases_are_clones(database_url: str, postgres_server: str) -> None:
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM pg_namespace WHERE nspname = 'gnomon'").fetchone() == (1,)
