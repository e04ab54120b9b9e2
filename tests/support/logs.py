"""A live log and its shadow log as tests write them: the output of a hook and a scorer, without randomness."""

import random
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Producer

from gnomon_consumer.kafka import clients, topic_ids, topics
from gnomon_consumer.settings import load_settings
from gnomon_schemas.codec import Codec, Record
from gnomon_schemas.features import FeatureSchema
from gnomon_schemas.schema import record_schema
from gnomon_schemas.topics import Topics

START_US = 1_700_000_000_000_000
PRODUCER = str(uuid.UUID(int=7))
FEATURES = FeatureSchema.of({"amount": "double", "country": ["null", "string"], "repeat": "boolean"})

CODECS = {
    name: Codec(record_schema(name))
    for name in ("DeploymentStart", "ShadowPrediction", "SamplingWindow", "Label", "ProducerReport")
}


def capture(sequence: int, request_id: str, **changes: Any) -> Record:
    """Return a LivePrediction; `changes` overwrite fields."""
    return {
        "producer_id": PRODUCER,
        "sequence": sequence,
        "captured_at": START_US + sequence * 1_000_000,
        "request_id": request_id,
        "capture_probability": 1.0,
        "stratum": None,
        "segments": {"origin": "JFK"},
        "cluster": None,
        "model": {"name": "live", "version": "1"},
        "features": {"amount": float(sequence), "country": "CH", "repeat": sequence % 2 == 0},
        "prediction": {"value": 0.5, "label": "late", "scores": None, "items": None},
        "error": None,
        "latency_us": 800,
        "feature_state": None,
        **changes,
    }


def start(partition: int, cluster_id: str, topic_id: str | None, **changes: Any) -> Record:
    """Return a DeploymentStart."""
    return {
        "deployment": "challenger",
        "role": "challenger",
        "cluster_id": cluster_id,
        "topic_id": topic_id,
        "source_partition": partition,
        "start_offset": 0,
        "model": {"name": "gb", "version": "1", "sha256": "ab" * 32},
        "seed": 0,
        "policy": "p",
        "started_at": START_US,
        **changes,
    }


def row(partition: int, offset: int, request_id: str, window_id: str, **changes: Any) -> Record:
    """Return a ShadowPrediction."""
    return {
        "source_partition": partition,
        "source_offset": offset,
        "request_id": request_id,
        "window_id": window_id,
        "stratum": None,
        "rank": offset,
        "inclusion_probability": 1.0,
        "model": {"name": "gb", "version": "1", "sha256": "ab" * 32},
        "prediction": {"value": 0.25, "label": "late", "scores": None, "items": None},
        "error": None,
        "latency_us": 90,
        "batch_size": 1,
        "queued_us": 10,
        "scored_at": START_US,
        "feature_state": None,
        "probe_probability": changes.get("inclusion_probability", 1.0),
        **changes,
    }


def seal(
    partition: int, start_offset: int, end_offset: int, cells: Sequence[Record], window_id: str, **changes: Any
) -> Record:
    """Return a SamplingWindow."""
    return {
        "window_id": window_id,
        "tick_id": str(uuid.UUID(int=9)),
        "source_partition": partition,
        "start_offset": start_offset,
        "end_offset": end_offset,
        "first_captured_at": START_US + start_offset * 1_000_000,
        "last_captured_at": START_US + max(start_offset, end_offset - 1) * 1_000_000,
        "opened_at": START_US,
        "sealed_at": START_US,
        "close_reason": "time",
        "lag_s": 0.1,
        "seed": 0,
        "policy": "p",
        "cells": list(cells),
        "gap": None,
        "usage": {"cpu_us": 1, "peak_rss_bytes": 2, "gpu_us": None, "gpu_peak_bytes": None},
        "limited_by": None,
        **changes,
    }


def cell(rows: Iterable[Record], seen: int, stratum: str = "") -> Record:
    """Return the claim of one cell over its rows."""
    kinds = [row["error"]["kind"] if row["error"] else "scored" for row in rows]
    return {
        "stratum": stratum,
        "seen": seen,
        "sampled": len(kinds),
        "draw_probability": 1.0,
        "threshold": None,
        "scored": kinds.count("scored"),
        "failed": len(kinds) - sum(kinds.count(kind) for kind in ("scored", "timeout", "dead_letter")),
        "timed_out": kinds.count("timeout"),
        "dead_lettered": kinds.count("dead_letter"),
        "probed": len(kinds),
        "probe_probability": len(kinds) / seen if seen else 0.0,
    }


@dataclass
class Logs:
    """Both logs of one stream on one broker; `captured[p]` lists the request ids of partition p by offset."""

    bootstrap: str
    stream: str
    deployment: str = "challenger"
    partitions: int = 4
    seed: int = 0
    captured: dict[int, list[str]] = field(default_factory=dict)
    sampled: dict[int, set[int]] = field(default_factory=dict)
    sealed: dict[int, int] = field(default_factory=dict)
    written: list[list[tuple[int, str, Record]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.topics = Topics(self.stream)
        self.random = random.Random(self.seed)
        self.producer = Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 1})
        self.live_codec = Codec(FEATURES.live)
        self.sequence = 0
        schema = FEATURES.live
        self.producer.produce(self.topics.schemas, schema.text.encode(), str(schema.fingerprint), partition=0)
        self.producer.flush(60)

    def begin(self, cluster_id: str, topic_id: str | None, **changes: Any) -> None:
        """Write the DeploymentStart of every partition."""
        for partition in range(self.partitions):
            self.captured.setdefault(partition, [])
            self.sampled.setdefault(partition, set())
            self.sealed.setdefault(partition, int(changes.get("start_offset", 0)))
            self.shadow(partition, "DeploymentStart", start(partition, cluster_id, topic_id, **changes))
        self.producer.flush(60)

    def capture(self, count: int, partition: int | None = None, **changes: Any) -> None:
        """Write live captures, spread over the partitions in turn."""
        for _ in range(count):
            at = self.sequence % self.partitions if partition is None else partition
            request_id = f"r{self.sequence}"
            record = {**capture(self.sequence, request_id), **changes}
            self.live(at, request_id, self.live_codec.encode(record), str(record["stratum"] or ""))
        self.producer.flush(60)

    def live(self, partition: int, request_id: str, value: bytes, stratum: str = "") -> None:
        """Write one live message unchanged."""
        headers: list[tuple[str, str | bytes | None]] | None = [("stratum", stratum.encode())] if stratum else None
        self.producer.produce(self.topics.live, value, request_id.encode(), partition=partition, headers=headers)
        self.captured[partition].append(request_id)
        self.sequence += 1
        if self.sequence % 10_000 == 0:
            self.producer.flush(60)

    def shadow(self, partition: int, name: str, record: Record) -> None:
        """Write one record of the shadow log."""
        self.producer.produce(
            self.topics.shadow(self.deployment), CODECS[name].encode(record), b"k", partition=partition
        )

    def score(self, share: float = 1.0, partition: int | None = None, **changes: Any) -> int:
        """Seal everything captured so far, one window a partition, `share` of it sampled; return the rows."""
        total = 0
        written: list[tuple[int, str, Record]] = []
        for at in range(self.partitions) if partition is None else [partition]:
            first, end = self.sealed[at], len(self.captured[at])
            window_id = str(uuid.UUID(int=self.random.getrandbits(128)))
            chosen = [offset for offset in range(first, end) if self.random.random() < share]
            exact = len(chosen) / (end - first) if chosen else 1.0
            rows = [
                row(at, offset, self.captured[at][offset], window_id, inclusion_probability=exact, **changes)
                for offset in chosen
            ]
            written += [(at, "ShadowPrediction", record) for record in rows]
            if end > first:
                sealed = seal(at, first, end, [cell(rows, end - first)], window_id)
                written.append((at, "SamplingWindow", sealed))
            self.sealed[at] = end
            self.sampled[at] |= set(chosen)
            total += len(rows)
        self.written.append(written)
        self.repeat(-1)
        return total

    def repeat(self, turn: int) -> None:
        """Write the windows of one `score` once more, rows and all."""
        for at, name, record in self.written[turn]:
            self.shadow(at, name, record)
        self.producer.flush(60)


def identity(bootstrap: str, topic: str) -> tuple[str, str | None]:
    settings = load_settings({"bootstrap_servers": bootstrap})
    metadata = clients.list_topics(settings)
    return str(metadata.cluster_id), topic_ids.topic_id(settings, topic, metadata)


def make_logs(bootstrap: str, stream: str) -> Logs:
    topics.create(load_settings({"bootstrap_servers": bootstrap}), topics.plan(Topics(stream), 4, ["challenger"]))
    logs = Logs(bootstrap, stream)
    logs.begin(*identity(bootstrap, logs.topics.live))
    return logs


def label(request_id: str, observed_at: int, **changes: Any) -> dict[str, Any]:
    return {
        "request_id": request_id,
        "value": 1.0,
        "label": None,
        "relevance": None,
        "items": None,
        "occurred_at": observed_at,
        "observed_at": observed_at,
        "source": "test",
        **changes,
    }
