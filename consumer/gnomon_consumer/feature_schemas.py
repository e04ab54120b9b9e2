"""Feature schemas at the command line: inferred from a sample, compared, published, listed."""

from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError

from gnomon_consumer.feature_inference import infer
from gnomon_consumer.kafka.clients import client_config, is_mock, list_topics, make_producer
from gnomon_consumer.kafka.errors import refusal, write
from gnomon_consumer.kafka.topic_ids import denial_of
from gnomon_consumer.settings import Settings
from gnomon_schemas.errors import ConfigurationError, DependencyUnreachableError
from gnomon_schemas.features import Feature, FeatureSchema, by_any_name
from gnomon_schemas.flattening import with_definitions_everywhere
from gnomon_schemas.framing import SchemaKey
from gnomon_schemas.registry import register, registry_client, registry_properties
from gnomon_schemas.schema import Json, Schema
from gnomon_schemas.store import TopicSchemas
from gnomon_schemas.topics import Topics


@dataclass(frozen=True, kw_only=True)
class Compatibility:
    """What readers and writers of two versions can do for each other; the reasons if they cannot."""

    backward: bool
    """The new schema reads what the old one wrote."""
    forward: bool
    """The old schema reads what the new one wrote."""
    backward_reasons: tuple[str, ...]
    forward_reasons: tuple[str, ...]
    models: tuple[str, ...] = ()
    """What happens to a challenger that needs a feature which one version does not have."""


def compare(old: FeatureSchema, new: FeatureSchema) -> Compatibility:
    """Compare two feature records with Apache Avro's own checker, under one name (a rename of the record is no change).

    Avro's checker accepts a date or time in another unit; this function refuses it, because it is not the same number.
    """
    forward_reasons = _misfits(old, new, "the old version")
    backward_reasons = _misfits(new, old, "the new version")
    return Compatibility(
        backward=not backward_reasons,
        forward=not forward_reasons,
        backward_reasons=backward_reasons,
        forward_reasons=forward_reasons,
        models=_for_models(old, new),
    )


def _misfits(reader: FeatureSchema, writer: FeatureSchema, who: str) -> tuple[str, ...]:
    """Check one feature at a time, because the checker's own reasons do not name the feature."""
    theirs = {feature.field: feature for feature in writer.features}
    types = {field["name"]: field for field in with_definitions_everywhere(writer.record)}
    reasons = []
    for own, field in zip(reader.features, with_definitions_everywhere(reader.record), strict=True):
        # Avro finds the field of another version by the reader's aliases.
        name = next((one for one in (own.field, *field.get("aliases", ())) if one in theirs), None)
        found = None if name is None else {**types[name], "name": own.field}
        reasons += [f"{own.name}: {reason}" for reason in _misfits_of(own, theirs.get(name or ""), field, found, who)]
    return tuple(reasons)


def _misfits_of(own: Feature, other: Feature | None, reader: Json, writer: Json | None, who: str) -> list[str]:
    from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
    from avro.schema import make_avsc_object

    def alone(field: Json | None) -> Any:
        kept = [{key: value for key, value in field.items() if key != "aliases"}] if field else []
        return make_avsc_object({"type": "record", "name": "Features", "fields": kept})

    meanings = {one.logical or one.items_logical for one in (own, other or own)}
    if other is not None and len(meanings) > 1 and meanings != {"uuid", None}:
        return [f"{own.written} and {other.written} are not the same: the same number means a different time"]
    checker: Any = ReaderWriterCompatibilityChecker
    result = checker().get_compatibility(alone(reader), alone(writer))
    if result.compatibility is SchemaCompatibilityType.compatible:
        return []
    if other is None:
        return ["has no default, and the other version does not have it"]
    if own.kind == other.kind == "enum":
        unknown = [repr(symbol) for symbol in other.symbols if symbol not in own.symbols]
        return [f"{who} does not know the symbol {' and '.join(unknown)}"]
    return sorted({str(message) for message in result.messages if message})


def _for_models(old: FeatureSchema, new: FeatureSchema) -> tuple[str, ...]:
    """Describe what models that need a feature of one version do with captures of the other: Gnomon binds by name."""
    told = []
    for one, other, which in ((new, old, "old"), (old, new, "new")):
        named = by_any_name(other.features)
        told += [
            f"{feature.name}: captures of the {which} version do not have it; a model that needs it, and does not call"
            " it optional, scores none of them (outcome invalid_features), whatever default the schema states"
            for feature in one.features
            if feature.name not in named
        ]
    return tuple(told)


def publish(settings: Settings, features: FeatureSchema) -> SchemaKey:
    """Publish the composed schema to the registry if one is configured, else to the stream's `schemas` topic."""
    topics = Topics(settings.require_stream(), settings.topic_prefix)
    if registry_properties(settings.kafka.properties):
        with registry_client(settings.kafka.properties) as client:
            return register(client, topics.live, features.live)
    found = list_topics(settings)  # fails within a moment if there is no broker
    if topics.schemas not in found.topics and not is_mock(found):
        # A broker with automatic creation would create it with other settings.
        raise denial_of(settings, topics.schemas) or ConfigurationError(
            f"no topic {topics.schemas}: run `gnomon topics create`"
        )
    lost: list[KafkaError] = []
    producer = make_producer(settings)
    producer.produce(
        topics.schemas,
        features.live.text.encode(),
        str(features.live.fingerprint).encode(),
        partition=0,
        on_delivery=lambda error, _message: lost.append(error) if error else None,
    )
    left = producer.flush(settings.kafka.timeout_seconds)
    if lost and (denied := refusal(lost[0], write(topics.schemas))):
        raise denied
    if left or lost:
        raise DependencyUnreachableError(
            f"{topics.schemas} does not accept the schema: {lost[0].str() if lost else 'no answer'}"
        )
    return features.live.fingerprint


def published(settings: Settings) -> list[Schema]:
    """Return the schemas in the stream's `schemas` topic, oldest first."""
    topics = Topics(settings.require_stream(), settings.topic_prefix)
    if topics.schemas not in list_topics(settings).topics:
        if denied := denial_of(settings, topics.schemas):
            raise denied
        return []
    store = TopicSchemas(client_config(settings), topics.schemas, timeout_s=settings.kafka.timeout_seconds)
    try:
        store.refresh()
        return store.live_schemas()
    finally:
        store.close()


__all__ = ["Compatibility", "compare", "infer", "publish", "published"]
