"""The Arrow type of each Avro type, the types that pyruhvro supports, and the columns that can be encoded."""

import itertools
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from gnomon_schemas.checking import full_name
from gnomon_schemas.schema import Json
from gnomon_schemas.strict import has_several, several

_PRIMITIVES = {
    "null": pa.null(),
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "bytes": pa.binary(),
}


def bare(schema: Json) -> Json:
    """Return a schema without documentation and with every named type in the place of its references.

    So each type is complete, and a batch carries no metadata. Names are made unique by their position, because a type
    may occur several times.
    """
    return _Bare().inline(schema, "", "r")


class _Bare:
    def __init__(self) -> None:
        self._named: dict[str, tuple[Json, str]] = {}

    def inline(self, schema: Json, namespace: str, place: str) -> Json:
        if isinstance(schema, list):
            return [self.inline(branch, namespace, f"{place}_{at}") for at, branch in enumerate(schema)]
        if isinstance(schema, str):
            return self._reference(schema, namespace, place)
        kind = schema["type"]
        if kind == "array":
            return {"type": kind, "items": self.inline(schema["items"], namespace, f"{place}_i")}
        if kind == "map":
            return {"type": kind, "values": self.inline(schema["values"], namespace, f"{place}_v")}
        if kind in ("record", "enum", "fixed"):
            name = full_name(schema, namespace)
            self._named[name] = (schema, namespace)
            return self._definition(schema, name.rpartition(".")[0], place)
        return self.inline(kind, namespace, place)

    def _definition(self, schema: Json, namespace: str, place: str) -> Json:
        kind = schema["type"]
        if kind == "record":
            fields = [
                {"name": field["name"], "type": self.inline(field["type"], namespace, f"{place}_{at}")}
                for at, field in enumerate(schema["fields"])
            ]
            return {"type": kind, "name": place, "fields": fields}
        key = "symbols" if kind == "enum" else "size"
        return {"type": kind, "name": place, key: schema[key]}

    def _reference(self, name: str, namespace: str, place: str) -> Json:
        if name in _PRIMITIVES:
            return name
        qualified = name if "." in name or not namespace else f"{namespace}.{name}"
        schema, outer = self._named.get(qualified) or self._named[name]
        return self._definition(schema, full_name(schema, outer).rpartition(".")[0], place)


def arrow_type(schema: Json) -> pa.DataType:
    """Return the Arrow type of a bare Avro type; times are integers, enums strings, a union with null its other branch.

    A union of several types is a dense union of its branches, named by their positions.
    """
    if isinstance(schema, str):
        return _PRIMITIVES[schema]
    if isinstance(schema, list):
        if several(schema):
            return pa.dense_union([pa.field(str(at), arrow_type(branch)) for at, branch in enumerate(schema)])
        return arrow_type(_branch(schema))
    kind = schema["type"]
    if kind == "record":
        return pa.struct(_fields(schema))
    if kind == "array":
        return pa.list_(pa.field("item", arrow_type(schema["items"])))
    if kind == "map":
        return pa.map_(pa.string(), pa.field("value", arrow_type(schema["values"])))
    return pa.string() if kind == "enum" else pa.binary(schema["size"])


def _branch(union: Sequence[Json]) -> Json:
    """Return the one type of a union that is not null."""
    return next((branch for branch in union if branch != "null"), "null")


def _fields(schema: Json) -> list[pa.Field]:
    return [pa.field(field["name"], arrow_type(field["type"])) for field in schema["fields"]]


def arrow_schema(schema: Json) -> pa.Schema:
    """Return the columns of a bare record schema.

    All are nullable in Arrow: the Avro schema decides where null may be.
    """
    return pa.schema(_fields(schema))


def array_of(values: Sequence[Any], schema: Json) -> pa.Array:
    """Return values of a bare type as an array; `pa.array` alone fills no union of several types."""
    if not has_several(schema):
        return pa.array(values, arrow_type(schema))
    if isinstance(schema, list):
        return _union_of(values, schema) if several(schema) else array_of(values, _branch(schema))
    gone = pa.array([value is None for value in values], pa.bool_())
    kind = schema["type"]
    if kind == "record":
        parts = [
            array_of([None if value is None else value[field["name"]] for value in values], field["type"])
            for field in schema["fields"]
        ]
        return pa.StructArray.from_arrays(parts, fields=arrow_type(schema).fields, mask=gone)
    ends = pa.array(itertools.accumulate((len(value or ()) for value in values), initial=0), pa.int32())
    if kind == "array":
        items = array_of([item for value in values for item in value or ()], schema["items"])
        return pa.ListArray.from_arrays(ends, items, type=arrow_type(schema), mask=gone)
    keys = pa.array([key for value in values for key in value or ()], pa.string())
    items = array_of([item for value in values for item in (value or {}).values()], schema["values"])
    return pa.MapArray.from_arrays(ends, keys, items, type=arrow_type(schema), mask=gone)


def _union_of(values: Sequence[Any], union: Sequence[Json]) -> pa.Array:
    """Return a dense union: each value in the first branch that returns it unchanged."""
    held: list[list[Any]] = [[] for _ in union]
    kinds, places = [], []
    for value in values:
        at = next((at for at, branch in enumerate(union) if _holds(branch, value)), None)
        # Below a null record the value is ignored, so any branch will do: Arrow never reports a union as null.
        at = 0 if at is None and value is None else at
        if at is None:
            raise ValueError(f"{value!r} is of no type of its union")
        kinds.append(at)
        places.append(len(held[at]))
        held[at].append(value)
    parts = [array_of(part, branch) for part, branch in zip(held, union, strict=True)]
    names = [str(at) for at in range(len(union))]
    return pa.UnionArray.from_dense(pa.array(kinds, pa.int8()), pa.array(places, pa.int32()), parts, names)


def _holds(branch: Json, value: Any) -> bool:
    if (value is None) != (branch == "null"):
        return False
    try:
        return _same(values_of(array_of([value], branch))[0], value)
    except (pa.ArrowException, TypeError, ValueError, KeyError, AttributeError, OverflowError):
        return False


def _same(one: Any, other: Any) -> bool:
    """Return whether two values are equal and of the same types; NaN is equal to itself."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other or (one != one and other != other))  # NaN is not equal to itself


def values_of(column: pa.Array | pa.RecordBatch) -> list[Any]:
    """Return plain values, maps as dicts (of a key that comes twice, the last)."""
    try:
        values: list[Any] = column.to_pylist(maps_as_pydicts="strict")
    except KeyError:
        with warnings.catch_warnings(action="ignore"):
            values = column.to_pylist(maps_as_pydicts="lossy")
    return values


def carried(schema: Json, *, inner: bool = False) -> bool:
    """Return whether pyruhvro supports a bare type: it panics at `bytes` and `fixed`, and knows only unions with null.

    It also loops through an array whose items take no bytes, however many the message claims, and panics at a slice of
    a record whose inner records take none.
    """
    if isinstance(schema, str):
        return schema != "bytes"
    if isinstance(schema, list):
        return len(schema) == 2 and "null" in schema and all(carried(branch, inner=True) for branch in schema)
    kind = schema["type"]
    if kind == "record":
        whole = not inner or _takes_bytes(schema)
        return whole and all(carried(field["type"], inner=True) for field in schema["fields"])
    if kind == "array":
        return _takes_bytes(schema["items"]) and carried(schema["items"], inner=True)
    return bool(kind == "enum" or (kind == "map" and carried(schema["values"], inner=True)))


def _takes_bytes(schema: Json) -> bool:
    if isinstance(schema, Mapping) and schema["type"] == "record":
        return any(_takes_bytes(field["type"]) for field in schema["fields"])
    return bool(schema != "null")


def refuse_nulls(array: pa.Array, schema: Json, path: str) -> None:
    """Raise ValueError if a column holds null and its Avro type has none: pyruhvro would write zero instead."""
    if isinstance(schema, list):
        if not several(schema):  # for a union of several types the reference codec names what does not fit
            nullable = "null" in schema
            refuse_nulls(array.drop_null() if nullable and array.null_count else array, _branch(schema), path)
        return
    if schema == "null":
        return
    if array.null_count:
        raise ValueError(f"column {path} holds null, which the type {schema_kind(schema)} has not")
    if isinstance(schema, str):
        return
    if schema["type"] == "record":
        for at, field in enumerate(schema["fields"]):
            refuse_nulls(array.field(at), field["type"], f"{path}.{field['name']}")
    elif schema["type"] == "array":
        refuse_nulls(array.flatten(), schema["items"], f"{path}[]")
    elif schema["type"] == "map":
        entries = array.cast(pa.list_(pa.struct([("key", array.type.key_type), ("value", array.type.item_type)])))
        refuse_nulls(entries.flatten().field(1), schema["values"], f"{path}{{}}")


def schema_kind(schema: Json) -> str:
    """Return the Avro name of a type that is not a union."""
    return str(schema if isinstance(schema, str) else schema["type"])
