"""Feature schemas at the command line: inferred from a sample, compared, published, listed."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gnomon_consumer.kafka import client_config, list_topics, make_producer
from gnomon_consumer.settings import Settings
from gnomon_schemas.errors import ConfigurationError, DependencyUnreachableError, SchemaError
from gnomon_schemas.features import FeatureSchema
from gnomon_schemas.framing import SchemaKey
from gnomon_schemas.registry import register, registry_client, registry_properties
from gnomon_schemas.schema import Json, Schema
from gnomon_schemas.store import TopicSchemas
from gnomon_schemas.topics import Topics

Sample = Literal["csv", "parquet", "json"]
_SUFFIXES: dict[str, Sample] = {
    ".csv": "csv",
    ".parquet": "parquet",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
}


def infer(path: Path, name: str, *, leave_out: frozenset[str] = frozenset()) -> Json:
    """Draw a feature record from a CSV (.csv), Parquet (.parquet) or JSON-lines (.jsonl, .ndjson, .json) sample.

    A column with an empty value in the sample becomes a union with null. Raises SchemaError that names the column
    without an Avro type, ConfigurationError where the file cannot be read.
    """
    table = _read(path)
    unknown = leave_out - set(table.column_names)
    if unknown:
        raise ConfigurationError(f"{path} has no column {min(unknown)!r} to leave out")
    kinds = {}
    for column in table.column_names:
        if column not in leave_out:
            kind = _avro_type(column, table.schema.field(column).type)
            kinds[column] = ["null", kind] if table[column].null_count else kind
    return FeatureSchema.of(kinds, name).record


def _read(path: Path) -> Any:
    import pyarrow as pa
    from pyarrow import csv, json, parquet

    kind = _SUFFIXES.get(path.suffix.lower())
    readers: dict[Sample | None, Callable[[], Any]] = {
        "csv": lambda: csv.read_csv(path, convert_options=csv.ConvertOptions(strings_can_be_null=True)),
        "parquet": lambda: parquet.read_table(path),
        "json": lambda: json.read_json(path),
    }
    if kind not in readers:
        raise ConfigurationError(f"{path}: the name must end in {', '.join(_SUFFIXES)}")
    try:
        table = readers[kind]()
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror or error}") from error
    except pa.ArrowException as error:
        raise ConfigurationError(f"{path} cannot be read as {kind}: {error}") from error
    if not table.num_rows:
        raise ConfigurationError(f"{path} has no rows to infer anything from")
    return table


def _avro_type(column: str, kind: Any) -> Json:
    import pyarrow.types as types

    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_boolean(kind):
        return "boolean"
    if types.is_integer(kind) and kind != "uint64":
        return "int" if kind.bit_width < 32 or kind == "int32" else "long"
    if types.is_float32(kind):
        return "float"
    if types.is_floating(kind):
        return "double"
    if types.is_string(kind) or types.is_large_string(kind):
        return "string"
    if types.is_list(kind) or types.is_large_list(kind):
        return {"type": "array", "items": _avro_type(column, kind.value_type)}
    raise SchemaError(
        f"column {column!r} is of type {kind}, which no feature can be; leave it out with --leave-out {column},"
        " or make a number or text of it"
    )


@dataclass(frozen=True)
class Compatibility:
    """What readers and writers of two versions can do for each other; the reasons where they cannot."""

    backward: bool
    """The new schema reads what the old one wrote."""
    forward: bool
    """The old schema reads what the new one wrote."""
    backward_reasons: tuple[str, ...]
    forward_reasons: tuple[str, ...]


def compare(old: FeatureSchema, new: FeatureSchema) -> Compatibility:
    """Ask Apache Avro's own checker, about the feature records under one name (a rename of the record is no change)."""
    forward, forward_reasons = _reads(old, new)
    backward, backward_reasons = _reads(new, old)
    return Compatibility(backward, forward, backward_reasons, forward_reasons)


def _reads(reader: FeatureSchema, writer: FeatureSchema) -> tuple[bool, tuple[str, ...]]:
    """Ask about one feature at a time: the checker's own reasons do not say where they belong."""
    theirs = {field["name"]: field for field in writer.record["fields"]}
    reasons = [
        f"{field['name']}: {reason}"
        for field in reader.record["fields"]
        for reason in _misfits(field, theirs.get(field["name"]))
    ]
    return not reasons, tuple(reasons)


def _misfits(reader: Json, writer: Json | None) -> list[str]:
    from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
    from avro.schema import make_avsc_object

    def alone(field: Json | None) -> Any:
        return make_avsc_object({"type": "record", "name": "Features", "fields": [field] if field else []})

    checker: Any = ReaderWriterCompatibilityChecker
    result = checker().get_compatibility(alone(reader), alone(writer))
    if result.compatibility is SchemaCompatibilityType.compatible:
        return []
    if writer is None:
        return ["has no default, and the other version does not have it"]
    return sorted({str(message) for message in result.messages if message})


def publish(settings: Settings, features: FeatureSchema) -> SchemaKey:
    """Publish the composed schema: to the registry where one is configured, else to the stream's `schemas` topic."""
    topics = Topics(settings.require_stream(), settings.topic_prefix)
    if registry_properties(settings.kafka.properties):
        return register(registry_client(settings.kafka.properties), topics.live, features.live)
    list_topics(settings)  # says in a moment that there is no broker
    lost: list[str] = []
    producer = make_producer(settings)
    producer.produce(
        topics.schemas,
        features.live.text.encode(),
        str(features.live.fingerprint).encode(),
        partition=0,
        on_delivery=lambda error, _message: lost.append(error.str()) if error else None,
    )
    left = producer.flush(settings.kafka.timeout_seconds)
    if left or lost:
        raise DependencyUnreachableError(
            f"{topics.schemas} does not take the schema: {lost[0] if lost else 'no answer'}"
        )
    return features.live.fingerprint


def published(settings: Settings) -> list[Schema]:
    """Return the schemas in the stream's `schemas` topic, oldest first."""
    topics = Topics(settings.require_stream(), settings.topic_prefix)
    if topics.schemas not in list_topics(settings).topics:
        return []
    store = TopicSchemas(client_config(settings), topics.schemas, timeout_s=settings.kafka.timeout_seconds)
    try:
        store.refresh()
        return store.live_schemas()
    finally:
        store.close()
