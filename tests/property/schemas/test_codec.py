"""Any record of any feature schema is decoded to the same record, and damage to its bytes is always detected."""

from typing import Any

from fastavro.schema import expand_schema
from hypothesis import given
from hypothesis import strategies as st
from tests.support.drawn_captures import captures

from gnomon_schemas.codec import Codec, Reader, peek
from gnomon_schemas.columnar import ColumnarReader
from gnomon_schemas.errors import DecodeError
from gnomon_schemas.features import FeatureSchema
from gnomon_schemas.schema import Json, checked
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
    measure(expand_schema(schema.live.json), Codec(schema.live).encode(record), 10)


@st.composite
def referring(draw: st.DrawFn) -> tuple[Json, dict[str, Any]]:
    """A record whose types are defined where a value may leave them out and referred to later, and a value of it."""
    plan = {"type": "enum", "name": "Plan", "symbols": ["free", "gold"]}
    visit = {"type": "record", "name": "Visit", "fields": [{"name": "n", "type": "int"}, {"name": "p", "type": plan}]}
    defined: set[str] = set()

    def kind_and_value() -> tuple[Json, Any]:
        name = draw(st.sampled_from(["Plan", "Visit"]))
        kind: Json = {"Plan": plan, "Visit": visit}[name]
        if name in defined:
            kind = name
        elif name == "Visit" and "Plan" in defined:
            kind = {**visit, "fields": [{"name": "n", "type": "int"}, {"name": "p", "type": "Plan"}]}
        defined.update(("Plan", name))
        symbols = st.sampled_from(["free", "gold"])
        value = draw(symbols if name == "Plan" else st.fixed_dictionaries({"n": st.integers(-9, 9), "p": symbols}))
        around = draw(st.sampled_from(["alone", "nullable", "last", "several", "array", "map"]))
        kinds: dict[str, Json] = {
            "alone": kind,
            "nullable": ["null", kind],
            "last": [kind, "null"],
            "several": ["long", "null", kind],
            "array": {"type": "array", "items": kind},
            "map": {"type": "map", "values": kind},
        }
        values: dict[str, st.SearchStrategy[Any]] = {
            "alone": st.just(value),
            "several": st.sampled_from([7, None, value]),
            "array": st.sampled_from([[], [value], [value, value]]),
            "map": st.sampled_from([{}, {"k": value}]),
        }
        return kinds[around], draw(values.get(around, st.sampled_from([None, value])))

    parts = [kind_and_value() for _ in range(draw(st.integers(1, 5)))]
    fields = [{"name": f"f{at}", "type": kind} for at, (kind, _) in enumerate(parts)]
    schema = {"type": "record", "name": "Referring", "namespace": draw(st.sampled_from(["", "shop"])), "fields": fields}
    return schema, {f"f{at}": value for at, (_, value) in enumerate(parts)}


@given(referring())
def test_types_that_a_value_leaves_out_are_known_where_it_needs_them(drawn: tuple[Json, dict[str, Any]]) -> None:
    schema, record = checked(drawn[0]), drawn[1]
    store = MemorySchemas([schema])
    message = Codec(schema).encode(record)
    assert Reader(store).decode(message).record == record
    batches = ColumnarReader(store).decode([message] * 3)
    assert batches.errors == {}
    assert [row for group in batches.groups for row in group.records()] == [record] * 3


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
    measure(expand_schema(schema.live.json), bytes(message), 10)


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
