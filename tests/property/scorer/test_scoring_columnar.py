"""A worker's result for a batch in columns equals, byte for byte, plain Python on its rows one by one."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gnomon_consumer.scorer.captures import Row, Rows
from gnomon_consumer.scorer.outcomes import status_of
from gnomon_consumer.scorer.worker import pipe
from gnomon_consumer.scorer.worker.encoding import encode
from gnomon_consumer.scorer.worker.models import ModelSpec
from gnomon_consumer.scorer.worker.models.base import Answers, Batch, ModelInput
from gnomon_consumer.scorer.worker.scoring import BatchScorer
from gnomon_schemas.codec import Codec, Reader, Record
from gnomon_schemas.errors import DecodeError
from gnomon_schemas.features import FeatureSchema
from gnomon_schemas.records import Failure, FailureKind, FeatureState, Prediction, as_dict
from gnomon_schemas.schema import Schema, record_schema
from gnomon_schemas.store import MemorySchemas

NOW = 1_700_000_000_000_000
SPEC = ModelSpec(location="/nowhere", kind="onnx", name="sum", version="1", sha256="ab" * 32)
OLD = FeatureSchema.of({"a": "double", "t": ["null", "string"]})
NEW = FeatureSchema.of({"t": ["null", "string"], "flag": "boolean", "a": ["null", "double"], "n": ["null", "long"]})
WITHOUT = FeatureSchema.of({"t": "string"})
LABEL = record_schema("Label")
ITEMS = ("no", "yes")


class Adder:
    """A transparent model: value = a, and every kind of answer and failure that depends on it."""

    inputs: tuple[ModelInput, ...] = (ModelInput("x", "any", ("a", "t")),)
    reading = "value: all of it"
    doubt: str | None = None

    def predict(self, batch: Batch, rows: int) -> Answers:
        numbers = np.asarray(batch["a"].values, np.float64)
        if (numbers == 13.0).any():
            raise ValueError("thirteen")
        texts = batch["t"].values
        with np.errstate(over="ignore"):
            values = 1e308 * numbers
        return Answers(
            rows,
            value=values,
            label=[f"{text}!" for text in texts],
            scores=np.stack([numbers, 1.0 - numbers], axis=1),
            items=ITEMS,
            failures={
                at: Failure(FailureKind.INVALID_FEATURES, "seven") for at in np.flatnonzero(numbers == 7.0).tolist()
            },
        )

    def feature_state(self) -> FeatureState | None:
        return FeatureState("v1", 3, 4)

    def close(self) -> None:
        pass


def expected(row: Row, schemas: MemorySchemas, window: str, queued_us: int, size: int) -> tuple[str, bytes]:
    """Return the outcome of one row, in plain Python."""
    model = as_dict(SPEC.artefact)
    try:
        schema, record = capture_of(row, schemas)
    except DecodeError as error:
        failure = Failure(FailureKind.DEAD_LETTER, f"{error.reason}: {error}")
        request_id = row.key.decode("utf-8", "replace")
        return "dead_lettered", encode(row, window, model, failure, request_id=request_id, scored_at=NOW)
    outcome = answer(record["features"], schema == WITHOUT.live)
    message = encode(
        row,
        window,
        model,
        outcome,
        request_id=record["request_id"],
        scored_at=NOW,
        latency_us=0,
        batch_size=size,
        queued_us=queued_us,
        feature_state=FeatureState("v1", 3, 4),
    )
    return status_of(outcome), message


def capture_of(row: Row, schemas: MemorySchemas) -> tuple[Schema, Record]:
    name, schema, record = Reader(schemas).decode(row.value)
    if name != "gnomon.v1.LivePrediction":
        raise DecodeError("not_a_capture", f"a {name} in the live topic")
    if row.key != record["request_id"].encode():
        text = f"the key {row.key[:100]!r} is not the request id {record['request_id'][:100]!r}"
        raise DecodeError("key", text)
    return schema, record


def answer(features: Record, unfit: bool) -> Prediction | Failure:
    if unfit:
        text = (
            "written by m 1: the model's input 'x' needs the feature 'a', which the captures do not have (they have: t)"
        )
        return Failure(FailureKind.INVALID_FEATURES, text)
    a = float("nan") if features["a"] is None else features["a"]
    if a == 13.0:
        return Failure(FailureKind.MODEL_ERROR, "ValueError: thirteen")
    if a == 7.0:
        return Failure(FailureKind.INVALID_FEATURES, "seven")
    with np.errstate(over="ignore"):
        value = float(np.float64(1e308) * a)
    for number in (value, a, 1.0 - a):
        if not -1.7e308 < number < 1.7e308:
            return Failure(FailureKind.MODEL_ERROR, f"the model answered {number}")
    return Prediction(value=value, label=f"{features['t'] or ''}!", scores=[a, 1.0 - a], items=list(ITEMS))


TEXT = st.text(max_size=6)
NUMBER = st.sampled_from([0.0, -0.5, 1.0, 7.0, 13.0, 50.0, float("nan"), float("inf")]) | st.floats(0, 1)


@st.composite
def rows(draw: st.DrawFn) -> Row:
    schema = draw(st.sampled_from([OLD, OLD, NEW, WITHOUT]))
    values: dict[str, st.SearchStrategy[Any]] = {
        "a": NUMBER if schema is OLD else st.none() | NUMBER,
        "t": TEXT if schema is WITHOUT else st.none() | TEXT,
        "flag": st.booleans(),
        "n": st.none() | st.integers(-5, 5),
    }
    request_id = draw(TEXT)
    record = {
        "producer_id": "p",
        "sequence": 1,
        "captured_at": NOW,
        "request_id": request_id,
        "capture_probability": 1.0,
        "stratum": None,
        "segments": {},
        "cluster": None,
        "model": {"name": "m", "version": "1"},
        "features": {feature.name: draw(values[feature.name]) for feature in schema.features},
        "prediction": None,
        "error": None,
        "latency_us": None,
        "feature_state": None,
    }
    value = Codec(schema.live).encode(record)
    damage = draw(st.sampled_from(["none"] * 6 + ["key", "cut", "noise", "label", "unknown"]))
    key = b"\xffother" if damage == "key" else request_id.encode()
    if damage == "cut":
        value = value[: draw(st.integers(0, len(value) - 1))]
    elif damage == "noise":
        value = draw(st.binary(max_size=30))
    elif damage == "unknown":
        value = value[:2] + b"\0" * 8 + value[10:]
    elif damage == "label":
        label = dict.fromkeys(("value", "label", "relevance", "items"))
        value = Codec(LABEL).encode(label | {"request_id": "r", "occurred_at": 1, "observed_at": 2, "source": "s"})
    stratum = draw(st.none() | TEXT)
    return Row(
        3,
        draw(st.integers(0, 2**60)),
        key,
        value,
        stratum,
        draw(st.integers(0, 2**63 - 1)),
        draw(st.floats(0, 1)),
        draw(st.none() | st.floats(0, 1)),
    )


def scorer(schemas: MemorySchemas) -> BatchScorer:
    return BatchScorer(SPEC, Adder(), schemas, now_us=lambda: NOW, clock=lambda: 0.0)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(rows(), min_size=1, max_size=20), st.booleans(), st.booleans())
def test_batches_in_columns_equal_rows_in_python(drawn: Sequence[Row], single: bool, careful: bool) -> None:
    schemas = MemorySchemas([OLD.live, NEW.live, WITHOUT.live, LABEL])
    announced: list[int] = []
    scored = scorer(schemas).score(Rows.of(drawn), "window", NOW - 5, single, announced.append if careful else None)
    sizes: dict[Any, int] = {}
    for row in drawn:
        group = expected(row, schemas, "window", 5, 1)[0] != "dead_lettered" and row.value[:10]
        sizes[group] = sizes.get(group, 0) + 1
    for row, one in zip(drawn, scored, strict=True):
        dead = expected(row, schemas, "window", 5, 1)[0] == "dead_lettered"
        size = 1 if single or careful or dead else sizes[row.value[:10]]
        assert (one.status, one.message) == expected(row, schemas, "window", 5, size)
        assert bool(one.reason) == dead
    assert announced == (list(range(len(drawn))) if careful else [])


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(rows(), max_size=10))
def test_rows_cross_the_pipe_unchanged(drawn: list[Row]) -> None:
    rows = Rows.of(drawn)
    blobs = pipe.packed(rows)
    assert list(pipe.unpacked(3, rows.cells, blobs)) == drawn == list(rows)
    if drawn:
        for lengths, data in (
            (blobs[5], blobs[6] + b"x"),
            (blobs[5][:-1], blobs[6]),
            (blobs[5] * 2, blobs[6] * 2 + b"x"),
        ):
            with pytest.raises(pipe.WireError):
                pipe.parted(lengths, data)


@given(st.lists(st.binary(max_size=5), max_size=10), st.integers(0, 10), st.integers(0, 10))
def test_an_array_crosses_the_pipe_as_a_list_does(texts: list[bytes], first: int, end: int) -> None:
    lengths, data = pipe.joined(pa.array(texts, pa.binary())[first:end])
    assert (lengths, bytes(data)) == pipe.joined(texts[first:end])
    assert pipe.parted(lengths, data).to_pylist() == texts[first:end]
