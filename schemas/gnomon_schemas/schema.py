"""Avro schemas as plain JSON: composing the packaged records, checking what comes from elsewhere."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from typing import Any

from fastavro.schema import SchemaParseException, UnknownType, fingerprint, to_parsing_canonical_form

from gnomon_schemas.errors import SchemaError
from gnomon_schemas.framing import Fingerprint

Json = Any
"""A schema as `json.loads` gives it; Avro's schema language is too dynamic for a narrower type."""

NAMESPACE = "gnomon.v1"
FEATURES = f"{NAMESPACE}.Features"
RECORDS = (
    "LivePrediction",
    "ShadowPrediction",
    "DeploymentStart",
    "SamplingWindow",
    "Label",
    "ProducerReport",
)

MAX_SCHEMA_BYTES = 262_144
"""A thousand features with their documentation fit; a bomb does not."""
MAX_DEPTH = 12

_AVRO_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "string"})


@dataclass(frozen=True)
class Schema:
    """One writer schema: `json` complete and self-contained, its `name` and its `fingerprint`."""

    json: Json

    @cached_property
    def name(self) -> str:
        """The record's full name."""
        return full_name(self.json)

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """CRC-64-AVRO of the parsing canonical form (Avro specification 1.12, "Schema Fingerprints")."""
        return Fingerprint(bytes.fromhex(fingerprint(to_parsing_canonical_form(self.json), "CRC-64-AVRO")))

    @cached_property
    def text(self) -> str:
        """Compact JSON, as published."""
        return json.dumps(self.json, separators=(",", ":"), sort_keys=False)

    @classmethod
    def parse(cls, text: str | bytes) -> "Schema":
        """Read and check a schema from outside; raise SchemaError that says what is wrong with it."""
        if len(text) > MAX_SCHEMA_BYTES:
            raise SchemaError(f"the schema has {len(text)} bytes, over the limit of {MAX_SCHEMA_BYTES}")
        try:
            loaded = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SchemaError(f"the schema is no JSON: {error}") from error
        return checked(loaded)


def full_name(schema: Json, namespace: str = "") -> str:
    """Return the full name of a named type."""
    name = str(schema["name"])
    space = str(schema.get("namespace", namespace))
    return name if "." in name or not space else f"{space}.{name}"


def checked(schema: Json) -> Schema:
    """Accept a record schema that both codecs can carry.

    Refused with SchemaError: no record, `bytes` or `fixed` (the columnar decoder has neither), recursion (fastavro
    crashes on deep recursion), a depth over MAX_DEPTH, what fastavro cannot parse.
    """
    if not isinstance(schema, Mapping) or schema.get("type") != "record" or not schema.get("name"):
        raise SchemaError("the schema is not a named Avro record")
    _Checker().check(schema, namespace="", depth=0)
    try:
        result = Schema(schema)
        _ = result.fingerprint
    except (SchemaParseException, UnknownType, KeyError, TypeError, ValueError) as error:
        raise SchemaError(f"the schema cannot be parsed: {error}") from error
    return result


class _Checker:
    """One walk over a schema; `open` are the records around this place, so meeting one again is recursion."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._open: set[str] = set()

    def check(self, schema: Json, namespace: str, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise SchemaError(f"the schema is nested deeper than {MAX_DEPTH}")
        if isinstance(schema, str):
            self._check_name(schema, namespace)
        elif isinstance(schema, list):
            for branch in schema:
                self.check(branch, namespace, depth + 1)
        elif not isinstance(schema, Mapping):
            raise SchemaError(f"the schema holds {schema!r} where a type belongs")
        elif schema.get("type") in ("record", "enum"):
            self._check_named_type(schema, namespace, depth)
        elif schema.get("type") == "array":
            if schema.get("items") == "null":
                raise SchemaError("the schema has an array of null, whose items take no bytes")
            self.check(schema.get("items"), namespace, depth + 1)
        elif schema.get("type") == "map":
            self.check(schema.get("values"), namespace, depth + 1)
        else:
            self.check(schema.get("type"), namespace, depth + 1)

    def _check_name(self, name: str, namespace: str) -> None:
        qualified = name if "." in name or not namespace else f"{namespace}.{name}"
        if name in _PRIMITIVES or not self._known.isdisjoint((name, qualified)):
            return
        if not self._open.isdisjoint((name, qualified)):
            raise SchemaError(f"the schema is recursive at {name!r}")
        raise SchemaError(f"the schema uses {name!r}, which is unknown or not supported")

    def _check_named_type(self, schema: Mapping[str, Json], namespace: str, depth: int) -> None:
        if not schema.get("name"):
            raise SchemaError(f"the schema has a {schema['type']} without a name")
        name = full_name(schema, namespace)
        if name in self._known or name in self._open:
            raise SchemaError(f"the schema defines {name!r} twice")
        if schema["type"] == "record":
            self._open.add(name)
            for field in _fields(schema, name):
                self.check(field["type"], name.rpartition(".")[0], depth + 1)
            self._open.discard(name)
        self._known.add(name)


def _fields(schema: Mapping[str, Json], name: str) -> Iterator[Mapping[str, Json]]:
    fields = schema.get("fields")
    if not isinstance(fields, list) or not fields:
        raise SchemaError(f"the record {name!r} has no fields")
    for field in fields:
        if not isinstance(field, Mapping) or "name" not in field or "type" not in field:
            raise SchemaError(f"the record {name!r} has a field without a name or type")
        if not isinstance(field["name"], str) or not _AVRO_NAME.fullmatch(field["name"]):
            raise SchemaError(f"the field name {field['name']!r} is none: letters, digits and '_', not a digit first")
        yield field


@cache
def _packaged(name: str) -> Json:
    """Return one file of avsc/, with references by name still in it."""
    return json.loads(files("gnomon_schemas").joinpath(f"avsc/{name}.avsc").read_text(encoding="utf-8"))


def _inline(schema: Json, done: set[str], replaced: Mapping[str, Json]) -> Json:
    """Put each packaged type in the place where it is named first, so that the result stands alone."""
    if isinstance(schema, str):
        if schema in done or not schema.startswith(f"{NAMESPACE}."):
            return schema
        if schema in replaced:
            return replaced[schema]
        done.add(schema)
        return _inline(_packaged(schema.removeprefix(f"{NAMESPACE}.")), done, replaced)
    if isinstance(schema, list):
        return [_inline(branch, done, replaced) for branch in schema]
    result = dict(schema)
    for key in ("type", "items", "values"):
        if key in result:
            result[key] = _inline(result[key], done, replaced)
    if "fields" in result:
        result["fields"] = [_inline(field, done, replaced) for field in result["fields"]]
    return result


@cache
def record_schema(name: str) -> Schema:
    """Return the schema of a packaged record that needs no feature record, such as `SamplingWindow`."""
    return checked(_inline(_packaged(name), set(), {}))


def earlier_schemas() -> list[Schema]:
    """Return the packaged records as earlier versions of Gnomon wrote them: their topics may still hold some."""
    folder = files("gnomon_schemas").joinpath("avsc/earlier")
    return [Schema.parse(path.read_bytes()) for path in folder.iterdir() if path.name.endswith(".avsc")]


def live_schema(features: Json) -> Schema:
    """Compose LivePrediction with a stream's own feature record (see `features.FeatureSchema.record`)."""
    return checked(_inline(_packaged("LivePrediction"), set(), {FEATURES: features}))


def features_of(live: Schema) -> Json:
    """Return the feature record inside a composed LivePrediction; raise SchemaError where there is none."""
    for field in live.json["fields"]:
        if field["name"] == "features":
            return field["type"]
    raise SchemaError(f"{live.name} has no features")


def without_logical_types(schema: Json) -> Json:
    """Return the schema with times as plain longs: Gnomon counts microseconds and makes no datetime for a row."""
    if isinstance(schema, list):
        return [without_logical_types(branch) for branch in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {
        key: [dict(field, type=without_logical_types(field["type"])) for field in value]
        if key == "fields"
        else without_logical_types(value)
        if key in ("type", "items", "values")
        else value
        for key, value in schema.items()
        if key != "logicalType"
    }
