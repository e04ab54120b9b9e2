"""Any record of any feature schema comes back as it went in, and no damage to its bytes goes unnoticed."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gnomon_schemas.codec import Codec, Reader, peek
from gnomon_schemas.errors import DecodeError
from gnomon_schemas.features import FeatureSchema
from gnomon_schemas.store import MemorySchemas
from gnomon_schemas.strict import measure

LONGS = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(allow_nan=False, width=32)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": LONGS,
    "float": FLOATS,
    "double": st.floats(allow_nan=False),
    "string": st.text(max_size=20),
}


FEATURE_STATES = st.fixed_dictionaries(
    {"version": st.none() | st.text(max_size=5), "cache_hits": VALUES["int"], "cache_misses": VALUES["int"]}
)
REASONS = {"empty", "too_large", "framing", "unknown_schema", "truncated", "trailing_bytes", "invalid"}


@st.composite
def schemas_and_features(draw: st.DrawFn) -> tuple[FeatureSchema, dict[str, Any]]:
    """Return a feature schema and one record of it."""
    fields: dict[str, Any] = {}
    values: dict[str, Any] = {}
    for index in range(draw(st.integers(1, 8))):
        name, kind = f"f{index}", draw(st.sampled_from([*VALUES, "enum", "array"]))
        declared: Any = kind
        if kind == "enum":
            declared = {"type": "enum", "name": f"E{index}", "symbols": ["A", "B", "C"]}
            strategy: st.SearchStrategy[Any] = st.sampled_from(["A", "B", "C"])
        elif kind == "array":
            items = draw(st.sampled_from(["int", "long", "float", "double"]))
            declared = {"type": "array", "items": items}
            strategy = st.lists(VALUES[items], max_size=4)
        else:
            strategy = VALUES[kind]
        if kind != "null" and draw(st.booleans()):
            declared, strategy = ["null", declared], st.none() | strategy
        fields[name], values[name] = declared, draw(strategy)
    return FeatureSchema.of(fields), values


@st.composite
def captures(draw: st.DrawFn) -> tuple[FeatureSchema, dict[str, Any]]:
    """Return a feature schema and a whole LivePrediction of it."""
    schema, features = draw(schemas_and_features())
    text = st.text(max_size=10)
    prediction = st.fixed_dictionaries(
        {
            "value": st.none() | VALUES["double"],
            "label": st.none() | text,
            "scores": st.none() | st.lists(VALUES["double"], max_size=3),
            "items": st.none() | st.lists(text, max_size=3),
        }
    )
    return schema, {
        "producer_id": draw(st.uuids().map(str)),
        "sequence": draw(LONGS),
        "captured_at": draw(LONGS),
        "request_id": draw(text),
        "capture_probability": draw(st.floats(0, 1)),
        "stratum": draw(st.none() | text),
        "segments": draw(st.dictionaries(text, text, max_size=3)),
        "cluster": draw(st.none() | text),
        "model": {"name": draw(text), "version": draw(text)},
        "features": features,
        "prediction": draw(st.none() | prediction),
        "error": draw(st.none() | st.fixed_dictionaries({"kind": text, "message": text})),
        "latency_us": draw(st.none() | LONGS),
        "feature_state": draw(st.none() | FEATURE_STATES),
    }


@given(captures())
def test_round_trip_and_peek(capture: tuple[FeatureSchema, dict[str, Any]]) -> None:
    schema, record = capture
    message = Codec(schema.live).encode(record)
    assert Reader(MemorySchemas([schema.live])).decode(message).record == record
    assert peek(message) == (record["producer_id"], record["sequence"], record["captured_at"])


@given(captures())
def test_the_strict_walk_accepts_whatever_fastavro_writes(capture: tuple[FeatureSchema, dict[str, Any]]) -> None:
    schema, record = capture
    measure(schema.live.json, Codec(schema.live).encode(record), 10)


@given(captures(), st.data())
def test_damaged_bytes_are_refused_or_decode_to_what_they_say(
    capture: tuple[FeatureSchema, dict[str, Any]], data: st.DataObject
) -> None:
    """One changed byte either raises DecodeError or gives a record whose every byte the strict walk accepts too."""
    schema, record = capture
    codec = Codec(schema.live)
    message = bytearray(codec.encode(record))
    at = data.draw(st.integers(10, len(message) - 1))
    message[at] = data.draw(st.integers(0, 255))
    try:
        codec.decode(bytes(message), 10)
    except DecodeError:
        return
    measure(schema.live.json, bytes(message), 10)


@given(captures(), st.data())
def test_every_truncation_is_refused(capture: tuple[FeatureSchema, dict[str, Any]], data: st.DataObject) -> None:
    schema, record = capture
    message = Codec(schema.live).encode(record)
    reader = Reader(MemorySchemas([schema.live]))
    end = data.draw(st.integers(0, len(message) - 1))
    try:
        reader.decode(message[:end])
    except DecodeError:
        return
    raise AssertionError(f"{end} of {len(message)} bytes were accepted")


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_but_decode_error(noise: bytes) -> None:
    schema = FeatureSchema.of({"a": "double", "b": ["null", "string"]})
    reader = Reader(MemorySchemas([schema.live]))
    for message in (noise, schema.live.fingerprint.header + noise):
        for read in (reader.decode, peek):
            try:
                read(message)
            except DecodeError as error:
                reason = error.reason
            else:
                continue
            assert reason in REASONS
