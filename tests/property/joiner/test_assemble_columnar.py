"""The joiner's columns equal, value for value, the results of plain Python on each pair."""

import json
import math
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.drawn_captures import VALUES, captures

from gnomon_consumer.joiner.merge.matches import Match, Matches
from gnomon_consumer.joiner.merge.shadow_records import chosen, outcomes, read_shadow
from gnomon_consumer.joiner.pairs.assemble import PAIRS, LooseMatches, assemble
from gnomon_consumer.joiner.pairs.feature_layout import Layout, kind_of
from gnomon_consumer.times import EARLIEST_US, LATEST_US
from gnomon_schemas.codec import Codec, Reader, Record
from gnomon_schemas.columnar import ColumnarReader
from gnomon_schemas.errors import DecodeError
from gnomon_schemas.features import FeatureSchema
from gnomon_schemas.records import LARGEST_NUMBER, LEAST_PROBABILITY
from gnomon_schemas.schema import Schema, checked, record_schema
from gnomon_schemas.store import MemorySchemas
from gnomon_schemas.texts import storable

TEXT = st.text(max_size=6)
PREDICTION = st.fixed_dictionaries(
    {
        "value": st.none() | VALUES["double"],
        "label": st.none() | TEXT,
        "scores": st.none() | st.lists(VALUES["double"], max_size=3),
        "items": st.none() | st.lists(TEXT, max_size=3),
    }
)
STATE = st.fixed_dictionaries({"version": st.none() | TEXT, "cache_hits": VALUES["int"], "cache_misses": VALUES["int"]})
KIND = st.sampled_from(["timeout", "model_error", "quarantined", ""])
SHADOW = st.fixed_dictionaries(
    {
        "source_partition": VALUES["int"],
        "source_offset": VALUES["long"],
        "request_id": TEXT,
        "window_id": st.uuids().map(str) | TEXT,
        "stratum": st.none() | TEXT,
        "rank": VALUES["long"],
        "inclusion_probability": st.floats(0, 1),
        "probe_probability": st.none() | st.floats(0, 1),
        "model": st.fixed_dictionaries({"name": TEXT, "version": TEXT, "sha256": TEXT}),
        "prediction": st.none() | PREDICTION,
        "error": st.none() | st.fixed_dictionaries({"kind": KIND, "message": TEXT}),
        "latency_us": st.none() | VALUES["long"],
        "batch_size": VALUES["int"],
        "queued_us": st.none() | VALUES["long"],
        "scored_at": VALUES["long"],
        "feature_state": st.none() | STATE,
    }
)
SHADOW_SCHEMA = record_schema("ShadowPrediction")


def layout_of(schema: Schema) -> Layout:
    """Return a layout in which every second position of either array belongs to a feature of an earlier schema."""
    features = FeatureSchema.in_live(schema).features
    numeric = [name for f in features if kind_of(f) == "numeric" for name in (None, f.name)]
    textual = [name for f in features if kind_of(f) == "text" for name in (None, f.name)]
    arrays = frozenset(f.name for f in features if f.kind == "array")
    return Layout(tuple(numeric), tuple(textual), arrays)


@st.composite
def matches(draw: st.DrawFn) -> tuple[Schema, Match]:
    schema, live = draw(captures())
    shadow = draw(SHADOW)
    if draw(st.integers(0, 4)):
        live["captured_at"] = draw(st.integers(EARLIEST_US, LATEST_US))
    if draw(st.integers(0, 4)):
        live["capture_probability"] = draw(st.floats(LEAST_PROBABILITY, 1.0))
    if draw(st.integers(0, 4)):
        shadow["request_id"] = live["request_id"]
    value = Codec(schema.live).encode(live)
    if not draw(st.integers(0, 6)):
        value = value[: draw(st.integers(0, len(value) - 1))]
    return schema.live, Match(shadow, value, draw(TEXT))


def expected(match: Match, schemas: MemorySchemas) -> dict[str, Any] | tuple[str, str]:
    """Return one pair in plain Python, or the reason and detail of its refusal."""
    shadow = match.shadow
    try:
        _, schema, live = Reader(schemas).decode(match.value)
    except DecodeError as error:
        return error.reason, str(error)
    if not LEAST_PROBABILITY <= live["capture_probability"] <= 1:
        return "invalid", f"capture_probability {live['capture_probability']} is outside {LEAST_PROBABILITY} to 1"
    if not EARLIEST_US <= live["captured_at"] <= LATEST_US:
        return "invalid", f"captured_at {live['captured_at']} is not a valid timestamp"
    if live["request_id"] != shadow["request_id"]:
        ids = f"{live['request_id']!r}, the shadow log {shadow['request_id']!r}"
        return "correlation", f"the live log has request id {ids}"
    layout, features, failure = layout_of(schema), live["features"], shadow["error"]
    outcome = "scored" if failure is None else "timed_out" if failure["kind"] == "timeout" else "failed"
    return {
        "deployment_id": 7,
        "event_time": live["captured_at"],
        "stratum": match.cell,
        "segments": json.dumps({storable(name): storable(value) for name, value in live["segments"].items()}),
        "features_numeric": [None if n is None else number(features[n]) for n in layout.numeric],
        "features_text": [text(name, features, layout) for name in layout.textual],
        **answers("live", live),
        "live_model_name": live["model"]["name"],
        "live_model_version": live["model"]["version"],
        **answers("shadow", shadow),
        "shadow_batch_size": shadow["batch_size"],
        "shadow_queued_us": shadow["queued_us"],
        "outcome": outcome,
        "window_id": uuid_or_none(shadow["window_id"]),
        "producer_id": uuid.UUID(live["producer_id"]).bytes,
        "producer_sequence": live["sequence"],
        **{name: live[name] for name in ("request_id", "cluster", "capture_probability")},
        **{
            name: shadow[name]
            for name in (
                "source_partition",
                "source_offset",
                "scored_at",
                "inclusion_probability",
                "probe_probability",
                "rank",
            )
        },
    }


def number(value: Any) -> float | None:
    """Return a number that may be summed; larger numbers count as infinite."""
    if value is None or not abs(float(value)) > LARGEST_NUMBER:
        return None if value is None else float(value)
    return math.copysign(math.inf, value)


def text(name: str | None, features: Record, layout: Layout) -> str | None:
    if name is None or features[name] is None:
        return None
    return json.dumps(features[name]) if name in layout.structured else str(features[name])


def uuid_or_none(value: str) -> bytes | None:
    try:
        return uuid.UUID(value).bytes
    except ValueError:
        return None


def answers(side: str, record: Record) -> dict[str, Any]:
    prediction, error, state = (record[name] or {} for name in ("prediction", "error", "feature_state"))
    return {
        f"{side}_value": number(prediction.get("value")),
        **{f"{side}_{name}": prediction.get(name) for name in ("label", "items")},
        f"{side}_scores": prediction["scores"] and [number(score) for score in prediction["scores"]]
        if prediction
        else None,
        f"{side}_error_kind": error.get("kind"),
        f"{side}_error_message": error.get("message"),
        f"{side}_latency_us": record["latency_us"],
        f"{side}_feature_version": state.get("version"),
        f"{side}_cache_hits": state.get("cache_hits"),
        f"{side}_cache_misses": state.get("cache_misses"),
    }


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None, max_examples=40)
@given(st.lists(matches(), max_size=8), st.booleans(), st.integers(1, 3))
def test_pairs_in_columns_equal_pairs_in_python(
    drawn: Sequence[tuple[Schema, Match]], through_the_log: bool, windows: int
) -> None:
    """With several writer schemas, in several windows; outcomes as dicts or as rows read from the log."""
    schemas = MemorySchemas([SHADOW_SCHEMA, *(schema for schema, _ in drawn)])
    reader = ColumnarReader(schemas)
    pairs = [match for _, match in drawn]
    if through_the_log:
        codec = Codec(SHADOW_SCHEMA)
        read = read_shadow(reader, [codec.encode(match.shadow) for match in pairs])
        assert read.row_of.tolist() == list(range(len(pairs)))
        assert not read.others
        shadow = read.outcomes
    else:
        shadow = outcomes([match.shadow for match in pairs])
    joined = []
    for at in range(windows):
        own = np.arange(at, len(pairs), windows)
        values, cells = [match.value for match in pairs[at::windows]], [match.cell for match in pairs[at::windows]]
        joined.append(LooseMatches(Matches(chosen(shadow, own), values, cells)))
    order = [(at, match) for at in range(windows) for match in pairs[at::windows]]
    assembled = assemble(7, joined, reader, layout_of)
    wanted = [(at, expected(match, schemas)) for at, match in order]
    assert assembled.batch.schema == PAIRS
    assert assembled.batch.to_pylist() == [want for _, want in wanted if isinstance(want, dict)]
    assert assembled.window_of.tolist() == [at for at, want in wanted if isinstance(want, dict)]
    assert [(at, (refusal.reason, refusal.detail)) for at, refusal in assembled.refusals] == [
        (at, want) for at, want in wanted if not isinstance(want, dict)
    ]


def captured(features: dict[str, Any]) -> tuple[Record, Record]:
    """Return a capture and its outcome."""
    live: Record = {
        "producer_id": str(uuid.UUID(int=1)), "sequence": 1, "captured_at": 0, "request_id": "r",
        "capture_probability": 1.0, "stratum": None, "segments": {}, "cluster": None,
        "model": {"name": "m", "version": "1"}, "prediction": None, "error": None, "latency_us": None,
        "feature_state": None, "features": features,
    }  # fmt: skip
    shadow = dict.fromkeys(("stratum", "prediction", "error", "latency_us", "queued_us", "feature_state"))
    shadow |= {"source_partition": 0, "source_offset": 0, "request_id": "r", "window_id": "", "rank": 0}
    shadow |= {"inclusion_probability": 1.0, "batch_size": 1, "scored_at": 0}
    return live, shadow | {"model": {"name": "m", "version": "1", "sha256": ""}}


def test_numbers_that_are_none_and_numbers_that_are_not_numbers_stay_apart() -> None:
    schema = FeatureSchema.of({"a": ["null", "double"], "b": "long"})
    live, shadow = captured({"a": math.nan, "b": 2**53 + 1})
    codec = Codec(schema.live)
    values = [codec.encode(live), codec.encode({**live, "features": {"a": None, "b": 1}})]
    window = LooseMatches(Matches(outcomes([shadow, shadow]), list(values), ["", ""]))
    batch = assemble(1, [window], ColumnarReader(MemorySchemas([schema.live])), layout_of).batch
    first, second = batch.column("features_numeric").to_pylist()
    assert math.isnan(first[1])
    assert first[3] == float(2**53 + 1)
    assert second == [None, None, None, 1.0]


def test_captures_whose_times_are_in_another_unit_are_refused() -> None:
    """The fingerprint of such a schema is the same; the times would lie in January 1970."""
    own = FeatureSchema.of({"a": "double"}).live
    kind = {"type": "long", "logicalType": "timestamp-millis"}
    fields = [field | {"type": kind} if field["name"] == "captured_at" else field for field in own.json["fields"]]
    writer = checked(own.json | {"fields": fields})
    assert writer.fingerprint == own.fingerprint
    live, shadow = captured({"a": 1.0})
    window = LooseMatches(Matches(outcomes([shadow]), [Codec(writer).encode(live)], [""]))
    assembled = assemble(1, [window], ColumnarReader(MemorySchemas([writer])), layout_of)
    assert assembled.batch.num_rows == 0
    (refusal,) = (refusal for _, refusal in assembled.refusals)
    detail = "its captured_at is a timestamp-millis, a LivePrediction has a timestamp-micros"
    assert (refusal.reason, refusal.detail) == ("invalid", detail)
