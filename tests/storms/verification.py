"""Compares the result of a storm with the captures. Reads Avro by fastavro and the schemas' files, and SQL.

It uses nothing of the product's codecs, sampling or reports.
"""

import io
import json
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import fastavro
import psycopg
from confluent_kafka import Consumer, KafkaError, TopicPartition

from tests.support.servers.shared import ROOT

_AVSC = ROOT / "schemas/gnomon_schemas/avsc"
_HEADER_BYTES = 10
Place = tuple[int, int]
"""Partition and offset of a capture."""


@dataclass(frozen=True)
class Verdict:
    """Counts that must be 0: `lost` captures in no bucket, `doubled` in two, `torn` rows of no sealed window."""

    captures: int
    windows: int
    pairs: int
    lost: int
    doubled: int
    torn: int
    wrong: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Return whether all of them are 0."""
        return not (self.lost or self.doubled or self.torn or self.wrong)


def verify(bootstrap: str, stream: str, deployment: str, database: str, sent: dict[Place, str]) -> Verdict:
    """Compare the stored captures, as reported to the producers, with live log, shadow log and database, as sets."""
    wrong: list[str] = []
    live = {
        (partition, offset): key.decode()
        for partition, messages in read_topic(bootstrap, f"gnomon.{stream}.live").items()
        for offset, key, _ in messages
    }
    missing = sent.items() - live.items()
    if missing:
        wrong.append(f"{len(missing)} acknowledged captures are not in the live log")
    sealed, rows = _shadow(bootstrap, f"gnomon.{stream}.shadow.{deployment}", wrong)
    with psycopg.connect(database) as connection:
        windows = connection.execute(
            "select source_partition, start_offset, end_offset, window_id::text, seen, joined_seen, gap_lost"
            " from gnomon.windows order by 1, 2"
        ).fetchall()
        pairs = connection.execute(
            "select source_partition, source_offset, request_id, inclusion_probability, stratum from gnomon.pairs"
        ).fetchall()
        letters = connection.execute(
            "select source_partition, source_offset, request_id from gnomon.dead_letters"
        ).fetchall()
        cells = connection.execute(
            "select source_partition, start_offset, stratum, seen, sampled, draw_probability, joined_orphaned"
            " from gnomon.cells"
        ).fetchall()
    bounds: dict[str, tuple[int, int, int]] = {}
    covered: set[Place] = set()
    doubled = 0
    due: dict[int, int] = {}
    for partition, start, end, window_id, seen, joined_seen, gap in windows:
        if partition in due and due[partition] != start:
            wrong.append(f"window {partition}/{start} where {due[partition]} is due")
        due[partition] = end
        if gap or seen != joined_seen:
            wrong.append(f"window {partition}/{start}: {seen} seen, {joined_seen} recounted, {gap} lost")
        bounds[window_id] = partition, start, end
        inside = {(partition, at) for at in range(start, end)} & live.keys()
        doubled += len(inside & covered)
        covered |= inside
    if bounds != sealed:
        wrong.append(
            f"{len(sealed)} windows are sealed, {len(bounds)} joined, {len(sealed.items() & bounds.items())} the same"
        )
    paired = [(partition, offset) for partition, offset, *_ in pairs] + [(p, o) for p, o, _ in letters]
    doubled += len(paired) - len(set(paired))
    torn = len(set(paired) ^ rows.keys())
    wrong += [f"another request at {p}/{o}" for p, o, request, *_ in [*pairs, *letters] if live.get((p, o)) != request]
    wrong += _weights(bounds, pairs, cells)
    return Verdict(len(live), len(windows), len(pairs), len(live.keys() - covered), doubled, torn, tuple(wrong[:10]))


def _weights(
    bounds: dict[str, tuple[int, int, int]], pairs: list[tuple[Any, ...]], cells: list[tuple[Any, ...]]
) -> list[str]:
    """Check that the inverse probabilities of a cell's pairs sum to its seen captures."""
    spans: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for partition, start, end in bounds.values():
        spans[partition].append((start, end))
    start_of = {(p, at): start for p, own in spans.items() for start, end in own for at in range(start, end)}
    sums: dict[tuple[int, int, str], float] = defaultdict(float)
    for partition, offset, _, probability, stratum in pairs:
        sums[partition, start_of[partition, offset], stratum] += 1 / probability
    found = []
    for partition, start, stratum, seen, sampled, draw, orphaned in cells:
        weight = sums[partition, start, stratum]
        if sampled and not orphaned and abs(weight * draw - seen) > 1e-6 * seen:
            found.append(f"cell {stratum!r} of {partition}/{start}: weights sum to {weight}, {seen} seen")
    return found


def _shadow(bootstrap: str, topic: str, wrong: list[str]) -> tuple[dict[str, tuple[int, int, int]], dict[Place, str]]:
    """Return sealed windows by id, and the position of each of their rows; windows must cover the log."""
    schemas = {name: _schema(name) for name in ("DeploymentStart", "ShadowPrediction", "SamplingWindow")}
    sealed: dict[str, tuple[int, int, int]] = {}
    rows: dict[Place, str] = {}
    for partition, messages in read_topic(bootstrap, topic).items():
        pending: dict[str, list[int]] = defaultdict(list)
        due: int | None = None
        for _, _, value in messages:
            name, record = _record(schemas, value)
            if name == "DeploymentStart":
                due = record["start_offset"] if due is None else due
            elif name == "ShadowPrediction":
                pending[record["window_id"]].append(record["source_offset"])
            else:
                if record["start_offset"] != due:
                    wrong.append(f"a window of {partition} was sealed at {record['start_offset']}, {due} was expected")
                due = record["end_offset"]
                if record["window_id"] in sealed:
                    wrong.append(f"window {record['window_id']} was sealed twice")
                sealed[record["window_id"]] = partition, record["start_offset"], record["end_offset"]
                rows |= {(partition, offset): record["window_id"] for offset in pending[record["window_id"]]}
                pending.clear()
    return sealed, rows


def _schema(name: str) -> tuple[bytes, Any]:
    named: dict[str, Any] = {}
    for path in (_AVSC / f"{one}.avsc" for one in _PARTS):
        fastavro.parse_schema(json.loads(path.read_text()), named_schemas=named)
    text = json.loads((_AVSC / f"{name}.avsc").read_text())
    whole = fastavro.parse_schema(text, named_schemas=dict(named), expand=True)
    canonical = fastavro.schema.to_parsing_canonical_form(whole)
    fingerprint = fastavro.schema.fingerprint(canonical, "CRC-64-AVRO")
    return bytes.fromhex(fingerprint), whole


_PARTS = ("Artefact", "Cell", "Failure", "FeatureState", "Gap", "Model", "Prediction", "Usage")


def _record(schemas: dict[str, tuple[bytes, Any]], value: bytes) -> tuple[str, dict[str, Any]]:
    assert value[:2] == b"\xc3\x01"
    for name, (fingerprint, schema) in schemas.items():
        if value[2:_HEADER_BYTES] in (fingerprint, fingerprint[::-1]):
            record: Any = fastavro.schemaless_reader(io.BytesIO(value[_HEADER_BYTES:]), schema, None)
            return name, record
    raise AssertionError(f"a record of no schema in {_AVSC}: {value[:_HEADER_BYTES].hex()}")


def read_topic(bootstrap: str, topic: str) -> dict[int, list[tuple[int, bytes, bytes]]]:
    """Return offset, key and value of every committed message, by partition."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "verification",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
        }
    )
    found: dict[int, list[tuple[int, bytes, bytes]]] = {}
    try:
        partitions = list(consumer.list_topics(topic, timeout=30).topics[topic].partitions)
        found = {partition: [] for partition in partitions}
        consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        left = set(partitions)
        while left:
            for message in consumer.consume(1000, timeout=5.0):
                error, partition = message.error(), message.partition()
                assert partition is not None
                if error is None:
                    key, value = message.key() or b"", message.value() or b""
                    found[partition].append(
                        (message.offset() or 0, key if isinstance(key, bytes) else key.encode(), value)
                    )
                elif error.code() == KafkaError._PARTITION_EOF:
                    left.discard(partition)
    finally:
        consumer.close()
    return found
