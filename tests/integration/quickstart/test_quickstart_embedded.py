"""The embedded servers work, keep their data if asked to, and leave no process behind however their parent ends."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import psycopg
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from tests.support.orphans import PARENT

from gnomon_consumer.quickstart.embedded import postgres
from gnomon_consumer.quickstart.embedded.start import PARTITIONS, start_kafka, start_postgres
from gnomon_consumer.runtime.parent_death import leashed
from gnomon_schemas.errors import ConfigurationError, DependencyUnreachableError


def family(parent: int) -> list[psutil.Process]:
    return psutil.Process(parent).children(recursive=True)


def names(processes: list[psutil.Process]) -> str:
    return " ".join(" ".join(process.cmdline()) for process in processes)


def test_kafka_takes_and_gives_messages_and_says_nothing_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    with start_kafka() as kafka:
        producer = Producer({"bootstrap.servers": kafka.address})
        for partition in range(PARTITIONS):
            producer.produce("topic", f"value {partition}".encode(), partition=partition)
        assert producer.flush(60) == 0
        assert set(producer.list_topics("topic", timeout=10).topics["topic"].partitions) == set(range(PARTITIONS))
        consumer = Consumer({"bootstrap.servers": kafka.address, "group.id": "test"})
        consumer.assign([TopicPartition("topic", partition, 0) for partition in range(PARTITIONS)])
        got = [message.value() for message in consumer.consume(PARTITIONS, timeout=20)]
        consumer.close()
        del producer, consumer  # before their broker ends, so that they log no error
        assert sorted(filter(None, got)) == [f"value {partition}".encode() for partition in range(PARTITIONS)]
    assert not kafka.running()
    # A client that another test of this process left open may still look for its own broker.
    own = [line for line in capfd.readouterr().err.splitlines() if "rdkafka#" not in line or kafka.address in line]
    assert own == []


def test_postgres_keeps_a_named_directory_and_deletes_a_temporary_one(tmp_path: Path) -> None:
    with start_postgres(tmp_path / "kept") as database, psycopg.connect(database.address) as connection:
        connection.execute("create table t as select 42 as answer")
        connection.commit()
        connection.close()
    with start_postgres(tmp_path / "kept") as database, psycopg.connect(database.address) as connection:
        assert connection.execute("select answer from t").fetchone() == (42,)
        connection.close()
    with start_postgres() as database, psycopg.connect(database.address) as connection:
        assert connection.execute("show timezone").fetchone() == ("UTC",)
        row = connection.execute("show data_directory").fetchone()
        assert row is not None
        connection.close()
    assert not Path(row[0]).parent.exists()


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_outlives_a_killed_parent(signum: signal.Signals) -> None:
    parent = subprocess.Popen(
        leashed([sys.executable, "-c", PARENT]),  # an interrupted test run leaves nothing behind
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"ready\n"
    relatives = family(parent.pid)
    assert all(
        word in names(relatives)
        for word in ("embedded.server kafka", "embedded.server postgres", "bin/postgres", "sleep")
    )
    parent.send_signal(signum)
    parent.wait(20)
    parent.stdout.close()
    _, alive = psutil.wait_procs(relatives, timeout=20)
    assert alive == []


def test_postgres_dies_with_a_killed_keeper() -> None:
    with start_postgres() as database:
        relatives = family(database.pid)
        assert "bin/postgres" in names(relatives)
        os.kill(database.pid, signal.SIGKILL)
        _, alive = psutil.wait_procs(relatives, timeout=20)
        assert alive == []


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "PG_VERSION").write_text("9.1")
    with pytest.raises(
        DependencyUnreachableError, match=r"embedded postgres: PostgreSQL did not start: .*configuration file"
    ):
        start_postgres(tmp_path / "data")


def test_missing_programs_name_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GNOMON_POSTGRES_BIN", str(tmp_path))
    with pytest.raises(ConfigurationError, match="GNOMON_POSTGRES_BIN"):
        postgres.programs()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives the server another account")
def test_programs_in_a_private_directory_are_copied_and_the_directory_stays_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = tmp_path / "private"
    install = postgres.programs().parent
    package = install.parent
    shutil.copytree(install, private / package.name / install.name, symlinks=True)
    if (libraries := package.with_name(package.name + ".libs")).is_dir():
        shutil.copytree(libraries, private / libraries.name)
    private.chmod(0o700)
    monkeypatch.setenv("GNOMON_POSTGRES_BIN", str(private / package.name / install.name / "bin"))
    with start_postgres() as database, psycopg.connect(database.address) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
        connection.close()
    assert private.stat().st_mode & 0o777 == 0o700
