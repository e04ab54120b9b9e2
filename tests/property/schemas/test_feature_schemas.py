"""No schema that the hook takes and nobody can read: whatever `FeatureSchema.of` accepts is written and read by all."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.damaged_schemas import SEEDS, mutated, read_by_all

from gnomon_producer.errors import Dropped
from gnomon_schemas.checking import avro_name
from gnomon_schemas.errors import SchemaError
from gnomon_schemas.features import LOGICAL, FeatureSchema
from gnomon_schemas.schema import Json

names = st.sampled_from(["a", "b", "c", "unit price", "größe", "x.y", "1st", "a_b", "-", "given", "type", "name", "_"])
symbols = st.lists(st.sampled_from(["A", "B", "null", "_1"]), min_size=1, max_size=3, unique=True)
numbers = st.sampled_from(["int", "long", "float", "double"])
scalars = st.sampled_from(["boolean", "int", "long", "float", "double", "string"])
logicals = st.sampled_from(sorted(LOGICAL)).map(lambda one: {"type": LOGICAL[one], "logicalType": one})


@st.composite
def kinds(draw: st.DrawFn, depth: int = 0) -> Json:
    """A type of a feature as people write it: wrapped, nullable, in unions, nested, or none at all."""
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


@given(records, st.randoms(use_true_random=False))
def test_what_the_hook_takes_is_read_by_all(source: Json, draw: random.Random) -> None:
    try:
        schema = FeatureSchema.of(source)
    except SchemaError:
        return
    read_by_all(schema, draw)


@given(records, st.randoms(use_true_random=False))
def test_two_readings_of_one_wire_format_have_two_fingerprints(source: Json, draw: random.Random) -> None:
    """The canonical form knows neither aliases nor logical types; a fingerprint has to."""
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
