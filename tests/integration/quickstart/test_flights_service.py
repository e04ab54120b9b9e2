"""The flights' live service publishes the real events in simulated order, and no faster than allowed."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Consumer, TopicPartition

from gnomon_consumer.quickstart.demo import flights, training
from gnomon_consumer.quickstart.demo.flights import FEATURES, FEATURES_FILE, Flights
from gnomon_consumer.quickstart.demo.folder import STREAM
from gnomon_consumer.quickstart.demo.service import timeline
from gnomon_consumer.quickstart.embedded.start import PARTITIONS
from gnomon_schemas.codec import Reader
from gnomon_schemas.features import FeatureSchema
from gnomon_schemas.store import MemorySchemas, packaged_schemas
from gnomon_schemas.topics import Topics

CAPTURES = 3000
TOPICS = Topics(STREAM)


@pytest.fixture(scope="module")
def split() -> tuple[Flights, Flights]:
    return flights.load()


@pytest.fixture(scope="module")
def model(split: tuple[Flights, Flights], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training.train(split[0])[0].write(tmp_path_factory.mktemp("models"))


@contextlib.contextmanager
def service(bootstrap: str, model: Path, captures: int, *options: str) -> "Iterator[subprocess.Popen[str]]":
    command = [sys.executable, "-m", "gnomon_consumer.quickstart.demo.service", "--bootstrap-servers", bootstrap]
    process = subprocess.Popen(
        [*command, "--model", str(model), "--captures", str(captures), *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        with process:
            yield process
    finally:
        process.kill()


def read(bootstrap: str, topics: list[str], count: int) -> list[dict[str, Any]]:
    """Return the decoded messages of the topics, which must be exactly so many."""
    reader = Reader(MemorySchemas([*packaged_schemas(), FeatureSchema.of(FEATURES_FILE).live]))
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "test", "auto.offset.reset": "error"})
    consumer.assign([TopicPartition(topic, partition, 0) for topic in topics for partition in range(PARTITIONS)])
    found: list[dict[str, Any]] = []
    with contextlib.closing(consumer):
        while len(found) < count:
            messages = consumer.consume(count - len(found), timeout=20)
            assert messages, f"{topics}: {len(found)} of {count}"
            found += [reader.decode(message.value()).record for message in messages if not message.error()]
        assert not consumer.consume(1, timeout=0.5)
    return found


def test_timeline_tells_each_request_and_each_outcome_once_and_no_outcome_early(
    split: tuple[Flights, Flights],
) -> None:
    replay = split[1]
    times, events = timeline(replay)
    assert (np.diff(times) >= 0).all()
    requests, outcomes = events[events >= 0], -1 - events[events < 0]
    np.testing.assert_array_equal(requests, np.arange(len(replay)))
    np.testing.assert_array_equal(np.sort(outcomes), np.flatnonzero(~np.isnan(replay.late)))
    np.testing.assert_array_equal(times[events >= 0], replay.captured_at)
    np.testing.assert_array_equal(times[events < 0], replay.observed_at[outcomes])


def test_what_the_service_publishes_is_what_happened(
    split: tuple[Flights, Flights], model: Path, mock_bootstrap: str
) -> None:
    replay = split[1].select(slice(0, CAPTURES))
    labelled = np.flatnonzero(~np.isnan(replay.late))
    with service(mock_bootstrap, model, CAPTURES) as process:
        output, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")
    assert f"captured={CAPTURES} labels={len(labelled)} " in output

    live = {record["request_id"]: record for record in read(mock_bootstrap, [TOPICS.live], CAPTURES)}
    labels = {record["request_id"]: record for record in read(mock_bootstrap, [TOPICS.labels], len(labelled))}
    assert set(live) == set(replay.request_id)
    assert set(labels) == set(replay.request_id[labelled])
    assert sorted(record["sequence"] for record in live.values()) == list(range(CAPTURES))
    expected = training.train(split[0])[0].pipeline.predict_proba(replay.features)[:, 1]
    for row, request_id in enumerate(replay.request_id):
        record = live[request_id]
        assert record["captured_at"] == replay.captured_at[row]
        assert record["stratum"] == record["features"]["origin"] == record["segments"]["origin"]
        assert record["cluster"] == replay.tail_number[row]
        assert record["prediction"]["value"] == pytest.approx(expected[row], abs=1e-6)
        assert record["prediction"]["label"] == ("late" if expected[row] >= training.THRESHOLD else "on_time")
        assert 0 < record["latency_us"] < 10_000_000
        for name in FEATURES:
            truth = replay.features[name][row]
            assert record["features"][name] == (None if truth != truth else truth)
    for row in labelled.tolist():
        record = labels[replay.request_id[row]]
        assert record["label"] == ("late" if replay.late[row] else "on_time")
        assert (record["occurred_at"], record["observed_at"]) == (replay.landed_at[row], replay.observed_at[row])


def test_paced_it_goes_as_far_as_it_may_and_ends_with_its_input(model: Path, mock_bootstrap: str) -> None:
    with service(mock_bootstrap, model, CAPTURES, "--paced") as process:
        assert process.stdin is not None
        process.stdin.write("1024\n")
        process.stdin.flush()
        assert len(read(mock_bootstrap, [TOPICS.live, TOPICS.labels], 1024)) == 1024
        output, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert errors == "flights service: the process that paced the live service has ended\n"
    reports = [json.loads(line) for line in output.splitlines()]
    assert not any(report.get("done") for report in reports)
    # It asks once for each block, before the block begins.
    assert all(report["captured"] + report["labels"] <= 1024 for report in reports)


def test_a_model_file_that_is_none_is_one_line_and_status_2(tmp_path: Path) -> None:
    broken = tmp_path / "model.onnx"
    broken.write_bytes(b"no model")
    with service("localhost:1", broken, 10) as process:
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    assert errors.startswith(f"flights service: --model {broken}: ")
    assert errors.count("\n") == 1
