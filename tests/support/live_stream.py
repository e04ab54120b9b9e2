"""Helpers of the scorer's tests: small models, captures, and a reader that audits a shadow log."""

import json
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx
from confluent_kafka import Consumer, Producer, TopicPartition
from onnx import TensorProto, helper

from gnomon_consumer.kafka import log_reading
from gnomon_schemas.codec import Codec, Reader, Record
from gnomon_schemas.features import FeatureSchema
from gnomon_schemas.store import packaged_schemas

FEATURES = FeatureSchema.of({"amount": "double", "age": ["null", "double"], "visits": "int", "country": "string"})
OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]


def save(
    path: Path,
    nodes: list[Any],
    inputs: list[Any],
    outputs: list[Any],
    initializers: Sequence[Any] = (),
    **metadata: str,
) -> Path:
    """Write an ONNX model of these nodes."""
    graph = helper.make_graph(nodes, "model", inputs, outputs, list(initializers))
    model = helper.make_model(graph, opset_imports=OPSETS, ir_version=9)
    if metadata:
        helper.set_model_props(model, metadata)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def scalar(name: str, kind: int = TensorProto.FLOAT) -> Any:
    """Return inputs for single features: [rows, 1]."""
    return helper.make_tensor_value_info(name, kind, [None, 1])


def sum_model(path: Path, *features: str) -> Path:
    """Return a model with value = the sum of its features."""
    names = features or ("amount", "visits_")
    return save(
        path,
        [helper.make_node("Sum", list(names), ["value"])],
        [scalar(name) for name in names],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, [None, 1])],
    )


def endless_model(path: Path, threshold: float) -> Path:
    """Return a model with value = amount, but with a Loop that practically never ends if amount exceeds `threshold`."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["going_on"]),
            helper.make_node("Add", ["held", "one"], ["grown"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("held", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("going_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("grown", TensorProto.FLOAT, []),
        ],
        [helper.make_tensor("one", TensorProto.FLOAT, [], [1.0])],
    )
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMax", ["amount"], ["largest"], keepdims=0),
            helper.make_node("Greater", ["largest", "limit"], ["hangs"]),
            helper.make_node("Loop", ["turns", "hangs", "zero"], ["spun"], body=body),
            helper.make_node("Mul", ["spun", "zero"], ["nothing"]),
            helper.make_node("Add", ["amount", "nothing"], ["value"]),
        ],
        "model",
        [scalar("amount")],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, [None, 1])],
        [
            helper.make_tensor("limit", TensorProto.FLOAT, [], [threshold]),
            helper.make_tensor("turns", TensorProto.INT64, [], [2**62]),
            helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]),
        ],
    )
    model = helper.make_model(graph, opset_imports=OPSETS, ir_version=9)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


DEFAULTS = {"amount": 1.0, "age": None, "visits": 3, "country": "NZ"}


@dataclass
class Stream:
    """A small live service: publishes the schema and produces captures, and records every id."""

    bootstrap: str
    name: str
    features: FeatureSchema = FEATURES
    sent: dict[tuple[int, int], str] = field(default_factory=dict)  # (partition, offset) -> request id
    model: tuple[str, str] = ("live", "1")

    def __post_init__(self) -> None:
        self.codec = Codec(self.features.live)
        self.producer_id = str(uuid.uuid4())
        self.sequence = 0

    @cached_property
    def producer(self) -> Producer:
        """Create the producer on first use, because some tests only need captures.

        librdkafka logs each lost connection; where brokers are killed on purpose, that hides the tests' own lines.
        """
        return Producer(
            {"bootstrap.servers": self.bootstrap, "linger.ms": 5, "enable.idempotence": True, "log_level": 2}
        )

    @property
    def live(self) -> str:
        """Return the live topic."""
        return f"gnomon.{self.name}.live"

    def publish_schema(self) -> None:
        """Publish the composed schema where readers look for it."""
        schema = self.features.live
        self.producer.produce(f"gnomon.{self.name}.schemas", schema.text.encode(), str(schema.fingerprint).encode(), 0)
        assert self.producer.flush(60) == 0

    def capture(self, request_id: str, **features: Any) -> bytes:
        """Return one framed LivePrediction."""
        self.sequence += 1
        known = {field["name"] for field in self.features.record["fields"]}
        record = {
            "producer_id": self.producer_id,
            "sequence": self.sequence,
            "captured_at": time.time_ns() // 1000,
            "request_id": request_id,
            "capture_probability": 1.0,
            "stratum": None,
            "segments": {},
            "cluster": None,
            "model": dict(zip(("name", "version"), self.model, strict=True)),
            "features": {name: value for name, value in DEFAULTS.items() if name in known} | features,
            "prediction": {"value": 0.5, "label": None, "scores": None, "items": None},
            "error": None,
            "latency_us": 100,
            "feature_state": None,
        }
        return self.codec.encode(record)

    def send(
        self,
        count: int,
        *,
        features: Callable[[int], Mapping[str, Any]] = lambda _: {},
        partition: Callable[[int], int] | None = None,
        stratum: Callable[[int], str] | None = None,
        values: Mapping[int, bytes] | None = None,
        timestamp: int = 0,
    ) -> None:
        """Produce `count` captures; `values` replaces single messages by raw bytes; `timestamp` in ms, 0 for now."""
        for index in range(count):
            request_id = uuid.uuid4().hex
            value = (values or {}).get(index) or self.capture(request_id, **features(index))
            place: dict[str, Any] = {} if partition is None else {"partition": partition(index)}
            place |= {"timestamp": timestamp} if timestamp else {}
            headers: list[tuple[str, str | bytes | None]] = (
                [] if stratum is None else [("stratum", stratum(index).encode())]
            )
            while True:
                try:
                    self.producer.produce(
                        self.live, value, request_id.encode(), headers=headers, on_delivery=self._note, **place
                    )
                    break
                except BufferError:
                    self.producer.poll(0.1)
            self.producer.poll(0)
        assert self.producer.flush(60) == 0

    def _note(self, error: Any, message: Any) -> None:
        assert error is None, error
        self.sent[message.partition(), message.offset()] = message.key().decode()


@dataclass
class Partition:
    """One shadow partition, audited: the windows that a joiner would apply."""

    start: Record | None = None
    windows: list[Record] = field(default_factory=list)
    outcomes: list[Record] = field(default_factory=list)


def read_all(bootstrap: str, topic: str, isolation: str = "read_committed") -> dict[int, list[Any]]:
    """Return every message of a topic, by partition."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "audit",
            "enable.auto.commit": False,
            "isolation.level": isolation,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
        }
    )
    try:
        partitions = list(consumer.list_topics(topic, timeout=10).topics[topic].partitions)
        consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        found: dict[int, list[Any]] = {partition: [] for partition in partitions}
        # Up to its current end, because a log that is being written may never be read to its end.
        ends = {p: log_reading.span(consumer, TopicPartition(topic, p), 10)[1] for p in partitions}
        ended = {partition for partition, end in ends.items() if end <= 0}
        deadline = time.monotonic() + 30
        while len(ended) < len(partitions):
            assert time.monotonic() < deadline, f"{topic} cannot be read"
            for message in consumer.consume(1000, timeout=1.0):
                partition = message.partition()
                assert partition is not None, message.error()
                if message.error() is None:
                    found[partition].append(message)
                    if (message.offset() or 0) + 1 >= ends[partition]:
                        ended.add(partition)
                else:
                    ended.add(partition)
        return found
    finally:
        consumer.close()


def audit(bootstrap: str, stream: str, deployment: str) -> dict[int, Partition]:
    """Read a shadow log as a joiner does, and check its consistency."""
    reader = Reader(packaged_schemas())
    result: dict[int, Partition] = {}
    for partition, messages in read_all(bootstrap, f"gnomon.{stream}.shadow.{deployment}").items():
        one = result[partition] = Partition()
        pending: list[Record] = []
        position = None
        for message in messages:
            name, _, record = reader.decode(message.value())
            if name.endswith("DeploymentStart"):
                assert one.start is None or record["start_offset"] == one.start["start_offset"]
                one.start = one.start or record
                position = record["start_offset"] if position is None else position
            elif name.endswith("ShadowPrediction"):
                pending.append(record)
            else:
                assert record["start_offset"] == position, (partition, record["start_offset"], position)
                position = record["end_offset"]
                # Rows of a window that was never sealed remain after a crash, and are discarded.
                rows = [row for row in pending if row["window_id"] == record["window_id"]]
                pending = []
                check_window(record, rows)
                one.windows.append(record)
                one.outcomes += rows
    return result


def check_window(window: Record, rows: list[Record]) -> None:
    """Check that the ledger of one window is closed, its rows are in order, and their probabilities are exact."""
    offsets = [row["source_offset"] for row in rows]
    assert offsets == sorted(set(offsets))
    assert all(window["start_offset"] <= offset < window["end_offset"] for offset in offsets)
    if window["gap"] is not None:
        assert (window["cells"], rows) == ([], [])
        assert window["gap"]["lost"] == window["end_offset"] - window["start_offset"]
        return
    assert sum(cell["seen"] for cell in window["cells"]) == window["end_offset"] - window["start_offset"]
    by_stratum: dict[str, list[Record]] = {}
    for row in rows:
        by_stratum.setdefault(row["stratum"] or "", []).append(row)
    for cell in window["cells"]:
        of_cell = by_stratum.pop(cell["stratum"], [])
        assert len(of_cell) == cell["sampled"]
        counted = Counter(status(row) for row in of_cell)
        assert {kind: cell[kind] for kind in ("scored", "failed", "timed_out", "dead_lettered")} == {
            kind: counted[kind] for kind in ("scored", "failed", "timed_out", "dead_lettered")
        }
        for row in of_cell:
            expected = cell["draw_probability"] * cell["sampled"] / cell["seen"]
            assert abs(row["inclusion_probability"] - expected) < 1e-12
        probe = [row for row in of_cell if row["probe_probability"] is not None]
        assert len(probe) <= cell["probed"]  # nothing is known about a row that no worker returned
        assert all(row["probe_probability"] == cell["probe_probability"] for row in probe)
        ranks = sorted(row["rank"] for row in of_cell)
        assert all(row["rank"] <= ranks[cell["probed"] - 1] for row in probe)
    assert not by_stratum


def status(row: Record) -> str:
    """Return the ledger bucket of an outcome."""
    if row["error"] is None:
        return "scored"
    return {"timeout": "timed_out", "dead_letter": "dead_lettered"}.get(row["error"]["kind"], "failed")


def covered(partitions: Mapping[int, Partition]) -> dict[int, int]:
    """Return up to where each partition is sealed."""
    return {p: one.windows[-1]["end_offset"] if one.windows else 0 for p, one in partitions.items()}


def outcomes(partitions: Mapping[int, Partition]) -> dict[tuple[int, int], Record]:
    """Return every outcome by its source coordinates; each exists once."""
    rows = [row for one in partitions.values() for row in one.outcomes]
    result = {(row["source_partition"], row["source_offset"]): row for row in rows}
    assert len(result) == len(rows)
    return result


def await_sealed(
    bootstrap: str, stream: str, deployment: str, total: int, timeout: float = 60.0
) -> dict[int, Partition]:
    """Wait until windows cover `total` captures; return the audited log."""
    deadline = time.monotonic() + timeout
    while True:
        found = audit(bootstrap, stream, deployment)
        if sum(sum(c["seen"] for w in one.windows for c in w["cells"]) for one in found.values()) >= total:
            return found
        assert time.monotonic() < deadline, f"not sealed: {covered(found)}"
        time.sleep(0.2)


def write_sidecar(model: Path, **content: Any) -> None:
    """Write a sidecar next to a model (JSON is YAML)."""
    model.with_suffix(".yaml").write_text(json.dumps(content))
