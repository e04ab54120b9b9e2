"""`gnomon up` leaves servers running, `gnomon down` leaves nothing; servers end with a killed holder."""

import json
import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from confluent_kafka import Producer
from tests.support import ordinary_user
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


def test_a_folder_of_somebody_else_is_one_line(tmp_path: Path) -> None:
    if os.geteuid() != 0 or (python := ordinary_user.interpreter()) is None:
        pytest.skip("only root can make a folder that another user may not write")
    with ordinary_user.folder() as folder:
        folder.chmod(0o755)
        for command in ("up", "down"):
            ended = subprocess.run(
                [python, "-m", "gnomon_consumer", command, "--folder", str(folder)], cwd="/", capture_output=True,
                text=True, check=False, timeout=120, env=ordinary_user.environment(), user=54321, group=54321,
                extra_groups=[],
            )  # fmt: skip
            said = {"up": (2, f"gnomon: {folder} cannot be written: Permission denied")}
            nothing = (1, f"gnomon: no server of `gnomon up` is running for {folder}")
            assert (ended.returncode, ended.stderr.strip()) == said.get(command, nothing)


def test_two_at_once_get_the_same_servers(gnomon: Gnomon, tmp_path: Path) -> None:
    folder = str(tmp_path / "it's here")
    started = [gnomon.start("up", "--folder", folder) for _ in range(3)]
    assert [process.wait(180) for process in started] == [0, 0, 0], [process.output for process in started]
    said = {line for process in started for line in process.stdout.splitlines()}
    assert len(said) == 2, said
    assert f"`gnomon down --folder {shlex.quote(folder)}` stops them" in started[0].output
    assert gnomon.run("down", "--folder", folder).returncode == 0


def test_down_waits_for_a_start(gnomon: Gnomon, tmp_path: Path) -> None:
    folder = tmp_path / "here"
    begun = gnomon.start("up", "--folder", str(folder))
    while not (folder / "kafka.log").exists():
        assert begun.popen.poll() is None, begun.output
    assert gnomon.run("down", "--folder", str(folder)).returncode == 0
    begun.wait(180)
    assert gnomon.run("down", "--folder", str(folder)).returncode == 1
