"""The contract: packaged records, composed feature schemas, framing, and refused ones."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from gnomon_schemas import records
from gnomon_schemas.codec import Codec, Reader, peek
from gnomon_schemas.errors import ConfigurationError, DecodeError, SchemaError
from gnomon_schemas.features import FeatureSchema
from gnomon_schemas.framing import Fingerprint, RegistryId, unframe
from gnomon_schemas.schema import RECORDS, Schema, checked, earlier_schemas, record_schema
from gnomon_schemas.store import ChainedSchemas, MemorySchemas, packaged_schemas
from gnomon_schemas.topics import Topics

FLIGHT = FeatureSchema.of({"distance": "double", "hour": "int", "carrier": "string"})


def schema_of(name: str) -> Schema:
    return FLIGHT.live if name == "LivePrediction" else record_schema(name)


def example(name: str) -> dict[str, Any]:
    text = files("gnomon_schemas").joinpath(f"examples/{name}.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


@pytest.mark.parametrize("name", RECORDS)
def test_every_packaged_example_survives_a_round_trip_and_its_dataclass(name: str) -> None:
    codec = Codec(schema_of(name))
    message = codec.encode(example(name))
    decoded = Reader(MemorySchemas([codec.schema])).decode(message)
    assert decoded.name == f"gnomon.v1.{name}"
    assert decoded.record == example(name)
    typed = records.from_dict(getattr(records, name), decoded.record)
    assert records.as_dict(typed) == example(name)


@pytest.mark.parametrize("name", RECORDS)
def test_dataclass_fields_are_the_records_fields(name: str) -> None:
    declared = {field["name"] for field in schema_of(name).json["fields"]}
    assert declared == set(records.as_dict(records.from_dict(getattr(records, name), example(name))))


@pytest.mark.parametrize("earlier", earlier_schemas(), ids=lambda earlier: f"{earlier.name}-{earlier.fingerprint}")
def test_what_an_earlier_version_wrote_is_still_read(earlier: Schema) -> None:
    kind = earlier.name.rpartition(".")[2]
    assert earlier.fingerprint != record_schema(kind).fingerprint
    known = {field["name"] for field in earlier.json["fields"]}
    then = {name: value for name, value in example(kind).items() if name in known}
    expected = example(kind) | dict.fromkeys(example(kind).keys() - known)
    if kind == "SamplingWindow":
        own = {"probed", "probe_probability"}
        then["cells"] = [{name: cell[name] for name in cell.keys() - own} for cell in then["cells"]]
        expected["cells"] = [cell | dict.fromkeys(own) for cell in then["cells"]]
    message = Codec(earlier).encode(then)
    name, _, record = Reader(packaged_schemas()).decode(message)
    assert name == earlier.name
    assert records.as_dict(records.from_dict(getattr(records, kind), record)) == expected


@pytest.mark.parametrize("earlier", earlier_schemas(), ids=str)
def test_every_version_reads_what_the_others_write(earlier: Schema) -> None:
    from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
    from avro.schema import make_avsc_object

    checker: Any = ReaderWriterCompatibilityChecker
    now = record_schema(earlier.name.rpartition(".")[2])
    for reader, writer in ((earlier, now), (now, earlier)):
        found = checker().get_compatibility(make_avsc_object(reader.json), make_avsc_object(writer.json))
        assert found.compatibility is SchemaCompatibilityType.compatible, found.messages


def test_fingerprint_is_the_specifications_own_value() -> None:
    """Avro's test vector for the schema "int" is 0x7275d51a3f395c8f; it travels little-endian."""
    from fastavro.schema import fingerprint

    assert fingerprint('"int"', "CRC-64-AVRO") == (0x7275D51A3F395C8F).to_bytes(8, "little").hex()
    codec = Codec(record_schema("Label"))
    assert codec.encode(example("Label"))[:10] == b"\xc3\x01" + codec.schema.fingerprint.value


def test_registry_framing_is_told_apart_by_its_first_byte() -> None:
    codec = Codec(record_schema("Label"), RegistryId(258))
    message = codec.encode(example("Label"))
    assert message[:5] == b"\x00\x00\x00\x01\x02"
    assert unframe(message) == (RegistryId(258), 5)
    store = MemorySchemas()
    store.add_schema(codec.schema, RegistryId(258))
    assert Reader(store).decode(message).record == example("Label")


def test_peek_reads_the_first_three_fields_alone() -> None:
    message = Codec(FLIGHT.live).encode(example("LivePrediction"))
    wanted = example("LivePrediction")
    assert peek(message) == (wanted["producer_id"], wanted["sequence"], wanted["captured_at"])


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (None, "empty"),
        (b"", "empty"),
        (b"\xc3\x01", "framing"),
        (b"\xc3\x01" + bytes(7), "framing"),
        (b'{"json": true}', "framing"),
        (b"\x00\x01", "framing"),
        (b"\xc3\x01" + bytes(8), "unknown_schema"),
        (b"\x00\x00\x00\x00\x07", "unknown_schema"),
        (b"\xc3" * 1_048_577, "too_large"),
    ],
)
def test_what_cannot_be_framed_says_why(message: bytes | None, reason: str) -> None:
    with pytest.raises(DecodeError) as caught:
        Reader(packaged_schemas()).decode(message)
    assert caught.value.reason == reason


LIMITED = checked(
    {
        "type": "record",
        "name": "Limited",
        "fields": [
            {"name": "choice", "type": {"type": "enum", "name": "E", "symbols": ["A", "B", "C"]}},
            {"name": "count", "type": "int"},
            {"name": "flag", "type": "boolean"},
            {"name": "text", "type": "string"},
            {"name": "maybe", "type": ["null", "double"]},
            {"name": "many", "type": {"type": "array", "items": "long"}},
        ],
    }
)
GOOD = {"choice": "C", "count": 3, "flag": True, "text": "abc", "maybe": 1.0, "many": [1, 2]}


@pytest.mark.parametrize(
    ("at", "replacement", "reason"),
    [
        (0, b"\x01", "invalid"),  # a negative enum index, which fastavro counts from the end of the list
        (0, b"\x06", "invalid"),  # one past the last symbol
        (1, b"\xfe\xff\xff\xff\xff\x01", "invalid"),  # an int of 34 bits
        (2, b"\x02", "invalid"),  # a boolean of 2
        (4, b"\xff\xff\xff", "invalid"),  # not UTF-8
        (3, b"\x7e", "truncated"),  # a string longer than the message
        (7, b"\x01", "invalid"),  # a negative union index
        (7, b"\x04", "invalid"),  # a union branch too many
        (16, b"\xfe\xff\xff\xff\x0f", "truncated"),  # an array that claims two thousand million items
    ],
)
def test_hostile_bytes_are_refused(at: int, replacement: bytes, reason: str) -> None:
    codec = Codec(LIMITED)
    message = codec.encode(GOOD)
    length = 1 if at != 4 else 3
    hostile = message[: 10 + at] + replacement + message[10 + at + length :]
    with pytest.raises(DecodeError) as caught:
        codec.decode(hostile, 10)
    assert caught.value.reason == reason


def test_trailing_bytes_are_refused_and_truncation_everywhere() -> None:
    codec = Codec(LIMITED)
    message = codec.encode(GOOD)
    with pytest.raises(DecodeError) as caught:
        codec.decode(message + b"\x00", 10)
    assert caught.value.reason == "trailing_bytes"
    for end in range(10, len(message)):
        with pytest.raises(DecodeError):
            codec.decode(message[:end], 10)


def test_unusual_but_right_bytes_are_accepted() -> None:
    """Overlong numbers and arrays in sized blocks are valid Avro that other writers produce."""
    codec = Codec(LIMITED)
    message = codec.encode(GOOD)
    array = message.index(b"\x04\x02\x04\x00")
    sized = message[:array] + b"\x03\x04\x02\x04\x00"
    assert codec.decode(sized, 10) == GOOD
    overlong = message[:11] + b"\x86\x00" + message[12:]
    assert codec.decode(overlong, 10) == GOOD


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"pixels": "bytes"}, "bytes"),
        ({"when": {"type": "fixed", "name": "F", "size": 8}}, "fixed"),
        ({"either": ["int", "string"]}, "'either'"),
        ({"nested": {"type": "record", "name": "N", "fields": [{"name": "x", "type": ["int", "string"]}]}},
         "'nested.x'"),
        ({"words": {"type": "array", "items": {"type": "array", "items": "string"}}}, "'words'"),
        ({"attributes": {"type": "map", "values": "string"}}, "'attributes'"),
        ({}, "no fields"),
        ("missing.avsc", "missing.avsc"),
        ({"type": "record", "name": "Prediction", "namespace": "gnomon.v1", "fields": [{"name": "x", "type": "int"}]},
         "gnomon.v1.Prediction"),
    ],
)  # fmt: skip
def test_a_feature_record_that_cannot_be_carried_is_named(source: object, words: str) -> None:
    with pytest.raises(SchemaError, match=words):
        FeatureSchema.of(source)


def test_features_are_described(tmp_path: Path) -> None:
    record = {
        "type": "record",
        "name": "Card",
        "fields": [
            {"name": "amount", "type": "double"},
            {"name": "country", "type": ["null", "string"], "default": None},
            {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["debit", "credit"]}},
            {"name": "history", "type": {"type": "array", "items": "float"}},
        ],
    }
    path = tmp_path / "card.avsc"
    path.write_text(json.dumps(record))
    schema = FeatureSchema.of(path)
    amount, country, kind, history = schema.features
    assert (amount.kind, amount.numeric, amount.nullable) == ("double", True, False)
    assert (country.kind, country.textual, country.nullable) == ("string", True, True)
    assert (kind.kind, kind.symbols) == ("enum", ("debit", "credit"))
    assert (history.kind, history.items, history.numeric, history.textual) == ("array", "float", False, False)
    assert FeatureSchema.in_live(schema.live).record == schema.record


def test_recursive_deep_and_oversized_schemas_are_refused() -> None:
    node: Any = {"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", "Node"]}]}
    with pytest.raises(SchemaError, match="recursive"):
        checked(node)
    deep: Any = "int"
    for _ in range(100):
        deep = {"type": "array", "items": deep}
    with pytest.raises(SchemaError, match="nested deeper"):
        checked({"type": "record", "name": "Deep", "fields": [{"name": "x", "type": deep}]})
    with pytest.raises(SchemaError, match="over the limit"):
        Schema.parse(b" " * 1_000_001)
    with pytest.raises(SchemaError, match="not JSON"):
        Schema.parse("[" * 100_000)


def chained(records: int, references: int) -> Any:
    """A schema in which each record refers to the one before, `references` times."""
    fields = [{"name": "f0", "type": {"type": "record", "name": "R0", "fields": [{"name": "x", "type": "int"}]}}]
    for at in range(1, records):
        parts = [{"name": f"p{n}", "type": f"R{at - 1}"} for n in range(references)]
        fields.append({"name": f"f{at}", "type": {"type": "record", "name": f"R{at}", "fields": parts}})
    return {"type": "record", "name": "Chained", "fields": fields}


PLAN = {"type": "enum", "name": "Plan", "symbols": ["free", "gold"]}
VISIT = {
    "type": "record", "name": "Visit", "namespace": "shop",
    "fields": [{"name": "plan", "type": PLAN}, {"name": "n", "type": "int", "default": 0}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "default", "fine"),
    [
        ("shop.Plan", "gold", True),
        ("shop.Plan", "none", False),
        (["null", "shop.Plan"], "none", False),
        ({"type": "array", "items": "shop.Plan"}, ["gold", "none"], False),
        ({"type": "map", "values": "shop.Plan"}, {"k": "none"}, False),
        ("shop.Visit", {"plan": "gold", "n": 7}, True),
        ("shop.Visit", {"plan": "gold"}, True),
        ("shop.Visit", {"n": 7}, False),
        ("shop.Visit", {"plan": "none"}, False),
        ("shop.Visit", {"plan": "gold", "n": "7"}, False),
    ],
)
def test_a_default_is_of_the_type_that_its_field_refers_to(kind: Any, default: Any, fine: bool) -> None:
    fields = [{"name": "visit", "type": VISIT}, {"name": "again", "type": kind, "default": default}]
    record = {"type": "record", "name": "Shop", "fields": fields}
    if fine:
        assert checked(record).name == "Shop"
    else:
        with pytest.raises(SchemaError, match=r"field 'again': its default .* is not of its type"):
            checked(record)


def test_references_count_as_the_types_that_they_stand_for() -> None:
    assert checked(chained(8, 2)).name == "Chained"
    with pytest.raises(SchemaError, match="field 'f11': field 'p0': the schema is nested deeper than 12"):
        checked(chained(500, 1))
    with pytest.raises(SchemaError, match="more than 50000 types"):
        checked(chained(10, 4))
    wide = {"type": "record", "name": "Wide", "fields": [{"name": f"f{at}", "type": "double"} for at in range(30_000)]}
    assert checked(wide).name == "Wide"


NOTHING = {"type": "record", "name": "Nothing", "fields": [{"name": "n", "type": "null"}]}
WITHIN = {
    "type": "record",
    "name": "Within",
    "fields": [{"name": "n", "type": "Nothing"}, {"name": "m", "type": "null"}],
}


@pytest.mark.parametrize("items", ["Nothing", {"type": "Nothing"}, WITHIN], ids=str)
def test_an_array_whose_items_take_no_bytes_is_refused(items: Any) -> None:
    """A message of a few bytes could have any number of such items."""
    fields = [{"name": "a", "type": NOTHING}, {"name": "b", "type": {"type": "array", "items": items}}]
    with pytest.raises(SchemaError, match=r"field 'b': the schema has an array of .* take no bytes"):
        checked({"type": "record", "name": "R", "fields": fields})


@pytest.mark.parametrize("name", ["error", "fixed", "bytes", "record", "array", "string", "null", "union"])
def test_no_type_has_the_name_of_an_avro_type(name: str) -> None:
    """The check would read `{"type": "error", …}` as that enum, and fastavro as a record that is not checked."""
    enum = {"type": "enum", "name": name, "symbols": ["A"]}
    for record in ("R", "shop.R"):
        with pytest.raises(
            SchemaError, match=rf"field 'a': the enum name '(shop\.)?{name}' is the name of an Avro type"
        ):
            checked({"type": "record", "name": record, "fields": [{"name": "a", "type": enum}]})


@pytest.mark.parametrize(
    ("kind", "default", "fine"),
    [
        ("double", 10**309, False),
        ("double", 10**300, True),
        ("float", 1e39, False),
        ("float", -3, True),
        (["null", "double"], -(10**400), False),
        ("double", True, False),
    ],
)
def test_a_number_as_a_default_has_the_range_of_its_type(kind: Any, default: Any, fine: bool) -> None:
    text = json.dumps({"type": "record", "name": "R", "fields": [{"name": "a", "type": kind, "default": default}]})
    if fine:
        assert Schema.parse(text).name == "R"
    else:
        with pytest.raises(SchemaError, match=r"field 'a': its default .* is not of its type"):
            Schema.parse(text)


def test_defaults_that_take_too_long_to_check_are_refused() -> None:
    enums = [{"type": "enum", "name": f"E{at}", "symbols": ["A"]} for at in range(1_000)]
    many = {"type": "array", "items": [*enums, "string"]}
    field = {"name": "a", "type": many, "default": ["B"] * 5_000}
    with pytest.raises(SchemaError, match="field 'a': the schema's defaults are too long to be checked"):
        checked({"type": "record", "name": "R", "fields": [field]})


@pytest.mark.parametrize("alias", ["a\0b", "\ud800"])
def test_an_alias_that_postgresql_cannot_store_is_refused(alias: str) -> None:
    field = {"name": "a", "type": "double", "aliases": [alias]}
    with pytest.raises(SchemaError, match="field 'a': its aliases must not hold a NUL or half a surrogate pair"):
        checked({"type": "record", "name": "R", "fields": [field]})


def test_a_union_distinguishes_named_types_by_their_full_names() -> None:
    def union(*branches: Any) -> Any:
        return {"type": "record", "name": "shop.R", "fields": [{"name": "a", "type": list(branches)}]}

    here, there = ({"type": "enum", "name": "X", "namespace": space, "symbols": ["A"]} for space in ("shop", "far"))
    assert checked(union(here, there)).name == "shop.R"
    for same in ((here, "X"), (here, "shop.X"), (here, {"type": "X"}), ("int", {"type": "int"})):
        with pytest.raises(SchemaError, match="must not have the same type twice"):
            checked(union(*same))


def test_stores_are_asked_in_turn() -> None:
    store = ChainedSchemas(packaged_schemas(), MemorySchemas([FLIGHT.live]))
    assert store.find(FLIGHT.live.fingerprint) == FLIGHT.live
    assert store.find(record_schema("Label").fingerprint) is not None
    assert store.find(Fingerprint(bytes(8))) is None


@pytest.mark.parametrize("name", ["", "a.b", "../x", "ü", "-x", "a" * 81])
def test_names_that_cannot_be_topics_are_refused(name: str) -> None:
    with pytest.raises(ConfigurationError):
        Topics(name)
    with pytest.raises(ConfigurationError):
        Topics("s").shadow(name)


def test_topic_names() -> None:
    topics = Topics("flight-delay")
    assert topics.live == "gnomon.flight-delay.live"
    assert topics.shadow("boosting") == "gnomon.flight-delay.shadow.boosting"
    assert topics.dead_letters == "gnomon.flight-delay.dlq"
