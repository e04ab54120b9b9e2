"""The examples as real servers under real requests: answers right, captures delivered, with and without Kafka."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct
from tests.support.tap import captures, raw_messages, records

EXAMPLES = Path(__file__).parents[3] / "examples"
BIN = Path(sys.executable).parent
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

COMMANDS = {
    "fastapi": [f"{BIN}/uvicorn", "--app-dir", f"{EXAMPLES}/fastapi", "--port", "0", "app:app"],
    "flask": [
        f"{BIN}/gunicorn",
        *("--preload", "--workers", "2", "--bind", "127.0.0.1:0", "--no-control-socket"),
        *("--chdir", f"{EXAMPLES}/flask", "app:app"),
    ],
    "grpc": [sys.executable, f"{EXAMPLES}/grpc/server.py", "0"],
}
LISTENING = re.compile(r"(?:http://127\.0\.0\.1:|serving on )(\d+)")


@contextlib.contextmanager
def serving(example: str, bootstrap: str, stream: str) -> Iterator[int]:
    """Yield an example's server; it must end after SIGTERM, without an error and in time."""
    environment = os.environ | {
        "GNOMON_STREAM": stream,
        "GNOMON_MODEL": "fraud:7",
        "GNOMON_BOOTSTRAP_SERVERS": bootstrap,
        "PYTHONUNBUFFERED": "1",
    }
    process = subprocess.Popen(
        COMMANDS[example], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    lines: list[str] = []
    port: list[int] = []
    listening = threading.Event()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if not port and (found := LISTENING.search(line)):
                port.append(int(found[1]))
                listening.set()
        listening.set()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert listening.wait(90), "".join(lines)
        assert port, "".join(lines)
        yield port[0]
        started = time.monotonic()
        process.terminate()
        process.wait(20)
        assert time.monotonic() - started < 15
        assert process.returncode in (0, -signal.SIGTERM), "".join(lines)
        assert "Traceback" not in "".join(lines), "".join(lines)
    finally:
        process.kill()
        process.wait()
        reader.join()
        if process.stdout is not None:
            process.stdout.close()


def post(port: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> dict[str, Any]:
    """Send one HTTP request, as a client without any knowledge of the hook."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/predict",
        json.dumps(body).encode(),
        {"content-type": "application/json", **(headers or {})},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        answer: dict[str, Any] = json.load(response)
        return answer


@pytest.mark.parametrize("example", ["fastapi", "flask"])
def test_http_services(example: str, mock_bootstrap: str, stream_name: str) -> None:
    with serving(example, mock_bootstrap, stream_name) as port, ThreadPoolExecutor(8) as clients:
        answers = list(
            clients.map(
                lambda number: post(
                    port, {"amount": number, "country": "CH"}, {"X-Request-Id": f"r{number}", "traceparent": TRACE}
                ),
                range(200),
            )
        )
    assert answers[0]["probability"] == 0.0474
    assert answers[120]["probability"] == 0.5
    found = {record["request_id"]: record for record in captures(mock_bootstrap, stream_name)}
    assert set(found) == {f"r{number}" for number in range(200)}
    for number, answer in enumerate(answers):
        record = found[f"r{number}"]
        assert record["features"] == {"amount": float(number), "country": "CH"}
        assert round(record["prediction"]["value"], 4) == answer["probability"]
    for message in raw_messages(mock_bootstrap, f"gnomon.{stream_name}.live"):
        assert message.headers == [("traceparent", TRACE.encode())]
    last = {}
    for report in sorted(records(mock_bootstrap, stream_name, "producers"), key=lambda report: report["reported_at"]):
        last[report["producer_id"]] = report
    workers = len({answer.get("worker") for answer in answers})
    assert len(last) == workers
    assert all(report["closed"] for report in last.values())
    assert sum(report["delivered"] for report in last.values()) == 200


def test_a_grpc_service(mock_bootstrap: str, stream_name: str) -> None:
    with serving("grpc", mock_bootstrap, stream_name) as port, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(
            "/payments.Fraud/Predict",
            request_serializer=Struct.SerializeToString,
            response_deserializer=Struct.FromString,
        )
        for number in range(50):
            request = Struct()
            request.update({"amount": float(number)})
            answer = call(request, metadata=(("x-request-id", f"r{number}"),), timeout=10)
            assert 0 < answer["probability"] < 1
    found = captures(mock_bootstrap, stream_name)
    assert {record["request_id"] for record in found} == {f"r{number}" for number in range(50)}


@pytest.mark.parametrize("example", ["fastapi", "flask"])
def test_a_service_without_kafka_answers_all_the_same(example: str, stream_name: str) -> None:
    with serving(example, "127.0.0.1:1", stream_name) as port:
        started = time.monotonic()
        for number in range(50):
            assert post(port, {"amount": number})["probability"] > 0
        assert time.monotonic() - started < 15


@pytest.mark.parametrize("example", ["fastapi", "flask"])
def test_a_service_whose_hook_is_misconfigured_answers_all_the_same(example: str) -> None:
    with serving(example, "127.0.0.1:1", "not.a.stream") as port:
        assert post(port, {"amount": 120})["probability"] == 0.5
