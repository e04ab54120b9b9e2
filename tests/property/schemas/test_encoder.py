"""The generated encoder writes the same bytes as fastavro, and refuses values without such bytes."""

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.drawn_captures import captures

from gnomon_schemas.codec import Codec
from gnomon_schemas.encoder import UnsupportedSchemaError, compile_encoder, varint
from gnomon_schemas.features import FeatureSchema
from gnomon_schemas.schema import record_schema


@settings(deadline=None)  # it compiles code each time, on any machine
@given(captures())
def test_captures_equal_fastavro(capture: tuple[FeatureSchema, dict[str, Any]]) -> None:
    schema, record = capture
    codec = Codec(schema.live)
    expected = codec.encode(record)
    header = schema.live.fingerprint.header
    assert compile_encoder(schema.live.json, header=header)(record) == expected

    constants = {name: record[name] for name in ("producer_id", "model")}
    encode = compile_encoder(schema.live.json, header=header, constants=constants, by_position=True)
    fields = [field["name"] for field in schema.live.json["fields"] if field["name"] not in constants]
    inner = {
        "features": [feature.name for feature in schema.features],
        "prediction": ["value", "label", "scores", "items"],
        "error": ["kind", "message"],
        "feature_state": ["version", "cache_hits", "cache_misses"],
    }
    arguments = [
        tuple(record[name][one] for one in inner[name]) if name in inner and record[name] is not None else record[name]
        for name in fields
    ]
    assert encode(*arguments) == expected


@given(st.integers(-(2**63), 2**63 - 1))
def test_numbers_equal_fastavro(number: int) -> None:
    schema = {"type": "record", "name": "R", "fields": [{"name": "n", "type": "long"}]}
    assert (
        compile_encoder(schema)({"n": number})
        == Codec(FeatureSchema.of({"n": "long"}).live)
        .encode(_capture({"n": number}))
        .partition(b"FEATURES")[2][: len(varint(number))]
    )


def _capture(features: dict[str, Any]) -> dict[str, Any]:
    """Return a capture whose features follow the marker FEATURES, which is the model's version."""
    return {
        "producer_id": "",
        "sequence": 0,
        "captured_at": 0,
        "request_id": "",
        "capture_probability": 1.0,
        "stratum": None,
        "segments": {},
        "cluster": None,
        "model": {"name": "", "version": "FEATURES"},
        "features": features,
        "prediction": None,
        "error": None,
        "latency_us": None,
        "feature_state": None,
    }


@pytest.mark.parametrize("name", ["Label", "ProducerReport", "ShadowPrediction", "DeploymentStart", "SamplingWindow"])
def test_every_packaged_record_can_be_compiled(name: str) -> None:
    compile_encoder(record_schema(name).json)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("int", 2**31),
        ("int", -(2**31) - 1),
        ("long", 2**63),
        ("long", -(2**63) - 1),
        ("float", 3.5e38),
        ("double", 10**400),
        ("string", "\ud800"),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, "B"),
        ({"type": "array", "items": "double"}, ["x"]),
        ("string", 7),
        ("double", None),
    ],
)
def test_what_has_no_bytes_is_refused(kind: Any, value: Any) -> None:
    encode = compile_encoder({"type": "record", "name": "R", "fields": [{"name": "f", "type": kind}]})
    with pytest.raises((ValueError, OverflowError, KeyError, TypeError, AttributeError, struct.error)):
        encode({"f": value})


def test_a_union_of_several_types_is_left_to_fastavro() -> None:
    fields = [{"name": "f", "type": ["null", "string", "long"]}]
    with pytest.raises(UnsupportedSchemaError):
        compile_encoder({"type": "record", "name": "R", "fields": fields})


def test_names_of_a_schema_are_never_code() -> None:
    """A name that would be code if it were inserted into it (fastavro refuses it)."""
    name = 'x"]; raise SystemExit #'
    encode = compile_encoder({"type": "record", "name": "R", "fields": [{"name": name, "type": "long"}]})
    assert encode({name: 1}) == b"\x02"
