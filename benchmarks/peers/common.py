"""Common parts of the peers: the arguments, the schemas, the model. Imports nothing of Gnomon."""

import argparse
import io
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import onnxruntime

HEADER = 10  # bytes of Avro single-object encoding before a body


@dataclass(frozen=True)
class Job:
    """One run: topics to read and write, and the folder that `workload.write` filled."""

    bootstrap: str
    source: str
    target: str
    group: str
    folder: Path
    database: str
    batch: int


def job() -> Job:
    """Parse the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--source", required=True)
    parser.add_argument("--target", default="")
    parser.add_argument("--group", required=True)
    parser.add_argument("--folder", required=True, type=Path)
    parser.add_argument("--database", default="")
    parser.add_argument("--batch", type=int, default=1)
    return Job(**vars(parser.parse_args()))


def subscribed(run: Job, settings: dict[str, Any], *topics: str) -> Any:
    """Return a confluent-kafka consumer of topics from their beginning, with fast fetches."""
    from confluent_kafka import Consumer  # only used by some: memory is measured

    consumer = Consumer(
        {
            "bootstrap.servers": run.bootstrap,
            "group.id": run.group,
            "auto.offset.reset": "earliest",
            "fetch.queue.backoff.ms": 5,
            **settings,
        }
    )
    consumer.subscribe(list(topics))
    return consumer


class Codec:
    """The two records, parsed once, as fastavro's documentation recommends."""

    def __init__(self, folder: Path) -> None:
        self.live = fastavro.parse_schema(json.loads((folder / "live.avsc").read_text()))
        self.shadow = fastavro.parse_schema(json.loads((folder / "shadow.avsc").read_text()))
        self._header = bytes.fromhex((folder / "shadow.header").read_text())

    def decode(self, message: bytes) -> dict[str, Any]:
        """Return a capture."""
        record: Any = fastavro.schemaless_reader(io.BytesIO(message[HEADER:]), self.live, None)
        return record  # type: ignore[no-any-return]

    def decode_shadow(self, message: bytes) -> dict[str, Any]:
        """Return an outcome."""
        record: Any = fastavro.schemaless_reader(io.BytesIO(message[HEADER:]), self.shadow, None)
        return record  # type: ignore[no-any-return]

    def encode(self, capture: dict[str, Any], partition: int, offset: int, value: float, batch: int) -> bytes:
        """Return the framed ShadowPrediction of one capture."""
        out = io.BytesIO(self._header)
        out.seek(len(self._header))
        record = {
            "source_partition": partition,
            "source_offset": offset,
            "request_id": capture["request_id"],
            "window_id": "00000000-0000-0000-0000-000000000000",
            "stratum": None,
            "rank": 0,
            "inclusion_probability": 1.0,
            "model": {"name": "trees", "version": "1", "sha256": ""},
            "prediction": {"value": value, "label": None, "scores": None, "items": None},
            "error": None,
            "latency_us": None,
            "batch_size": batch,
            "queued_us": None,
            "scored_at": time.time_ns() // 1000,
            "feature_state": None,
        }
        fastavro.schemaless_writer(out, self.shadow, record)
        return out.getvalue()


class Model:
    """The trees, on one thread, as Gnomon runs them."""

    def __init__(self, folder: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(folder / "trees.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name
        self._output = self._session.get_outputs()[0].name
        self._names = json.loads((folder / "numeric.json").read_text())

    def __call__(self, captures: list[dict[str, Any]]) -> list[float]:
        """Score captures in one call."""
        names = self._names
        matrix = np.array([[capture["features"][name] for name in names] for capture in captures], dtype=np.float32)
        (values,) = self._session.run([self._output], {self._input: matrix})
        scored: list[float] = values.reshape(-1).tolist()
        return scored


class Scoring:
    """Decode, score and encode, one capture or many at a time."""

    def __init__(self, folder: Path) -> None:
        self.codec = Codec(folder)
        self.model = Model(folder)

    def one(self, message: bytes, partition: int, offset: int) -> bytes:
        """Return the outcome of one message."""
        return self.many([(message, partition, offset)])[0]

    def many(self, messages: list[tuple[bytes, int, int]]) -> list[bytes]:
        """Return the outcomes of messages with their partitions and offsets."""
        captures = [self.codec.decode(message) for message, _, _ in messages]
        values = self.model(captures)
        return [
            self.codec.encode(capture, partition, offset, value, len(messages))
            for capture, value, (_, partition, offset) in zip(captures, values, messages, strict=True)
        ]
