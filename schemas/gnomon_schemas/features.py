"""A stream's feature record: a flat Avro record and the properties of its fields."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_origin

from gnomon_schemas.checking import first_repeated, full_name
from gnomon_schemas.drawing import draw_record, record_of
from gnomon_schemas.errors import SchemaError
from gnomon_schemas.flattening import display_name, flat_record
from gnomon_schemas.json_text import load_json
from gnomon_schemas.schema import MAX_SCHEMA_BYTES, Json, Schema, checked, features_of, live_schema

FeatureKind = Literal["null", "boolean", "int", "long", "float", "double", "string", "enum", "array", "map"]
_SCALARS = frozenset({"null", "boolean", "int", "long", "float", "double", "string"})
_NUMBERS = frozenset({"int", "long", "float", "double"})
_ITEMS = _NUMBERS | {"boolean", "string"}
_ENVELOPE_TYPES = frozenset({"gnomon.v1.Model", "gnomon.v1.Prediction", "gnomon.v1.Failure", "gnomon.v1.FeatureState"})
LOGICAL = {
    "date": "int",
    "time-millis": "int",
    "time-micros": "long",
    "timestamp-millis": "long",
    "timestamp-micros": "long",
    "local-timestamp-millis": "long",
    "local-timestamp-micros": "long",
    "uuid": "string",
}
"""The logical types that a feature may have, and their Avro types; other logical types are ignored."""
_MAX_FILE_BYTES = 4 * MAX_SCHEMA_BYTES
"""Maximum bytes of a schema file, which may be formatted for people."""

FeatureSource = Any
"""A path of an `.avsc` file, an Avro record as dict, a mapping of names to Avro types, or a class to derive it from."""


@dataclass(frozen=True, slots=True)
class Feature:
    """One field: its own name, its Avro kind (of the branch that is not null), and what an enum, array or map holds.

    `field` is its name in the Avro record: another one where its own has dots, blanks or letters that Avro lacks.
    `others` are further names that it may be given by, `logical` the logical type of a date, time or UUID. Values of an
    array or map are stored as plain numbers, whatever their logical type `items_logical`.
    """

    name: str
    kind: FeatureKind
    nullable: bool
    _: KW_ONLY
    symbols: tuple[str, ...] = ()
    items: str | None = None
    logical: str | None = None
    field: str = ""
    others: tuple[str, ...] = ()
    items_logical: str | None = None

    def __post_init__(self) -> None:
        if not self.field:
            object.__setattr__(self, "field", self.name)

    @property
    def written(self) -> str:
        """Return the type as people read it: `array of string`, `timestamp-micros`, `double`."""
        return self.logical or (f"{self.kind} of {self.items_logical or self.items}" if self.items else self.kind)

    @property
    def numeric(self) -> bool:
        """Return whether a single number represents it (booleans count as 0 and 1)."""
        return self.kind in _NUMBERS or self.kind == "boolean"

    @property
    def textual(self) -> bool:
        """Return whether a single text represents it."""
        return self.kind in ("string", "enum")


@dataclass(frozen=True)
class FeatureSchema:
    """The feature record of a stream; `record` is its Avro JSON."""

    record: Json

    @cached_property
    def features(self) -> tuple[Feature, ...]:
        """Return the fields in the record's order."""
        return tuple(_features(self.record))

    @cached_property
    def live(self) -> Schema:
        """Return LivePrediction with this record in it: the schema of the stream's captures."""
        return live_schema(_with_distinct_name(self.record))

    @classmethod
    def of(cls, source: FeatureSource, name: str = "Features") -> "FeatureSchema":
        """Return the feature record of a source; raise SchemaError that names a field that is not supported.

        `source`: a path of an `.avsc` file, an Avro record as a dict, a mapping such as `{"amount": "double",
        "country": ["null", "string"]}`, a class (dataclass, TypedDict, NamedTuple, pydantic, attrs, msgspec), or a
        FeatureSchema. `name` names the record if the source does not. The record is made flat (see `flattening`).
        """
        if isinstance(source, cls):
            return source
        if isinstance(source, type) or get_origin(source) is not None:
            source = draw_record(source)
        if isinstance(source, (str, Path)):
            source = _read(Path(source))
        if isinstance(source, Mapping) and source.get("type") != "record":
            source = record_of(name, source)
        result = cls(flat_record(checked(source).json))
        if full := _taken_name(result.record):
            raise SchemaError(f"the feature record uses the name {full!r}, which the envelope needs")
        names = [name for feature in result.features for name in {feature.name, feature.field, *feature.others}]
        if (twice := first_repeated(names)) is not None:
            raise SchemaError(f"two features have the name {twice!r}")
        if len(result.live.text) > MAX_SCHEMA_BYTES:
            raise SchemaError(
                f"the schema with {len(result.features)} features has {len(result.live.text)} bytes as published, over"
                f" the limit of {MAX_SCHEMA_BYTES}: shorten names and documentation, or make an array of like features"
            )
        return result

    @classmethod
    def in_live(cls, live: Schema) -> "FeatureSchema":
        """Return the feature record of a composed LivePrediction schema."""
        return cls(features_of(live))


def by_any_name(features: Iterable[Feature]) -> dict[str, Feature]:
    """Return features by each name that a model may use: their own first, then aliases and Avro names."""
    features = tuple(features)
    found = {feature.name: feature for feature in features}
    for feature in features:
        for name in (*feature.others, feature.field):
            found.setdefault(name, feature)
    return found


def _read(path: Path) -> Json:
    """Return the JSON of a schema file; raise SchemaError that names the file."""
    try:
        # A pipe or a device may never end, so only a regular file is opened.
        if path.exists() and not path.is_file():
            raise SchemaError(f"{path}: not a regular file")
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        raise SchemaError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    if len(content) > _MAX_FILE_BYTES:
        raise SchemaError(f"{path}: over the limit of {_MAX_FILE_BYTES} bytes")
    try:
        return load_json(content)
    except (ValueError, RecursionError) as error:
        raise SchemaError(f"{path}: not JSON: {error}") from error


def _taken_name(record: Json) -> str | None:
    """Return a name of the envelope that the feature record defines, if any."""
    kinds = [record]
    for field in record["fields"]:
        kinds += field["type"] if isinstance(field["type"], list) else [field["type"]]
    space = full_name(record).rpartition(".")[0] or "gnomon.v1"
    named = [full_name(kind, space) for kind in kinds if isinstance(kind, Mapping) and "name" in kind]
    return next((name for name in named if name in _ENVELOPE_TYPES), None)


def _with_distinct_name(record: Json) -> Json:
    """Return the record under a separate name if it has aliases or logical types.

    A fingerprint is of the canonical form, which leaves both out: milliseconds would be read as microseconds.
    """
    meant = [
        (feature.field, feature.name, feature.logical or feature.items_logical, feature.others)
        for feature in _features(record)
        if feature.logical or feature.items_logical or feature.others or feature.name != feature.field
    ]
    if not meant:
        return record
    tail = f"_{hashlib.sha256(json.dumps(meant).encode()).hexdigest()[:8]}"
    name = str(record["name"])
    return record if name.endswith(tail) else {**record, "name": f"{name}{tail}"}


def _features(record: Json) -> Iterator[Feature]:
    enums: dict[str, Any] = {}
    space = full_name(record).rpartition(".")[0]
    for field in record["fields"]:
        name, kind, nullable = display_name(field), field["type"], False
        if isinstance(kind, list):
            branches = [branch for branch in kind if branch != "null"]
            nullable = len(branches) < len(kind)
            if len(branches) != 1:
                raise SchemaError(f"feature {name!r}: a union must be of null and one type, not {json.dumps(kind)}")
            kind = branches[0]
        kind = _defined(kind, enums, space)
        others = tuple(alias for alias in field.get("aliases", ()) if alias != name)
        yield _feature(name, kind, nullable, str(field["name"]), others)


def _defined(kind: Json, enums: dict[str, Any], space: str) -> Json:
    """Remember and return an enum's definition; replace the name of a remembered one; return other types unchanged."""
    if isinstance(kind, Mapping) and kind.get("type") == "enum":
        enums[full_name(kind, space)] = enums[kind["name"]] = kind
    if isinstance(kind, str) and kind not in _SCALARS:
        return enums.get(kind) or enums.get(f"{space}.{kind}") or kind
    return kind


def _logical_of(kind: Mapping[str, Json]) -> str | None:
    """Return the logical type of a scalar type if a feature may have it."""
    logical = kind.get("logicalType")
    return logical if isinstance(logical, str) and LOGICAL.get(logical) == kind["type"] else None


def _feature(name: str, kind: Json, nullable: bool, field: str, others: tuple[str, ...]) -> Feature:
    logical = None
    if isinstance(kind, Mapping) and isinstance(kind.get("type"), str) and kind["type"] in _SCALARS:
        logical = _logical_of(kind)
        kind = kind["type"]
    if isinstance(kind, str) and kind in _SCALARS:
        nullable = nullable or kind == "null"
        scalar: Any = kind  # narrowed by _SCALARS
        return Feature(name, scalar, nullable, logical=logical, field=field, others=others)
    if isinstance(kind, Mapping) and kind.get("type") == "enum":
        return Feature(name, "enum", nullable, symbols=tuple(kind["symbols"]), field=field, others=others)
    if isinstance(kind, Mapping):
        for shape, part, allowed in (("array", "items", _ITEMS), ("map", "values", _NUMBERS)):
            items, of_items = kind.get(part), None
            if isinstance(items, Mapping) and isinstance(items.get("type"), str):
                of_items = _logical_of(items)
                items = items["type"]
            if kind.get("type") == shape and isinstance(items, str) and items in allowed:
                carried: Any = shape
                return Feature(name, carried, nullable, items=items, field=field, others=others, items_logical=of_items)
    raise SchemaError(
        f"feature {name!r}: {json.dumps(kind)} is not a boolean, int, long, float, double, string, enum, array of"
        " these, map of numbers, or a union of null with one of them"
    )
