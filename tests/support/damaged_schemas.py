"""Schemas of features damaged at random, and a check that every reader reads what the hook writes by a schema."""

import json
import math
import random
from typing import Any

from gnomon_producer.binding import FeatureBinder
from gnomon_producer.encoding import live_encoder
from gnomon_schemas.codec import Codec, Reader
from gnomon_schemas.columnar import ColumnarReader
from gnomon_schemas.features import Feature, FeatureSchema
from gnomon_schemas.schema import Json, Schema
from gnomon_schemas.store import MemorySchemas
from gnomon_schemas.strict import measure


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
        measure(Codec(published)._expanded, message, 10)
    batches = ColumnarReader(store).decode(messages)
    assert batches.errors == {}
    assert [record["features"] for group in batches.groups for record in group.records()] == one_by_one


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
    """Every place of a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, part in inner for found in places(part, (*path, key)))]


def mutated(seed: Json, draw: random.Random) -> Json:
    """A JSON value changed in one to three places: replaced, left out, doubled, or put under another key."""
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
