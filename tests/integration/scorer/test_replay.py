"""`gnomon replay` as a load test measures the model's real behaviour."""

import json
from pathlib import Path

import pytest
from tests.support.live_stream import Stream
from tests.support.servers.process import Gnomon

from gnomon_consumer.scorer.rehearsal.load_test import percentiles

MODEL = """
import time
def make():
    def predict(columns):
        time.sleep(0.01 * len(columns["amount"]))
        return columns["amount"]
    return predict
"""


def captured(bootstrap: str, stream: str, captures: int, model: str) -> tuple[str, ...]:
    """Fill a live topic; return where a replay finds it and its model."""
    live = Stream(bootstrap, stream)
    live.publish_schema()
    live.send(captures)
    return "--stream", stream, "--bootstrap-servers", bootstrap, "--model", model


def test_latency_throughput_and_overload(gnomon: Gnomon, mock_bootstrap: str, stream_name: str, tmp_path: Path) -> None:
    (tmp_path / "ten_ms.py").write_text(MODEL)
    where = captured(mock_bootstrap, stream_name, 200, "ten_ms:make")
    calm = gnomon.run("replay", *where, "--rate", "20", "--captures", "40", "--json")
    assert calm.returncode == 0, calm.stderr
    report = json.loads(calm.stdout)
    assert (report["requests"], report["rows"], report["failed"]) == (40, 40, 0)
    assert 10 <= report["service_ms"]["p50"] < 50
    assert report["achieved_per_second"] <= 21
    assert report["peak_rss_bytes"] > 2**20
    hurried = gnomon.run("replay", *where, "--rate", "1000", "--captures", "200", "--json")
    report = json.loads(hurried.stdout)
    assert report["requests"] == 200
    assert report["achieved_per_second"] < 101
    assert report["response_ms"]["p99"] > 1000  # the request waits in the caller's queue
    assert report["service_ms"]["p50"] < 50


ALONE = """
def make():
    calls = []
    def predict(columns):
        calls.append(len(columns["amount"]))
        if max(calls) > 1:  # for good: rows that fail together are tried again one by one
            raise RuntimeError("not alone")
        return columns["amount"]
    return predict
"""


def test_requests_of_one_row_stay_alone_however_many_are_due(
    gnomon: Gnomon, mock_bootstrap: str, stream_name: str, tmp_path: Path
) -> None:
    (tmp_path / "alone.py").write_text(ALONE)
    where = captured(mock_bootstrap, stream_name, 1500, "alone:make")
    done = gnomon.run("replay", *where, "--rate", "100000", "--captures", "1500", "--json")
    report = json.loads(done.stdout)
    assert (report["requests"], report["rows"], report["failed"], report["batch"]) == (1500, 1500, 0, 1)
    done = gnomon.run("replay", *where, "--rate", "100000", "--captures", "1500", "--batch", "7", "--json")
    report = json.loads(done.stdout)
    # The last request has the remaining two rows.
    assert (report["requests"], report["failed"]) == (215, 1500)


def test_nothing_to_replay(gnomon: Gnomon, mock_bootstrap: str, stream_name: str, tmp_path: Path) -> None:
    (tmp_path / "ten_ms.py").write_text(MODEL)
    where = ("--stream", stream_name, "--bootstrap-servers", mock_bootstrap, "--model", "ten_ms:make")
    done = gnomon.run("replay", *where, "--rate", "20")
    assert done.returncode == 2
    assert "does not exist" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], {}), ([5.0], {"p50": 5.0, "p95": 5.0, "p99": 5.0, "max": 5.0})],
)
def test_percentiles(values: list[float], expected: dict[str, float]) -> None:
    assert percentiles(values) == expected
    hundred = percentiles([float(i) for i in range(1, 101)])
    assert hundred == {"p50": 50.0, "p95": 95.0, "p99": 99.0, "max": 100.0}
