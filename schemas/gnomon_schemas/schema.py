"""Avro schemas as plain JSON: composing the packaged records, checking external schemas."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files

from fastavro.schema import SchemaParseException, UnknownType, fingerprint, to_parsing_canonical_form

from gnomon_schemas.checking import Json as Json
from gnomon_schemas.checking import check, full_name
from gnomon_schemas.errors import SchemaError
from gnomon_schemas.framing import Fingerprint

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

MAX_SCHEMA_BYTES = 1_000_000
"""Maximum bytes of a published composed schema: it is one Kafka message, whose limit is 1 MiB by default."""


@dataclass(frozen=True)
class Schema:
    """One writer schema: `json` complete and self-contained, its `name` and its `fingerprint`."""

    json: Json

    @cached_property
    def name(self) -> str:
        """Return the record's full name."""
        return full_name(self.json)

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """Return the CRC-64-AVRO of the parsing canonical form (Avro specification 1.12, "Schema Fingerprints")."""
        return Fingerprint(bytes.fromhex(fingerprint(to_parsing_canonical_form(self.json), "CRC-64-AVRO")))

    @cached_property
    def text(self) -> str:
        """Return compact JSON, as published."""
        return json.dumps(self.json, separators=(",", ":"), sort_keys=False)

    @classmethod
    def parse(cls, text: str | bytes) -> "Schema":
        """Read and check an external schema; raise SchemaError that names the fault."""
        if len(text) > MAX_SCHEMA_BYTES:
            raise SchemaError(f"the schema has {len(text)} bytes, over the limit of {MAX_SCHEMA_BYTES}")
        try:
            loaded = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SchemaError(f"the schema is not JSON: {error}") from error
        return checked(loaded)


def checked(schema: Json) -> Schema:
    """Accept a record schema that both codecs support; raise SchemaError as `checking.check` does."""
    check(schema)
    try:
        result = Schema(schema)
        _ = result.fingerprint
    except (SchemaParseException, UnknownType, KeyError, TypeError, ValueError, OverflowError) as error:
        raise SchemaError(f"the schema cannot be parsed: {error}") from error
    return result


@cache
def _packaged(name: str) -> Json:
    """Return one file of avsc/, which still refers to types by name."""
    return json.loads(files("gnomon_schemas").joinpath(f"avsc/{name}.avsc").read_text(encoding="utf-8"))


def _inline(schema: Json, done: set[str], replaced: Mapping[str, Json]) -> Json:
    """Insert each packaged type at its first reference, so that the result is self-contained."""
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


def other_unit(name: str, writer: Schema) -> str | None:
    """Return the fault if a writer declares a field of a packaged record with another logical type, else None.

    Fingerprints leave logical types out: times in milliseconds would be read as microseconds.
    """
    units = _logical_types(_packaged(name))
    for field, unit in _logical_types(writer.json).items():
        if units.get(field, unit) != unit:
            return f"its {field} is a {unit}, a {name} has a {units[field]}"
    return None


def _logical_types(record: Json) -> dict[str, str]:
    """Return the logical types of a record's fields, also of those that may be null."""
    typed = ((field["name"], field["type"]) for field in record["fields"])
    branches = ((name, branch) for name, kind in typed for branch in (kind if isinstance(kind, list) else [kind]))
    return {name: kind["logicalType"] for name, kind in branches if isinstance(kind, dict) and "logicalType" in kind}


def earlier_schemas() -> list[Schema]:
    """Return the packaged records of earlier versions of Gnomon, which topics may still hold."""
    folder = files("gnomon_schemas").joinpath("avsc/earlier")
    return [Schema.parse(path.read_bytes()) for path in folder.iterdir() if path.name.endswith(".avsc")]


def live_schema(features: Json) -> Schema:
    """Compose LivePrediction with a stream's own feature record (see `features.FeatureSchema.record`)."""
    return checked(_inline(_packaged("LivePrediction"), set(), {FEATURES: features}))


def features_of(live: Schema) -> Json:
    """Return the feature record inside a composed LivePrediction; raise SchemaError if there is none."""
    for field in live.json["fields"]:
        if field["name"] == "features":
            return field["type"]
    raise SchemaError(f"{live.name} has no features")


def without_logical_types(schema: Json) -> Json:
    """Return the schema with times as plain numbers: Gnomon counts microseconds and creates no datetime for a row.

    `{"type": "int", …}` becomes `"int"`, so that no reader of the result has to know both forms.
    """
    if isinstance(schema, list):
        return [without_logical_types(branch) for branch in schema]
    if not isinstance(schema, Mapping):
        return schema
    kind = schema["type"]
    if kind not in ("record", "enum", "fixed", "array", "map"):
        return without_logical_types(kind)
    result = {key: value for key, value in schema.items() if key != "logicalType"}
    if kind == "record":
        result["fields"] = [{**field, "type": without_logical_types(field["type"])} for field in schema["fields"]]
    elif kind in _PARTS:
        result[_PARTS[kind]] = without_logical_types(schema[_PARTS[kind]])
    return result


_PARTS = {"array": "items", "map": "values"}
