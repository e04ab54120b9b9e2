"""The work that is measured: captures of 20 numbers and 5 categories, a hundred trees, topics filled beforehand."""

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.harness.brokers import MOCKS
from gnomon_schemas.columnar import ColumnarCodec
from gnomon_schemas.features import FeatureSchema
from gnomon_schemas.schema import record_schema, without_logical_types

PARTITIONS = 4
CATEGORIES = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta")
EPOCH_US = 1_700_000_000_000_000


def features(numeric: int = 20, textual: int = 5) -> FeatureSchema:
    """Return the feature record: `numeric` doubles and `textual` strings."""
    return FeatureSchema.of(
        {f"number_{at}": "double" for at in range(numeric)} | {f"category_{at}": "string" for at in range(textual)}
    )


def batch(schema: FeatureSchema, columns_of: pa.Schema, rows: int, first: int = 0) -> pa.RecordBatch:
    """Return captures as columns of `columns_of`; a fixed seed, event times a millisecond apart."""
    random = np.random.default_rng(first)
    arrays = [
        pa.array(random.normal(size=rows)) if feature.numeric else pa.array(random.choice(CATEGORIES, size=rows))
        for feature in schema.features
    ]
    at = np.arange(first, first + rows)
    columns: dict[str, Any] = {
        "producer_id": pa.array([str(uuid.UUID(int=7))] * rows),
        "sequence": pa.array(at),
        "captured_at": pa.array(EPOCH_US + at * 1000),
        "request_id": pa.array([f"request-{number:08d}" for number in at]),
        "capture_probability": pa.array(np.ones(rows)),
        "segments": pa.array([[]] * rows, pa.map_(pa.string(), pa.string())),
        "model": pa.array([{"name": "live", "version": "1"}] * rows),
        "features": pa.StructArray.from_arrays(arrays, names=[feature.name for feature in schema.features]),
        "prediction": pa.array(
            [{"value": float(value), "label": None, "scores": None, "items": None} for value in random.random(rows)],
            columns_of.field("prediction").type,
        ),
        "latency_us": pa.array(random.integers(100, 1000, rows)),
    }
    return pa.RecordBatch.from_arrays(
        [columns.get(field.name, pa.nulls(rows, field.type)) for field in columns_of], names=columns_of.names
    )


def captures(schema: FeatureSchema, rows: int) -> Iterator[tuple[str, bytes]]:
    """Yield request ids and framed captures."""
    step = 10_000
    codec = ColumnarCodec(schema.live)
    for first in range(0, rows, step):
        columns = batch(schema, codec.columns, min(step, rows - first), first)
        yield from zip(columns.column("request_id").to_pylist(), codec.encode(columns), strict=True)


def write(folder: Path, schema: FeatureSchema) -> None:
    """Write the peers' files into a folder: schemas as plain Avro, the model, the order of its inputs."""
    shadow = record_schema("ShadowPrediction")
    # Without logical types the peers need not create a datetime for each field.
    (folder / "live.avsc").write_text(json.dumps(without_logical_types(schema.live.json)))
    (folder / "shadow.avsc").write_text(json.dumps(without_logical_types(shadow.json)))
    (folder / "shadow.header").write_text(shadow.fingerprint.header.hex())
    names = [feature.name for feature in schema.features if feature.numeric]
    (folder / "numeric.json").write_text(json.dumps(names))
    (folder / "features.avsc").write_text(json.dumps(schema.record))
    # Training in a separate process, so that scikit-learn's threads and memory are not measured.
    subprocess.run([sys.executable, "-m", "benchmarks.harness.trees", str(folder), str(len(names))], check=True)


def create(bootstrap: str, *topics: str, partitions: int = PARTITIONS, config: dict[str, str] | None = None) -> None:
    """Create topics; the mock has no admin API, but it is in this process."""
    if bootstrap in MOCKS:
        for topic in topics:
            MOCKS[bootstrap].create(topic, partitions)
        return
    admin = AdminClient({"bootstrap.servers": bootstrap})
    made = admin.create_topics([NewTopic(topic, partitions, 1, config=config or {}) for topic in topics])
    for future in made.values():
        future.result(30)


def fill(bootstrap: str, topic: str, schema: FeatureSchema, rows: int, partitions: int = PARTITIONS) -> None:
    """Write captures to a topic, spread over its partitions, and wait for their delivery."""
    producer = Producer(
        {"bootstrap.servers": bootstrap, "linger.ms": 20, "batch.num.messages": 2000, "compression.type": "lz4"}
    )
    for number, (request_id, message) in enumerate(captures(schema, rows)):
        while True:
            try:
                producer.produce(topic, message, request_id, partition=number // 100 % partitions)
                break
            except BufferError:
                producer.poll(0.05)
    if producer.flush(60):
        raise RuntimeError(f"{topic} could not be filled")


def publish_schema(bootstrap: str, topic: str, schema: FeatureSchema) -> None:
    """Write the captures' schema to a stream's topic of schemas, as the hook does."""
    create(bootstrap, topic, partitions=1, config={"cleanup.policy": "compact"})
    producer = Producer({"bootstrap.servers": bootstrap})
    producer.produce(topic, schema.live.text, str(schema.live.fingerprint), partition=0)
    if producer.flush(30):
        raise RuntimeError(f"{topic} does not take the schema")


def high_watermarks(consumer: Consumer, topic: str, partitions: int = PARTITIONS) -> int:
    """Return how many offsets a topic has."""
    try:
        return sum(
            consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=5)[1]
            for partition in range(partitions)
        )
    except KafkaException:  # a new topic has no leader for a moment
        return 0
