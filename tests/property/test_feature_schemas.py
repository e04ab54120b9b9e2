"""Every schema that `FeatureSchema.of` accepts can be written and read by all components."""

import json
import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon_producer.binding import FeatureBinder
from gnomon_producer.encoding import live_encoder
from gnomon_producer.errors import Dropped
from gnomon_schemas.checking import avro_name
from gnomon_schemas.codec import Codec, Reader
from gnomon_schemas.columnar import ColumnarReader
from gnomon_schemas.errors import SchemaError
from gnomon_schemas.features import LOGICAL, Feature, FeatureSchema
from gnomon_schemas.schema import Json, Schema
from gnomon_schemas.store import MemorySchemas
from gnomon_schemas.strict import measure

names = st.sampled_from(["a", "b", "c", "unit price", "größe", "x.y", "1st", "a_b", "-", "given", "type", "name", "_"])
symbols = st.lists(st.sampled_from(["A", "B", "null", "_1"]), min_size=1, max_size=3, unique=True)
numbers = st.sampled_from(["int", "long", "float", "double"])
scalars = st.sampled_from(["boolean", "int", "long", "float", "double", "string"])
logicals = st.sampled_from(sorted(LOGICAL)).map(lambda one: {"type": LOGICAL[one], "logicalType": one})


@st.composite
def kinds(draw: st.DrawFn, depth: int = 0) -> Json:
    """Draw a type of a feature as people write it: wrapped, nullable, in unions, nested, or none at all."""
    simple = st.one_of(
        scalars,
        scalars.map(lambda kind: {"type": kind}),
        logicals,
        st.builds(lambda all_of: {"type": "enum", "name": draw(st.sampled_from("EFG")), "symbols": all_of}, symbols),
        st.sampled_from(["E", "F", "null", "bytes", "nonsense"]),
        numbers.map(lambda kind: {"type": "array", "items": kind}),
        st.sampled_from(["string", "boolean", {"type": "double"}, ["null", "int"]]).map(
            lambda kind: {"type": "array", "items": kind}
        ),
        numbers.map(lambda kind: {"type": "map", "values": kind}),
        st.lists(numbers, min_size=1, max_size=3, unique=True),
    )
    kind = draw(simple)
    if depth < 2 and draw(st.integers(0, 5)) == 0:
        fields = [
            {"name": avro_name(draw(names)), "type": draw(kinds(depth + 1))} for _ in range(draw(st.integers(1, 3)))
        ]
        kind = {"type": "record", "name": f"R{draw(st.integers(0, 9))}", "fields": fields}
    if isinstance(kind, list):
        return [*kind, "null"] if draw(st.booleans()) else kind
    nulls = draw(st.sampled_from(["none", "first", "last"]))
    return {"none": kind, "first": ["null", kind], "last": [kind, "null"]}[nulls]


records = st.one_of(
    st.dictionaries(names, kinds(), min_size=1, max_size=5),
    st.lists(st.tuples(names.map(avro_name), kinds()), min_size=1, max_size=5).map(
        lambda fields: {
            "type": "record",
            "name": "F",
            "namespace": "x.y",
            "fields": [{"name": name, "type": kind} for name, kind in fields],
        }
    ),
)


def value_of(feature: Feature, draw: random.Random) -> Any:
    if feature.kind == "null" or (feature.nullable and draw.random() < 0.3):
        return None
    if feature.kind == "array":
        return [_scalar(feature.items or "", draw) for _ in range(draw.randrange(3))]
    if feature.kind == "map":
        return {f"k{at}": _scalar(feature.items or "", draw) for at in range(draw.randrange(3))}
    return draw.choice(feature.symbols) if feature.kind == "enum" else _scalar(feature.kind, draw)


def _scalar(kind: str, draw: random.Random) -> Any:
    return {
        "boolean": draw.random() < 0.5,
        "int": draw.randrange(-(2**31), 2**31),
        "long": draw.randrange(-(2**63), 2**63),
        "float": draw.choice([0.5, -1.0, math.inf]),
        "double": draw.choice([0.1, 1e300, -math.inf]),
        "string": draw.choice(["", "ü", "a\0b"]),
    }[kind]


@given(records, st.randoms(use_true_random=False))
def test_what_the_hook_takes_is_read_by_all(source: Json, draw: random.Random) -> None:
    try:
        schema = FeatureSchema.of(source)
    except SchemaError:
        return
    read_by_all(schema, draw)


def read_by_all(schema: FeatureSchema, draw: random.Random) -> None:
    published = Schema.parse(schema.live.text)  # as a reader receives it
    assert FeatureSchema.in_live(published).features == schema.features
    assert FeatureSchema.of(schema.record).features == schema.features, "a flat record is what it was"
    binder = FeatureBinder(schema, listed_only=False, encoder_checks=True)
    encode = live_encoder(schema, "p", ("m", "1"), 1.0, schema.live.fingerprint)
    rows = [{feature.name: value_of(feature, draw) for feature in schema.features} for _ in range(3)]
    bound = [binder.bind(row) for row in rows]
    messages = [encode(0, 1, "r", None, {}, None, values, None, None, None, None) for values in bound]
    store = MemorySchemas([published])
    one_by_one = [Reader(store).decode(message).record["features"] for message in messages]
    for row, read in zip(rows, one_by_one, strict=True):
        assert read == {feature.field: row[feature.name] for feature in schema.features}
    for message in messages:
        measure(Codec(published)._plain, message, 10)
    batches = ColumnarReader(store).decode(messages)
    assert batches.errors == {}
    assert [record["features"] for group in batches.groups for record in group.records()] == one_by_one


@given(records, st.randoms(use_true_random=False))
def test_two_readings_of_one_wire_format_have_two_fingerprints(source: Json, draw: random.Random) -> None:
    """The canonical form contains neither aliases nor logical types; the fingerprint must."""
    try:
        schema = FeatureSchema.of(source)
    except SchemaError:
        return
    for field in schema.record["fields"]:
        kind = field["type"]
        if isinstance(kind, dict) and "logicalType" in kind:
            other = {**field, "type": kind["type"]}
            fields = [other if one is field else one for one in schema.record["fields"]]
            assert FeatureSchema.of({**schema.record, "fields": fields}).live.fingerprint != schema.live.fingerprint


MUTATIONS = 3000
SEEDS: list[Json] = [
    {"amount": "double", "plan": {"type": "enum", "name": "Plan", "symbols": ["free", "gold"], "default": "free"}},
    {
        "type": "record", "name": "Visit", "namespace": "shop", "doc": "one",
        "fields": [
            {"name": "basket", "type": {"type": "array", "items": "double"}, "default": []},
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
            {"name": "home", "type": ["null", {"type": "record", "name": "Address", "fields": [
                {"name": "city", "type": "string", "aliases": ["the city"]}]}], "default": None},
            {"name": "work", "type": ["null", "Address"], "default": None},
            {"name": "counts", "type": {"type": "map", "values": "int"}},
        ],
    },
]  # fmt: skip
JUNK: list[Json] = [
    None, True, 0, -1, 1.5, "", "null", "bytes", "record", "Address", "a-b", "ü", [], {}, ["null"], [["null"]],
    ["int", "int"], {"type": "record"},
    {"type": {"type": "int"}}, {"type": ["null", "int"]}, {"type": "fixed", "name": "X", "size": 2},
    {"type": "array", "items": "null"}, {"type": "enum", "name": "E", "symbols": []}, {"name": 3, "type": "int"},
]  # fmt: skip


def places(value: Json, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return every position in a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, part in inner for found in places(part, (*path, key)))]


def mutated(seed: Json, draw: random.Random) -> Json:
    """Return a JSON value changed in one to three positions: replaced, left out, doubled, or under another key."""
    value = json.loads(json.dumps(seed))
    for _ in range(draw.randint(1, 3)):
        path = draw.choice(places(value))
        if not path:
            continue
        around = value
        for key in path[:-1]:
            around = around[key]
        last = path[-1]
        action = draw.randrange(4)
        if action == 0:
            around[last] = json.loads(json.dumps(draw.choice(JUNK)))
        elif action == 1:
            del around[last]
        elif isinstance(around, list):
            around.insert(last, around[last])
        else:
            around[draw.choice(["type", "items", "values", "name", "fields", "symbols", "default", "x y"])] = around[
                last
            ]
    return value


@pytest.mark.parametrize("seed", range(2))
def test_a_damaged_schema_is_refused_or_read_by_all(seed: int) -> None:
    draw = random.Random(seed)
    taken = 0
    for _ in range(MUTATIONS):
        source = mutated(SEEDS[seed], draw)
        try:
            schema = FeatureSchema.of(source)
        except SchemaError:
            continue
        taken += 1
        if taken % 8:  # reading takes longer than refusing
            continue
        try:
            read_by_all(schema, draw)
        except Dropped as dropped:
            raise AssertionError(f"{source}: {dropped}") from dropped
    assert taken > MUTATIONS / 20
