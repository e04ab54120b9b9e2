"""Any record of any feature schema is decoded to the same record, and damage to its bytes is always detected."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.support.drawn_captures import captures

from gnomon_schemas.codec import Codec, Reader, peek
from gnomon_schemas.errors import DecodeError
from gnomon_schemas.features import FeatureSchema
from gnomon_schemas.store import MemorySchemas
from gnomon_schemas.strict import measure

REASONS = {"empty", "too_large", "framing", "unknown_schema", "truncated", "trailing_bytes", "invalid"}


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
