"""What Arrow type stands for an Avro type, which of them pyruhvro carries, and which columns can be encoded."""

from collections.abc import Mapping

import pyarrow as pa

from gnomon_schemas.errors import SchemaError
from gnomon_schemas.schema import Json, full_name

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

    So that one look at a type tells everything, and no metadata travels with each batch. Names are made unique by
    their place, since a type may stand in several.
    """
    return _Bare().of(schema, "", "r")


class _Bare:
    def __init__(self) -> None:
        self._named: dict[str, tuple[Json, str]] = {}

    def of(self, schema: Json, namespace: str, place: str) -> Json:
        if isinstance(schema, list):
            return [self.of(branch, namespace, f"{place}_{at}") for at, branch in enumerate(schema)]
        if isinstance(schema, str):
            return self._reference(schema, namespace, place)
        kind = schema["type"]
        if kind == "array":
            return {"type": kind, "items": self.of(schema["items"], namespace, f"{place}_i")}
        if kind == "map":
            return {"type": kind, "values": self.of(schema["values"], namespace, f"{place}_v")}
        if kind in ("record", "enum", "fixed"):
            name = full_name(schema, namespace)
            self._named[name] = (schema, namespace)
            return self._definition(schema, name.rpartition(".")[0], place)
        return self.of(kind, namespace, place)

    def _definition(self, schema: Json, namespace: str, place: str) -> Json:
        kind = schema["type"]
        if kind == "record":
            fields = [
                {"name": field["name"], "type": self.of(field["type"], namespace, f"{place}_{at}")}
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


def arrow_type(schema: Json, path: str = "") -> pa.DataType:
    """Return the Arrow type of a bare Avro type; times are integers, enums strings, a union with null its other branch.

    Raises SchemaError that names the field whose union has several types: there is no one column for them.
    """
    if isinstance(schema, str):
        return _PRIMITIVES[schema]
    if isinstance(schema, list):
        branches = [branch for branch in schema if branch != "null"]
        if len(branches) > 1:
            raise SchemaError(f"field {path}: a union of several types has no column; use null and one type")
        return arrow_type(branches[0] if branches else "null", path)
    kind = schema["type"]
    if kind == "record":
        return pa.struct(_fields(schema, path))
    if kind == "array":
        return pa.list_(pa.field("item", arrow_type(schema["items"], path)))
    if kind == "map":
        return pa.map_(pa.string(), pa.field("value", arrow_type(schema["values"], path)))
    return pa.string() if kind == "enum" else pa.binary(schema["size"])


def _fields(schema: Json, path: str) -> list[pa.Field]:
    return [
        pa.field(field["name"], arrow_type(field["type"], f"{path}.{field['name']}".lstrip(".")))
        for field in schema["fields"]
    ]


def arrow_schema(schema: Json) -> pa.Schema:
    """Return the columns of a bare record schema. All are nullable to Arrow: whether null may stand is Avro's say."""
    return pa.schema(_fields(schema, ""))


def carried(schema: Json) -> bool:
    """Whether pyruhvro carries a bare type: it panics at `bytes` and `fixed`.

    It also counts through an array whose items take no bytes, however many the message claims.
    """
    if isinstance(schema, str):
        return schema != "bytes"
    if isinstance(schema, list):
        return len(schema) == 2 and "null" in schema and all(carried(branch) for branch in schema)
    kind = schema["type"]
    if kind == "record":
        return all(carried(field["type"]) for field in schema["fields"])
    if kind == "array":
        return carried(schema["items"]) and _takes_bytes(schema["items"])
    return bool(kind == "enum" or (kind == "map" and carried(schema["values"])))


def _takes_bytes(schema: Json) -> bool:
    if isinstance(schema, Mapping) and schema["type"] == "record":
        return any(_takes_bytes(field["type"]) for field in schema["fields"])
    return bool(schema != "null")


def refuse_nulls(array: pa.Array, schema: Json, path: str) -> None:
    """Raise ValueError where a column holds null and its Avro type has none: pyruhvro would write zero instead."""
    if isinstance(schema, list):
        nullable = "null" in schema
        branch = next((branch for branch in schema if branch != "null"), "null")
        refuse_nulls(array.drop_null() if nullable and array.null_count else array, branch, path)
        return
    if schema == "null":
        return
    if array.null_count:
        raise ValueError(f"column {path} holds null, which its type {schema_kind(schema)} has not")
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
    """Return the Avro name of a type that is no union."""
    return str(schema if isinstance(schema, str) else schema["type"])
