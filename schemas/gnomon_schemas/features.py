"""A stream's feature record: a flat Avro record, and what each of its fields is."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from gnomon_schemas.drawing import draw_record, record_of
from gnomon_schemas.errors import SchemaError
from gnomon_schemas.schema import MAX_SCHEMA_BYTES, Json, Schema, checked, features_of, live_schema

Kind = Literal["null", "boolean", "int", "long", "float", "double", "string", "enum", "array"]
_SCALARS = frozenset({"null", "boolean", "int", "long", "float", "double", "string"})
_NUMBERS = frozenset({"int", "long", "float", "double"})
_ENVELOPE_TYPES = frozenset({"gnomon.v1.Model", "gnomon.v1.Prediction", "gnomon.v1.Failure", "gnomon.v1.FeatureState"})

FeatureSource = Any
"""A path of an `.avsc` file, an Avro record as dict, a mapping of names to Avro types, or a class to draw it from."""


@dataclass(frozen=True, slots=True)
class Feature:
    """One field: its Avro kind (of the branch that is not null), and what an enum or array holds."""

    name: str
    kind: Kind
    nullable: bool
    symbols: tuple[str, ...] = ()
    items: str | None = None

    @property
    def numeric(self) -> bool:
        """Whether a single number stands for it (booleans count as 0 and 1)."""
        return self.kind in _NUMBERS or self.kind == "boolean"

    @property
    def textual(self) -> bool:
        """Whether a single text stands for it."""
        return self.kind in ("string", "enum")


@dataclass(frozen=True)
class FeatureSchema:
    """The feature record of a stream, `record` being its Avro JSON."""

    record: Json

    @cached_property
    def features(self) -> tuple[Feature, ...]:
        """The fields in the record's order."""
        return tuple(_feature(field) for field in self.record["fields"])

    @cached_property
    def live(self) -> Schema:
        """LivePrediction with this record in it: the schema of the stream's captures."""
        return live_schema(self.record)

    @classmethod
    def of(cls, source: FeatureSource, name: str = "Features") -> "FeatureSchema":
        """Take a feature record from wherever it stands; raise SchemaError that names the field that cannot be carried.

        `source`: a path of an `.avsc` file, an Avro record as a dict, a mapping such as `{"amount": "double",
        "country": ["null", "string"]}`, a dataclass, TypedDict or pydantic model, or a FeatureSchema. `name` names the
        record where the source does not.
        """
        if isinstance(source, cls):
            return source
        if isinstance(source, type):
            source = draw_record(source)
        if isinstance(source, (str, Path)):
            source = _read(Path(source))
        if isinstance(source, Mapping) and source.get("type") != "record":
            source = record_of(name, source)
        result = cls(checked(source).json)
        if full := _taken_name(result.record):
            raise SchemaError(f"the feature record uses the name {full!r}, which the envelope needs")
        _ = result.features, result.live
        return result

    @classmethod
    def in_live(cls, live: Schema) -> "FeatureSchema":
        """Return the feature record of a composed LivePrediction schema."""
        return cls(features_of(live))


def _read(path: Path) -> Json:
    try:
        if path.stat().st_size > MAX_SCHEMA_BYTES:
            raise SchemaError(f"{path}: over the limit of {MAX_SCHEMA_BYTES} bytes")
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SchemaError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        raise SchemaError(f"{path}: no JSON: {error}") from error


def _taken_name(record: Json) -> str | None:
    """Return a name of the envelope that the feature record defines, if any."""
    names = [record] + [field["type"] for field in record["fields"]]
    for named in names:
        if isinstance(named, Mapping) and "name" in named:
            space = named.get("namespace", record.get("namespace", "gnomon.v1"))
            if (full := f"{space}.{named['name']}") in _ENVELOPE_TYPES:
                return full
    return None


def _feature(field: Mapping[str, Any]) -> Feature:
    name, kind = field["name"], field["type"]
    nullable = False
    if isinstance(kind, list):
        branches = [branch for branch in kind if branch != "null"]
        nullable = len(branches) < len(kind)
        if len(branches) != 1:
            raise SchemaError(f"feature {name!r}: a union must be of null and one type, not {json.dumps(kind)}")
        kind = branches[0]
    if isinstance(kind, Mapping) and kind.get("type") in _SCALARS:
        kind = kind["type"]
    if isinstance(kind, str) and kind in _SCALARS:
        return Feature(name, kind, nullable or kind == "null")  # type: ignore[arg-type]  # narrowed by _SCALARS
    if isinstance(kind, Mapping) and kind.get("type") == "enum":
        return Feature(name, "enum", nullable, symbols=tuple(kind["symbols"]))
    if isinstance(kind, Mapping) and kind.get("type") == "array" and kind.get("items") in _NUMBERS:
        return Feature(name, "array", nullable, items=kind["items"])
    raise SchemaError(
        f"feature {name!r}: {json.dumps(kind)} is not a boolean, int, long, float, double, string, enum, array of"
        " numbers, or a union of null with one of them"
    )
