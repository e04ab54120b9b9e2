"""`gnomon up` leaves servers running, `gnomon down` leaves nothing; servers end with a killed holder."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from confluent_kafka import Producer
from tests.support.servers.process import Gnomon


@pytest.fixture
def up(gnomon: Gnomon, tmp_path: Path) -> Iterator[dict[str, Any]]:
    started = gnomon.run("up", "--folder", str(tmp_path / "here"), "--json")
    assert started.returncode == 0, started.stderr
    yield json.loads(started.stdout)
    gnomon.run("down", "--folder", str(tmp_path / "here"))


def family(pid: int) -> list[psutil.Process]:
    holder = psutil.Process(pid)
    return [holder, *holder.children(recursive=True)]


def stored(url: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute("select name from gnomon.streams").fetchall()


def test_servers_stay_up_the_database_is_kept_and_down_leaves_nothing(
    gnomon: Gnomon, tmp_path: Path, up: dict[str, Any]
) -> None:
    folder = str(tmp_path / "here")
    producer = Producer({"bootstrap.servers": up["bootstrap_servers"]})
    producer.produce("gnomon.s.live", b"1")
    assert producer.flush(30) == 0
    del producer
    with psycopg.connect(up["database_url"]) as connection:
        connection.execute("insert into gnomon.streams (name) values ('mine')")
    again = gnomon.run("up", "--folder", folder)
    assert f"export GNOMON_BOOTSTRAP_SERVERS='{up['bootstrap_servers']}'" in again.stdout, "the same servers"
    relatives = family(up["pid"])
    assert len(relatives) > 4
    stopped = gnomon.run("down", "--folder", folder)
    assert stopped.returncode == 0, stopped.stderr
    _, alive = psutil.wait_procs(relatives, timeout=30)
    assert alive == []
    nothing = gnomon.run("down", "--folder", folder)
    said = f"gnomon: no server of `gnomon up` is running for {folder}"
    assert (nothing.returncode, nothing.stderr.strip()) == (1, said)
    fresh = json.loads(gnomon.run("up", "--folder", folder, "--json").stdout)
    assert stored(fresh["database_url"]) == [("mine",)]


def test_a_killed_holder_takes_its_servers_with_it(gnomon: Gnomon, tmp_path: Path, up: dict[str, Any]) -> None:
    relatives = family(up["pid"])
    os.kill(up["pid"], signal.SIGKILL)
    _, alive = psutil.wait_procs(relatives, timeout=60)
    assert alive == []
    started = gnomon.run("up", "--folder", str(tmp_path / "here"), "--json")
    assert json.loads(started.stdout)["pid"] != up["pid"]


def test_a_folder_that_cannot_be_made_is_one_line(gnomon: Gnomon, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = gnomon.run("up", "--folder", str(tmp_path / "file" / "below"))
    assert ended.returncode == 2
    assert "cannot be made" in ended.stderr
    assert "Traceback" not in ended.stderr
