"""From matched bytes to columns: decode the live messages of whole windows and lay the pairs out in Arrow.

The columns of `PAIRS` are those of table `pairs` that the joiner writes, in natural units: times in microseconds since
the Unix epoch, UUIDs as 16 bytes, segments as JSON text. `wire` turns them into what COPY takes.
"""

import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pyarrow as pa

from gnomon_consumer.joiner.features import Layout
from gnomon_consumer.joiner.pairing import FIRST_US, LAST_US, JoinedWindow, Match, Refusal
from gnomon_schemas.codec import Reader, Record
from gnomon_schemas.errors import DecodeError
from gnomon_schemas.records import FailureKind
from gnomon_schemas.schema import Schema

_FLOATS = pa.list_(pa.float64())
_TEXTS = pa.list_(pa.string())


def _answer(side: str) -> list[tuple[str, pa.DataType]]:
    return [
        (f"{side}_value", pa.float64()),
        (f"{side}_label", pa.string()),
        (f"{side}_scores", _FLOATS),
        (f"{side}_items", _TEXTS),
        (f"{side}_error_kind", pa.string()),
        (f"{side}_error_message", pa.string()),
        (f"{side}_latency_us", pa.int64()),
        (f"{side}_feature_version", pa.string()),
        (f"{side}_cache_hits", pa.int32()),
        (f"{side}_cache_misses", pa.int32()),
    ]


PAIRS = pa.schema(
    [
        ("deployment_id", pa.int32()),
        ("event_time", pa.int64()),
        ("source_partition", pa.int32()),
        ("source_offset", pa.int64()),
        ("request_id", pa.string()),
        ("cluster", pa.string()),
        ("stratum", pa.string()),
        ("segments", pa.string()),
        ("features_numeric", _FLOATS),
        ("features_text", _TEXTS),
        *_answer("live"),
        ("live_model_name", pa.string()),
        ("live_model_version", pa.string()),
        *_answer("shadow"),
        ("shadow_batch_size", pa.int32()),
        ("shadow_queued_us", pa.int64()),
        ("scored_at", pa.int64()),
        ("outcome", pa.string()),
        ("capture_probability", pa.float64()),
        ("inclusion_probability", pa.float64()),
        ("rank", pa.int64()),
        ("window_id", pa.binary(16)),
        ("producer_id", pa.binary(16)),
        ("producer_sequence", pa.int64()),
    ]
)


@dataclass(frozen=True, slots=True)
class Row:
    """One pair before it is laid out: which window it is of, and both records."""

    window: int
    match: Match
    live: Record
    layout: Layout


@dataclass(frozen=True, slots=True)
class Assembled:
    """The pairs of some windows as one batch; `rows[i]` is where row i of `batch` comes from."""

    batch: pa.RecordBatch
    rows: list[Row]
    refusals: list[tuple[int, Refusal]]


def assemble(
    deployment_id: int,
    windows: Sequence[JoinedWindow],
    reader: Reader,
    layout_of: Callable[[Schema], Layout],
) -> Assembled:
    """Decode every match of `windows`; what cannot be read, or is another request, is refused with its reason."""
    rows: list[Row] = []
    refusals = [(at, refusal) for at, window in enumerate(windows) for refusal in window.refusals]
    for at, window in enumerate(windows):
        for match in window.matches:
            row = _read(at, match, reader, layout_of)
            if isinstance(row, Row):
                rows.append(row)
            else:
                refusals.append((at, row))
    return Assembled(_batch(deployment_id, rows), rows, refusals)


def _read(at: int, match: Match, reader: Reader, layout_of: Callable[[Schema], Layout]) -> Row | Refusal:
    try:
        name, schema, live = reader.decode(match.value)
    except DecodeError as error:
        return refused(match, error.reason, str(error))
    if name != "gnomon.v1.LivePrediction":
        return refused(match, "wrong_record", f"a {name} on the live topic")
    if not FIRST_US <= live["captured_at"] <= LAST_US:
        return refused(match, "invalid", f"captured_at {live['captured_at']} is no time")
    if uuid_bytes(live["producer_id"]) is None:
        return refused(match, "invalid", f"producer id {live['producer_id']!r} is no UUID")
    if live["request_id"] != match.shadow["request_id"]:
        ids = f"{live['request_id']!r}, the shadow log {match.shadow['request_id']!r}"
        return refused(match, "correlation", f"the live log has request id {ids}")
    return Row(at, match, live, layout_of(schema))


def refused(match: Match, reason: str, detail: str) -> Refusal:
    """A match that the joiner cannot turn into a pair."""
    size = len(match.value) if match.value is not None else 0
    return Refusal(match.shadow, match.cell, "join", reason, detail, size)


def outcome_of(shadow: Record) -> str:
    """`scored`, `timed_out` or `failed`."""
    error = shadow["error"]
    if error is None:
        return "scored"
    return "timed_out" if error["kind"] == FailureKind.TIMEOUT else "failed"


@lru_cache(maxsize=65_536)
def uuid_bytes(text: str) -> bytes | None:
    """The 16 bytes of a UUID, None for what is none."""
    try:
        return uuid.UUID(text).bytes
    except ValueError:
        return None


def _batch(deployment_id: int, rows: Sequence[Row]) -> pa.RecordBatch:
    live = [row.live for row in rows]
    shadow = [row.match.shadow for row in rows]
    columns: dict[str, list[Any]] = {
        "deployment_id": [deployment_id] * len(rows),
        "event_time": [record["captured_at"] for record in live],
        "source_partition": [record["source_partition"] for record in shadow],
        "source_offset": [record["source_offset"] for record in shadow],
        "request_id": [record["request_id"] for record in live],
        "cluster": [record["cluster"] for record in live],
        "stratum": [row.match.cell for row in rows],
        "segments": [json.dumps(record["segments"]) if record["segments"] else "{}" for record in live],
        "features_numeric": [row.layout.numbers(row.live["features"]) for row in rows],
        "features_text": [row.layout.texts(row.live["features"]) for row in rows],
        **_answers("live", live),
        "live_model_name": [record["model"]["name"] for record in live],
        "live_model_version": [record["model"]["version"] for record in live],
        **_answers("shadow", shadow),
        "shadow_batch_size": [record["batch_size"] for record in shadow],
        "shadow_queued_us": [record["queued_us"] for record in shadow],
        "scored_at": [record["scored_at"] for record in shadow],
        "outcome": [outcome_of(record) for record in shadow],
        "capture_probability": [record["capture_probability"] for record in live],
        "inclusion_probability": [record["inclusion_probability"] for record in shadow],
        "rank": [record["rank"] for record in shadow],
        "window_id": [uuid_bytes(record["window_id"]) for record in shadow],
        "producer_id": [uuid_bytes(record["producer_id"]) for record in live],
        "producer_sequence": [record["sequence"] for record in live],
    }
    return pa.RecordBatch.from_arrays([pa.array(columns[field.name], type=field.type) for field in PAIRS], schema=PAIRS)


_NOTHING: Record = {
    "value": None,
    "label": None,
    "scores": None,
    "items": None,
    "kind": None,
    "message": None,
    "version": None,
    "cache_hits": None,
    "cache_misses": None,
}


def _answers(side: str, records: Sequence[Record]) -> dict[str, list[Any]]:
    predictions = [record["prediction"] or _NOTHING for record in records]
    errors = [record["error"] or _NOTHING for record in records]
    states = [record["feature_state"] or _NOTHING for record in records]
    return {
        f"{side}_value": [prediction["value"] for prediction in predictions],
        f"{side}_label": [prediction["label"] for prediction in predictions],
        f"{side}_scores": [prediction["scores"] for prediction in predictions],
        f"{side}_items": [prediction["items"] for prediction in predictions],
        f"{side}_error_kind": [error["kind"] for error in errors],
        f"{side}_error_message": [error["message"] for error in errors],
        f"{side}_latency_us": [record["latency_us"] for record in records],
        f"{side}_feature_version": [state["version"] for state in states],
        f"{side}_cache_hits": [state["cache_hits"] for state in states],
        f"{side}_cache_misses": [state["cache_misses"] for state in states],
    }
