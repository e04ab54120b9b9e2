"""Every codec of the contract reads valid messages and refuses others; the columnar codec equals the reference."""

import json
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gnomon_schemas.codec import Codec, Reader, Record
from gnomon_schemas.columnar import ColumnarCodec, ColumnarReader, records_of
from gnomon_schemas.errors import DecodeError
from gnomon_schemas.features import FeatureSchema
from gnomon_schemas.framing import RegistryId
from gnomon_schemas.schema import RECORDS, Schema, live_schema, record_schema
from gnomon_schemas.store import MemorySchemas

Outcome = Record | str
"""The result for a message: its record, or the reason of its refusal."""
Decode = Callable[[MemorySchemas, Sequence[bytes | None]], list[Outcome]]
Encode = Callable[[Schema, Sequence[Record]], list[bytes]]


def reference_decode(schemas: MemorySchemas, messages: Sequence[bytes | None]) -> list[Outcome]:
    reader = Reader(schemas)
    outcomes: list[Outcome] = []
    for message in messages:
        try:
            outcomes.append(reader.decode(message).record)
        except DecodeError as error:
            outcomes.append(error.reason)
    return outcomes


def columnar_decode(schemas: MemorySchemas, messages: Sequence[bytes | None]) -> list[Outcome]:
    batches = ColumnarReader(schemas).decode(messages)
    outcomes: dict[int, Outcome] = {place: error.reason for place, error in batches.errors.items()}
    for group in batches.groups:
        assert list(group.rows) == sorted(group.rows)
        for place, record in zip(group.rows.tolist(), group.records(), strict=True):
            assert place not in outcomes
            outcomes[place] = record
    return [outcomes[place] for place in range(len(messages))]


def reference_encode(schema: Schema, records: Sequence[Record]) -> list[bytes]:
    codec = Codec(schema)
    return [codec.encode(record) for record in records]


def columnar_encode(schema: Schema, records: Sequence[Record]) -> list[bytes]:
    codec = ColumnarCodec(schema)
    return codec.encode(codec.batch(records))


@pytest.fixture(params=[reference_decode, columnar_decode], ids=["reference", "columnar"])
def decode(request: pytest.FixtureRequest) -> Decode:
    chosen: Decode = request.param
    return chosen


@pytest.fixture(params=[reference_encode, columnar_encode], ids=["reference", "columnar"])
def encode(request: pytest.FixtureRequest) -> Encode:
    chosen: Encode = request.param
    return chosen


def varint(number: int) -> bytes:
    """Return a number as zig-zag varint, as many bytes as it needs (numbers of over 64 bits too)."""
    number = number << 1 if number >= 0 else (-number << 1) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def one_field(kind: Any) -> Schema:
    return Schema({"type": "record", "name": "gnomon.test.One", "fields": [{"name": "x", "type": kind}]})


ENUM = {"type": "enum", "name": "gnomon.test.E", "symbols": ["A", "B", "C"]}
DOUBLES = {"type": "array", "items": "double"}
LONGS = {"type": "array", "items": "long"}
TEXTS = {"type": "map", "values": "string"}
ONE = struct.pack("<d", 1.0)

RIGHT = {
    "union, null second": (["double", "null"], varint(1), None),
    "overlong number": ("long", b"\x82\x80\x00", 1),
    "smallest long": ("long", varint(-(2**63)), -(2**63)),
    "largest int": ("int", varint(2**31 - 1), 2**31 - 1),
    "array in two blocks": (LONGS, varint(1) + varint(7) + varint(1) + varint(8) + varint(0), [7, 8]),
    "array block with its size": (LONGS, varint(-2) + varint(2) + varint(7) + varint(8) + varint(0), [7, 8]),
    "map with a key twice": (TEXTS, varint(2) + b"\x02a\x02x" + b"\x02a\x02y" + varint(0), {"a": "y"}),
    "infinity": ("double", struct.pack("<d", float("inf")), float("inf")),
    "text beyond the basic plane": ("string", varint(4) + "𝄞".encode(), "𝄞"),
    "null": ("null", b"", None),
}


@pytest.mark.parametrize(("kind", "body", "value"), RIGHT.values(), ids=RIGHT)
def test_unusual_but_right_bodies_are_read(decode: Decode, kind: Any, body: bytes, value: Any) -> None:
    schema = one_field(kind)
    assert decode(MemorySchemas([schema]), [schema.fingerprint.header + body]) == [{"x": value}]


DATE = {"type": "int", "logicalType": "date"}
WRONG = {
    "enum index -1": (ENUM, varint(-1), "invalid"),
    "enum index 3 of 3": (ENUM, varint(3), "invalid"),
    "union index -1": (["null", "string"], varint(-1) + b"\x02a", "invalid"),
    "union index 2 of 2": (["null", "string"], varint(2) + b"\x02a", "invalid"),
    "boolean 2": ("boolean", b"\x02", "invalid"),
    "int of 33 bits": ("int", varint(2**31), "invalid"),
    "int below 32 bits": ("int", varint(-(2**31) - 1), "invalid"),
    "int of 33 bits in an array": (
        {"type": "array", "items": "int"},
        varint(1) + varint(2**31) + varint(0),
        "invalid",
    ),
    "date of 33 bits": (DATE, varint(2**31), "invalid"),
    "date of 40 bits that may be null": (["null", DATE], varint(1) + varint(2**40), "invalid"),
    "date of 33 bits in an array": ({"type": "array", "items": DATE}, varint(1) + varint(2**31) + varint(0), "invalid"),
    "int of 33 bits, written at length": ({"type": "int", "doc": "a count"}, varint(2**31), "invalid"),
    "long of 65 bits": ("long", varint(2**64), "invalid"),
    "number without an end": ("long", b"\xff" * 12, "invalid"),
    "text of negative length": ("string", varint(-3) + b"abc", None),
    "text longer than the message": ("string", varint(2**62) + b"abc", None),
    "no UTF-8": ("string", varint(2) + b"\xff\xfe", "invalid"),
    "no UTF-8 in a map's value": (TEXTS, varint(1) + b"\x02a" + varint(1) + b"\xff" + varint(0), "invalid"),
    "no UTF-8 in a map's key": (TEXTS, varint(1) + varint(1) + b"\xff" + b"\x02a" + varint(0), "invalid"),
    "a surrogate": ("string", varint(3) + b"\xed\xa0\x80", "invalid"),
    "trailing byte": ("long", varint(3) + b"\x00", "trailing_bytes"),
    "nothing": ("long", b"", "truncated"),
    "half a double": ("double", b"\x00" * 4, "truncated"),
    "array that claims more than there is": (DOUBLES, varint(2**40) + ONE, None),
    "array block whose size is wrong": (LONGS, varint(-2) + varint(77) + b"\x0e\x10" + varint(0), "invalid"),
    "map that claims more than there is": (TEXTS, varint(2**50) + b"\x02a", None),
}


GOOD: dict[str, Any] = {
    "enum": "B", "array": [], "map": {}, "boolean": True, "int": 5, "long": 5, "string": "five", "double": 5.0,
}  # fmt: skip


@pytest.mark.parametrize(("kind", "body", "reason"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("place", [0, 20, 39])
def test_wrong_bodies_are_refused_and_cost_no_other(
    decode: Decode, kind: Any, body: bytes, reason: str | None, place: int
) -> None:
    """One wrong body, at every position of a batch, does not affect the other messages."""
    schema = one_field(kind)
    while isinstance(kind, dict):
        kind = kind["type"]
    value = GOOD.get(str(kind))
    good = Codec(schema).encode({"x": value})
    messages: list[bytes | None] = [good] * 40
    messages[place] = schema.fingerprint.header + body
    outcomes = decode(MemorySchemas([schema]), messages)
    refused = outcomes.pop(place)
    assert refused == reason or (reason is None and refused in ("truncated", "invalid"))
    assert outcomes == [{"x": value}] * 39


def test_headers_are_sorted_out_in_one_batch(decode: Decode) -> None:
    """Two writer schemas, a registry id, nothing, noise, an unknown schema and an over-long message, mixed."""
    old, new = FeatureSchema.of({"a": "long"}).live, FeatureSchema.of({"b": ["null", "string"], "a": "long"}).live
    capture = example("LivePrediction")
    first = Codec(old).encode({**capture, "features": {"a": 1}})
    second = Codec(new).encode({**capture, "features": {"a": 2, "b": "two"}})
    schemas = MemorySchemas([old, new])
    schemas.add_schema(new, RegistryId(7))
    third = Codec(new, RegistryId(7)).encode({**capture, "features": {"a": 3, "b": None}})
    unknown = b"\xc3\x01" + b"\x00" * 8 + first[10:]
    outcomes = decode(schemas, [first, None, second, b"", b"noise", third, unknown, first + b"\x00" * 1_048_576, first])
    assert [outcome if isinstance(outcome, str) else outcome["features"] for outcome in outcomes] == [
        {"a": 1},
        "empty",
        {"b": "two", "a": 2},
        "empty",
        "framing",
        {"b": None, "a": 3},
        "unknown_schema",
        "too_large",
        {"a": 1},
    ]


def test_nothing_is_decoded_to_nothing(decode: Decode) -> None:
    assert decode(MemorySchemas([one_field("long")]), []) == []


def example(name: str) -> Record:
    loaded: Record = json.loads(files("gnomon_schemas").joinpath(f"examples/{name}.json").read_text())
    return loaded


@pytest.mark.parametrize("name", RECORDS)
def test_packaged_examples_make_the_round_trip(encode: Encode, decode: Decode, name: str) -> None:
    record = example(name)
    schema = record_schema(name) if name != "LivePrediction" else flights().live
    assert decode(MemorySchemas([schema]), encode(schema, [record] * 3)) == [record] * 3


def flights() -> FeatureSchema:
    return FeatureSchema.of({"distance": "double", "hour": "int", "carrier": "string"})


def test_the_packaged_records_are_carried_in_columns() -> None:
    """If one of them were left to the reference, everything would still be correct, but ten times slower."""
    for name in RECORDS:
        assert ColumnarCodec(record_schema(name) if name != "LivePrediction" else flights().live).carried


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("bytes", b"\x00\xff"),
        ({"type": "fixed", "name": "F", "size": 2}, b"\x00\xff"),
        ({"type": "array", "items": {"type": "record", "name": "N", "fields": [{"name": "n", "type": "null"}]}}, []),
        ({"type": "record", "name": "O", "fields": [{"name": "n", "type": "null"}]}, {"n": None}),
        (["null", "string", "long"], "text"),
        (["null", "string", "long"], 5),
        (["null", "string", "long"], None),
        ({"type": "array", "items": ["string", "boolean", "double"]}, ["a", True, 1.0, "b"]),
    ],
    ids=[
        "bytes",
        "fixed",
        "items without bytes",
        "a record without bytes",
        "union: text",
        "union: number",
        "union: null",
        "array of unions",
    ],
)
def test_a_type_that_pyruhvro_lacks_goes_by_the_reference(kind: Any, value: Any) -> None:
    schema = Schema(
        {"type": "record", "name": "R", "fields": [{"name": "x", "type": kind}, {"name": "y", "type": "long"}]}
    )
    codec = ColumnarCodec(schema)
    assert not codec.carried
    records = [{"x": value, "y": number} for number in range(3)]
    messages = [Codec(schema).encode(record) for record in records]
    decoded = codec.decode([*messages, messages[0] + b"\x00"])
    assert decoded.records() == records
    assert [error.reason for error in decoded.errors.values()] == ["trailing_bytes"]
    assert codec.encode(decoded.batch) == messages


def test_captures_of_features_that_no_model_can_take_are_refused_and_named() -> None:
    """A union of several types, or a map, has no column in the database and none in a model."""
    capture = example("LivePrediction")
    for kind, value in ((["null", "string", "long"], 5), (TEXTS, {})):
        live = live_schema({"type": "record", "name": "F", "fields": [{"name": "odd", "type": kind}]})
        message = Codec(live).encode({**capture, "features": {"odd": value}})
        batches = ColumnarReader(MemorySchemas([live])).decode([message, message])
        assert not batches.groups
        assert [error.reason for error in batches.errors.values()] == ["invalid", "invalid"]
        assert "feature 'odd'" in str(batches.errors[0])


# What the encoder writes


def columns(**arrays: pa.Array) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(arrays)


NESTED = {"type": "record", "name": "N", "fields": [{"name": "a", "type": "int"}]}
UNWRITABLE = {
    "null in a long": ("long", pa.array([1, None])),
    "null in an array": (DOUBLES, pa.array([[1.0, None]])),
    "null in a map": (TEXTS, pa.array([[("a", None)]], pa.map_(pa.string(), pa.string()))),
    "null in a record": (["null", NESTED], pa.array([None, {"a": None}], pa.struct([("a", pa.int32())]))),
    "a symbol that the enum lacks": (ENUM, pa.array(["A", "Z"])),
    "text in a long": ("long", pa.array(["one"])),
    "too large for an int": ("int", pa.array([2**31])),
}


@pytest.mark.parametrize(("kind", "array"), UNWRITABLE.values(), ids=UNWRITABLE)
def test_columns_that_do_not_fit_are_refused(kind: Any, array: pa.Array) -> None:
    with pytest.raises(ValueError, match=r"x|symbol"):
        ColumnarCodec(one_field(kind)).encode(columns(x=array))


def test_a_missing_column_is_named() -> None:
    with pytest.raises(ValueError, match="column x is missing"):
        ColumnarCodec(one_field("long")).encode(columns(y=pa.array([1])))


def test_columns_are_taken_by_name_and_cast_where_nothing_is_lost() -> None:
    schema = Schema(
        {"type": "record", "name": "R", "fields": [{"name": "x", "type": "long"}, {"name": "y", "type": "string"}]}
    )
    batch = columns(z=pa.array([0, 0]), y=pa.array(["a", "b"]).dictionary_encode(), x=pa.array([1, 2], pa.int8()))
    expected = [Codec(schema).encode({"x": x, "y": y}) for x, y in [(1, "a"), (2, "b")]]
    assert ColumnarCodec(schema).encode(batch) == expected


def test_a_null_record_may_hold_anything_beneath() -> None:
    codec = ColumnarCodec(one_field(["null", NESTED]))
    hidden = pa.StructArray.from_arrays([pa.array([1, None], pa.int32())], ["a"], mask=pa.array([False, True]))
    assert records_of(codec.decode(codec.encode(columns(x=hidden))).batch) == [{"x": {"a": 1}}, {"x": None}]


# Properties

AT_LEISURE = settings(
    suppress_health_check=[HealthCheck.too_slow], deadline=None
)  # the schemas nest, and the machine may be shared
TEXT = st.text(max_size=8)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(allow_nan=False, width=32),
    "double": st.floats(allow_nan=False),
    "string": TEXT,
    "bytes": st.binary(max_size=4),
}


@st.composite
def typed(draw: st.DrawFn, depth: int, name: str) -> tuple[Any, st.SearchStrategy[Any]]:
    """Return an Avro type and its values; the names of nested types begin with `name`."""
    compound = ["enum", "fixed", "array", "map", "record", "union", "unions"] if depth else ["enum", "fixed"]
    kind = draw(st.sampled_from([*VALUES, *compound]))
    if kind == "enum":
        return {"type": "enum", "name": name, "symbols": ["A", "B", "C"]}, st.sampled_from("ABC")
    if kind == "fixed":
        return {"type": kind, "name": name, "size": 2}, st.binary(min_size=2, max_size=2)
    if kind in VALUES:
        at_length = kind != "null" and draw(st.booleans())
        return {"type": kind, "doc": "written at length"} if at_length else kind, VALUES[kind]
    if kind == "unions":
        # Not both: if a double comes first, the reference writes an int as a double, even if digits are lost.
        number = draw(st.sampled_from(["long", "double"]))
        branches = draw(st.lists(st.sampled_from(["null", "boolean", number, "string"]), min_size=2, unique=True))
        inner, values = draw(records_typed(depth - 1, name))
        return [*branches, inner], st.one_of([*(VALUES[branch] for branch in branches), values])
    if kind == "union":
        branch, values = draw(typed(0, name).filter(lambda drawn: drawn[0] != "null"))
        return draw(st.permutations(["null", branch])), st.none() | values
    if kind == "record":
        return draw(records_typed(depth - 1, name))
    inner, values = draw(typed(depth - 1, name + "_").filter(lambda drawn: drawn[0] != "null"))
    if kind == "array":
        return {"type": "array", "items": inner}, st.lists(values, max_size=4)
    return {"type": "map", "values": inner}, st.dictionaries(TEXT, values, max_size=3)


@st.composite
def records_typed(draw: st.DrawFn, depth: int, name: str) -> tuple[Any, st.SearchStrategy[Any]]:
    fields = [draw(typed(depth, f"{name}_{at}")) for at in range(draw(st.integers(1, 5)))]
    schema = {
        "type": "record",
        "name": name,
        "fields": [{"name": f"f{at}", "type": kind} for at, (kind, _) in enumerate(fields)],
    }
    return schema, st.fixed_dictionaries({f"f{at}": values for at, (_, values) in enumerate(fields)})


@st.composite
def written(draw: st.DrawFn) -> tuple[Schema, list[Record]]:
    """Return a schema and records with it."""
    schema, values = draw(records_typed(2, "Root"))
    return Schema(schema), draw(st.lists(values, max_size=24))


@AT_LEISURE
@given(written())
def test_both_codecs_write_the_same_bytes_and_read_the_same_values(drawn: tuple[Schema, list[Record]]) -> None:
    schema, records = drawn
    messages = reference_encode(schema, records)
    assert columnar_encode(schema, records) == messages
    assert columnar_decode(MemorySchemas([schema]), messages) == records
    codec, half = ColumnarCodec(schema), len(messages) // 2
    assert codec.encoded(codec.batch(records)[half:]).to_pylist() == messages[half:]
    assert codec.decode(messages[half:]).records() == records[half:]


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize(("kind", "values"), [("boolean", [True, False, True]), (["null", "string"], ["a", None, "c"])])
def test_a_slice_of_records_in_records(kind: Any, values: list[Any], depth: int) -> None:
    """pyruhvro panics at some of these slices."""
    for level in range(depth):
        kind = {"type": "record", "name": f"R{level}", "fields": [{"name": "f", "type": kind}]}
        values = [{"f": value} for value in values]
    schema = Schema({"type": "record", "name": "Root", "fields": [{"name": "f", "type": kind}]})
    records: list[Record] = [{"f": value} for value in values]
    codec = ColumnarCodec(schema)
    assert codec.encoded(codec.batch(records)[1:]).to_pylist() == reference_encode(schema, records)[1:]


@settings(AT_LEISURE, max_examples=300)
@given(written(), st.data())
def test_both_codecs_say_the_same_of_damaged_messages(drawn: tuple[Schema, list[Record]], data: st.DataObject) -> None:
    """Bytes are changed, cut off or added anywhere: both codecs give the same record or the same refusal."""
    schema, records = drawn
    messages = [bytearray(message) for message in reference_encode(schema, records)]
    for message in messages:
        damage = data.draw(st.sampled_from(["none", "change", "cut", "add"]))
        at = data.draw(st.integers(10, len(message)))
        if damage == "change" and at < len(message):
            message[at] = data.draw(st.integers(0, 255))
        elif damage == "cut":
            del message[at:]
        elif damage == "add":
            message[at:at] = data.draw(st.binary(min_size=1, max_size=3))
    damaged = [bytes(message) for message in messages]
    schemas = MemorySchemas([schema])
    # repr, because damage creates NaNs
    assert repr(columnar_decode(schemas, damaged)) == repr(reference_decode(schemas, damaged))


@AT_LEISURE
@given(st.lists(st.binary(max_size=60), max_size=30))
def test_arbitrary_bodies_get_the_same_answer(bodies: list[bytes]) -> None:
    schema = FeatureSchema.of({"a": "double", "b": ["null", "string"], "c": ["null", DOUBLES]}).live
    messages = [schema.fingerprint.header + body for body in bodies]
    schemas = MemorySchemas([schema])
    assert repr(columnar_decode(schemas, messages)) == repr(reference_decode(schemas, messages))


def test_the_reference_alone_imports_no_arrow() -> None:
    """A process with only the hook's dependencies has neither pyarrow nor pyruhvro."""
    modules = "gnomon_schemas.codec, gnomon_schemas.store, gnomon_schemas.features, gnomon_schemas.records"
    found = "sorted({'pyarrow', 'pyruhvro', 'numpy'} & set(sys.modules))"
    shown = subprocess.run(
        [sys.executable, "-c", f"import sys, {modules}; print({found})"], capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == "[]"
