"""Messages near a size limit of the broker, a topic or a client: only that row fails; the stream continues."""

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from onnx import TensorProto, helper, numpy_helper
from tests.support.joined_database import wait_until
from tests.support.live_stream import Stream, audit, outcomes, read_all, save, scalar, status, sum_model, write_sidecar
from tests.support.servers.process import Gnomon
from tests.support.tap import GOOD, make_tap

from gnomon_consumer.kafka.sizes import fitted

HEADERS: list[tuple[str, str | bytes | None]] = [("stage", "score"), ("source.offset", "17")]


@pytest.mark.parametrize(("key", "value"), [(0, 0), (10, 100), (10, 900), (10, 10_000), (2_000, 0), (5_000, 5_000)])
def test_of_a_dead_letter_the_address_stays_and_as_many_bytes_as_fit(key: int, value: int) -> None:
    cut_key, cut_value, headers = fitted(1_000, b"k" * key, b"v" * value, HEADERS)
    assert headers[:2] == HEADERS
    size = len(cut_key) + len(cut_value or b"") + sum(len(name) + len(text or b"") for name, text in headers)
    assert size <= 900
    if key + value <= 500:
        assert (cut_key, cut_value, headers) == (b"k" * key, b"v" * value, HEADERS)
    if key + value > 1_000:
        assert size >= 500, "cut no shorter than needed"
        assert dict(headers[2:]).items() <= {"key.size": str(key), "value.size": str(value)}.items()


def scores_model(path: Path, width: int) -> Path:
    """Return a model with one score for each of `width` items of every capture."""
    write_sidecar(path, task="ranking")
    return save(
        path,
        [helper.make_node("MatMul", ["amount", "factors"], ["scores"])],
        [scalar("amount")],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, width])],
        [numpy_helper.from_array(np.ones((1, width), np.float32), "factors")],
    )


class Sized:
    """A stream with one partition whose messages have the sizes that a test needs."""

    def __init__(self, gnomon: Gnomon, bootstrap: str, stream: str) -> None:
        self.gnomon, self.bootstrap, self.stream = gnomon, bootstrap, stream
        self.where = ("--stream", stream, "--bootstrap-servers", bootstrap)
        create = ("topics", "create", "--partitions", "1", "--deployment", "boost")
        assert gnomon.enter(*create, *self.where).returncode == 0
        self.live = Stream(bootstrap, stream)
        self.live.publish_schema()
        self.producer = Producer({"bootstrap.servers": bootstrap, "message.max.bytes": 1_040_000})

    def run(self, *arguments: str, status: int = 0) -> str:
        done = self.gnomon.run(*arguments, *self.where, timeout=120)
        assert done.returncode == status, done.stderr
        return done.stderr

    def limit(self, topic: str, limit: int) -> None:
        entry = ConfigEntry("max.message.bytes", str(limit), incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        admin.incremental_alter_configs([resource])[resource].result()

    def put(self, key: bytes, value: bytes) -> None:
        self.producer.produce(self.live.live, value, key, partition=0)
        assert self.producer.flush(60) == 0

    def scored(self, model: Path, *options: str) -> dict[int, dict[str, Any]]:
        """Return outcomes by offset, after the shipped command has read to the end of the log."""
        self.run(
            "score", "--deployment", "boost", "--model", str(model), "--no-sampling", "--exit-when-idle=1", *options
        )
        return {offset: row for (_, offset), row in outcomes(audit(self.bootstrap, self.stream, "boost")).items()}

    def dead_letters(self) -> list[Any]:
        return read_all(self.bootstrap, f"gnomon.{self.stream}.dlq")[0]


@pytest.fixture
def sized(gnomon: Gnomon, kafka_bootstrap: str, stream_name: str) -> Sized:
    return Sized(gnomon, kafka_bootstrap, stream_name)


def test_live_messages_at_the_default_limits_never_stop_the_stream(sized: Sized, tmp_path: Path) -> None:
    capture = sized.live.capture("r")
    sized.put(b"garbage", os.urandom(1_000_202))
    sized.put(b"almost", b"\xc3\x01" + os.urandom(1_039_800))
    sized.put(os.urandom(600_000), capture)  # a key that is not the request id, larger than half a message
    sized.put(b"r", capture)
    big = "x" * 510_000
    sized.put(big.encode(), sized.live.capture(big))  # both key and request id: twice in its outcome
    sized.put(b"long", sized.live.capture("long", country="y" * 900_000))
    found = sized.scored(sum_model(tmp_path / "sum.onnx", "amount"))
    assert [status(found[offset]) for offset in range(6)] == [*["dead_lettered"] * 3, *["scored"] * 3]
    letters = sized.dead_letters()
    assert [dict(letter.headers())["source.offset"] for letter in letters] == [b"0", b"1", b"2"]
    assert dict(letters[0].headers()).get("value.size", b"1000202") == b"1000202"


def test_outcomes_and_dead_letters_keep_to_the_limits_of_small_topics(sized: Sized, tmp_path: Path) -> None:
    for topic in (f"gnomon.{sized.stream}.shadow.boost", f"gnomon.{sized.stream}.dlq"):
        sized.limit(topic, 50_000)
    sized.put(b"garbage", os.urandom(80_000))
    sized.put(b"r", sized.live.capture("r"))
    long = "x" * 30_000  # its outcome contains it twice
    sized.put(long.encode(), sized.live.capture(long))
    found = sized.scored(scores_model(tmp_path / "scores.onnx", 10_000))
    assert [status(found[offset]) for offset in range(3)] == ["dead_lettered", "failed", "failed"]
    assert "bytes, the topics accept 50000" in found[1]["error"]["message"]
    assert found[2]["request_id"] == "x" * 12_500
    (letter,) = sized.dead_letters()
    headers = dict(letter.headers())
    assert (headers["source.offset"], headers["value.size"]) == (b"0", b"80000")
    assert 40_000 < len(letter.value()) < 50_000


def test_an_outcome_that_is_too_large_fails_and_those_beside_it_are_scored(sized: Sized, tmp_path: Path) -> None:
    """130,900 scores fill a message up to the last few bytes; a long request id no longer fits."""
    for request_id in ("a", "b" * 1500, "c"):
        sized.put(request_id.encode(), sized.live.capture(request_id))
    found = sized.scored(scores_model(tmp_path / "scores.onnx", 130_900), "--warm-up", "4")
    assert [status(found[offset]) for offset in range(3)] == ["scored", "failed", "scored"], [
        r["error"] for r in found.values()
    ]
    assert found[1]["error"]["kind"] == "model_error"
    assert "bytes, over the limit of 1048576" in found[1]["error"]["message"]


@pytest.mark.parametrize("limit", [70_000, 65_536, 20_000])
def test_the_hooks_batches_keep_to_the_limit_of_a_small_topic(
    sized: Sized, limit: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Each capture is small; together, in one batch of librdkafka's own size, they would all be refused."""
    sized.limit(sized.live.live, limit)
    tap = make_tap(sized.bootstrap, sized.stream, properties={"compression.type": "none", "linger.ms": 500})
    assert tap.start()
    if limit < 65_536:
        wait_until(lambda: "batches are kept below it" in caplog.text)
    for number in range(400):
        tap.record(f"r{number}", GOOD | {"country": "x" * 1000}, value=1.0)
    assert tap.flush(60)
    stats = tap.stats()
    assert tap.close()
    assert (stats.offered, stats.delivered, stats.dropped) == (400, 400, {})


def test_a_hook_whose_producer_was_replaced_delivers_what_the_first_one_held(sized: Sized) -> None:
    sized.limit(sized.live.live, 20_000)
    tap = make_tap(sized.bootstrap, sized.stream, properties={"linger.ms": 3000})
    for number in range(100):
        tap.record(f"r{number}", GOOD, value=1.0)
        threading.Event().wait(0.02)
    assert tap.close(60)
    stats = tap.stats()
    assert (stats.offered, stats.delivered, stats.dropped) == (100, 100, {})


@pytest.mark.parametrize("topic", ["shadow.boost", "dlq"])
def test_a_topic_that_takes_no_outcome_ends_the_scorer_with_the_settings_name(
    sized: Sized, tmp_path: Path, topic: str
) -> None:
    """Waiting does not help: it would retry forever."""
    sized.limit(f"gnomon.{sized.stream}.{topic}", 2_000)
    sized.put(b"r", sized.live.capture("r"))
    model = sum_model(tmp_path / "sum.onnx", "amount")
    said = sized.run(
        "score", "--deployment", "boost", "--model", str(model), "--no-sampling", "--exit-when-idle=1", status=2
    )
    assert f"gnomon.{sized.stream}.{topic} accepts messages of 2000 bytes at most" in said
    assert "max.message.bytes" in said
