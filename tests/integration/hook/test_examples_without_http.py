"""The examples without HTTP, as real programs: a Celery worker with forked children, and a plain loop."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from tests.support.tap import captures, records

EXAMPLES = Path(__file__).parents[3] / "examples"
BIN = Path(sys.executable).parent
TASKS, TASKS_A_CHILD = 30, 6


def environment(bootstrap: str, stream: str) -> dict[str, str]:
    """Return the environment of a service with the hook."""
    hook = {"GNOMON_STREAM": stream, "GNOMON_MODEL": "fraud:7", "GNOMON_BOOTSTRAP_SERVERS": bootstrap}
    return os.environ | hook | {"PYTHONUNBUFFERED": "1"}


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Celery]:
    """Return a Celery client whose broker and results are folders, and the configuration of its worker."""
    folders = {name: str(tmp_path / name) for name in ("data_folder_in", "data_folder_out", "control_folder")}
    folders["data_folder_out"] = folders["data_folder_in"]
    for folder in {*folders.values(), str(tmp_path / "results")}:
        Path(folder).mkdir()
    settings = {
        "broker_url": "filesystem://",
        "broker_transport_options": folders,
        "result_backend": f"file://{tmp_path}/results",
        "worker_max_tasks_per_child": TASKS_A_CHILD,
        "worker_hijack_root_logger": False,
    }
    (tmp_path / "settings_of_test.py").write_text("\n".join(f"{name} = {value!r}" for name, value in settings.items()))
    with Celery("client", set_as_current=False) as client:
        client.conf.update(settings)
        yield client


@contextlib.contextmanager
def worker(folder: Path, told: dict[str, str]) -> Iterator[None]:
    """Yield the shipped example under `celery worker`, ended by SIGTERM (Celery's warm shutdown)."""
    command = [
        *(f"{BIN}/celery", "--workdir", f"{EXAMPLES}/celery", "--app", "tasks", "--config", "settings_of_test"),
        *("worker", "--pool", "prefork", "--concurrency", "2", "--loglevel", "INFO"),
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
    ]
    told = told | {"PYTHONPATH": str(folder), "C_FORCE_ROOT": "1"}
    process = subprocess.Popen(command, env=told, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines: list[str] = []
    ready = threading.Event()

    def read() -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                lines.append(line)
                if " ready." in line:
                    ready.set()
        ready.set()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert ready.wait(60)
        assert process.poll() is None, "".join(lines)
        yield
        process.terminate()
        assert process.wait(30) == 0, "".join(lines)
    finally:
        process.kill()
        process.wait()
        reader.join()
    assert "Traceback" not in "".join(lines), "".join(lines)


def test_a_celery_worker(mock_bootstrap: str, stream_name: str, queue: Celery, tmp_path: Path) -> None:
    with worker(tmp_path, environment(mock_bootstrap, stream_name)):
        sent = [queue.send_task("tasks.predict", [{"amount": float(n), "country": "CH"}]) for n in range(TASKS)]
        answers = {task.id: task.get(timeout=60, interval=0.05) for task in sent}
    assert [answers[task.id]["probability"] for task in sent] == sorted(a["probability"] for a in answers.values())
    found = {record["request_id"]: record for record in captures(mock_bootstrap, stream_name)}
    assert {identifier: record["prediction"]["value"] for identifier, record in found.items()} == {
        identifier: answer["probability"] for identifier, answer in answers.items()
    }
    # Children started and ended, each with its own client and account, and each drained.
    children = Counter(answer["worker"] for answer in answers.values())
    assert len(children) >= TASKS // TASKS_A_CHILD
    closing = [report for report in records(mock_bootstrap, stream_name, "producers") if report["closed"]]
    assert {report["pid"]: report["delivered"] for report in closing} == children


def test_a_celery_worker_without_kafka(stream_name: str, queue: Celery, tmp_path: Path) -> None:
    with worker(tmp_path, environment("127.0.0.1:1", stream_name)):
        sent = [queue.send_task("tasks.predict", [{"amount": 120.0, "country": None}]) for _ in range(TASKS_A_CHILD)]
        assert [task.get(timeout=60, interval=0.05)["probability"] for task in sent] == [0.5] * TASKS_A_CHILD


def loop(lines: list[dict[str, Any]], told: dict[str, str]) -> list[dict[str, Any]]:
    """Run the loop to its end; return its answers."""
    done = subprocess.run(
        [sys.executable, "-W", "error", f"{EXAMPLES}/loop/score.py"],
        input="".join(json.dumps(line) + "\n" for line in lines),
        env=told,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_plain_loop(mock_bootstrap: str, stream_name: str) -> None:
    lines: list[dict[str, Any]] = [{"id": f"p{number}", "amount": number} for number in range(200)]
    lines[7]["fraud"] = True
    answers = loop(lines, environment(mock_bootstrap, stream_name))
    found = {record["request_id"]: record for record in captures(mock_bootstrap, stream_name)}
    assert {identifier: round(record["prediction"]["value"], 4) for identifier, record in found.items()} == {
        answer["id"]: answer["probability"] for answer in answers
    }
    assert len(answers) == 200
    (label,) = records(mock_bootstrap, stream_name, "labels")
    assert (label["request_id"], label["value"], label["label"]) == ("p7", 1.0, "review")


def test_a_plain_loop_without_kafka_ends_in_time(stream_name: str) -> None:
    started = time.monotonic()
    answers = loop([{"id": "p", "amount": 120}] * 20, environment("127.0.0.1:1", stream_name))
    assert [answer["probability"] for answer in answers] == [0.5] * 20
    assert time.monotonic() - started < 20  # the interpreter's start on a loaded machine, then 2 s
