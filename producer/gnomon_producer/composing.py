"""From what is known of one capture to the message that is sent: segments, stratum, privacy, bytes, headers."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from gnomon_producer.binding import FeatureBinder
from gnomon_producer.config import TapConfig
from gnomon_producer.delivery import Headers
from gnomon_producer.encoding import LiveEncoder, live_encoder
from gnomon_producer.privacy import EVENT_KEYS, Privacy
from gnomon_producer.trace import traceparent_source
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.features import FeatureSchema
from gnomon_schemas.framing import SchemaKey


class Outgoing(NamedTuple):
    """A message for the live topic."""

    key: bytes
    value: bytes
    headers: Headers | None


class Composer:
    """Composes captures of one feature schema; `schema` holds the allowed features only."""

    def __init__(self, config: TapConfig) -> None:
        self._config = config
        self.schema = _allowed(FeatureSchema.of(config.features), config.allowed_features)
        self.binder = FeatureBinder(self.schema, listed_only=config.allowed_features is not None, encoder_checks=True)
        self.privacy = Privacy(config.before_send, config.hmac_key, frozenset(config.hmac_fields))
        self._plain = not (config.segments or config.strata or config.before_send or config.hmac_fields)
        self._traceparent = traceparent_source()
        self._encode: LiveEncoder

    def write_as(self, producer_id: str, key: SchemaKey) -> None:
        """Write for this process, framed by `key`, from now on."""
        self._encode = live_encoder(self.schema, producer_id, self._config.model, key)

    def compose(self, record: dict[str, Any]) -> Outgoing:
        """Return the message of a LivePrediction; `record` lacks stratum, declared segments and the constants.

        Raises Dropped, or whatever a callable of the configuration raises.
        """
        if not self._plain:
            self._refine(record)
        return Outgoing(record["request_id"].encode(), self._encoded(record), self._headers(record["stratum"]))

    def _refine(self, record: dict[str, Any]) -> None:
        """Hash identifiers, add the declared segments and the stratum, and give `before_send` the last word."""
        privacy = self.privacy
        features = privacy.hashed(dict(zip(self.binder.names, record["features"], strict=True)))
        record["request_id"] = privacy.identifier("request_id", record["request_id"])
        if record["cluster"] is not None:
            record["cluster"] = privacy.identifier("cluster", record["cluster"])
        record["segments"] = {**self._segments_of(features), **privacy.hashed(record["segments"])}
        record["stratum"] = self._stratum_of(features, record["segments"])
        if privacy.before_send is not None:
            event = privacy.shown({key: record[key] for key in EVENT_KEYS} | {"features": features})
            record.update(event)
            features = event["features"]
        record["features"] = self.binder.bind(features)

    def _encoded(self, record: dict[str, Any]) -> bytes:
        try:
            return self._encode(record)
        except Exception:
            self.binder.check(record["features"])  # names the feature that does not fit, if it is one
            raise

    def _headers(self, stratum: str | None) -> Headers | None:
        traceparent = self._traceparent()
        if stratum is None and traceparent is None:
            return None
        found = (("stratum", stratum), ("traceparent", traceparent))
        return [(name, value.encode()) for name, value in found if value is not None]

    def _segments_of(self, features: Mapping[str, Any]) -> dict[str, str]:
        declared = self._config.segments
        if callable(declared):
            return self.privacy.hashed(texts(declared(features)))
        return texts({name: features.get(name) for name in declared})

    def _stratum_of(self, features: Mapping[str, Any], segments: Mapping[str, str]) -> str | None:
        declared = self._config.strata
        if callable(declared):
            stratum = declared(features, segments)
            return None if stratum is None else text(stratum)
        if not declared:
            return None
        found = (segments.get(name, features.get(name)) for name in declared)
        return "|".join("" if value is None else text(value) for value in found)


def text(value: Any) -> str:
    """Return an identifier or a segment's value as text."""
    return value if type(value) is str else str(value)


def texts(given: Mapping[Any, Any]) -> dict[str, str]:
    """Return segments as texts, without those that have no value."""
    return {text(name): text(value) for name, value in given.items() if value is not None}


def _allowed(schema: FeatureSchema, names: tuple[str, ...] | None) -> FeatureSchema:
    """Return the schema with the listed features alone."""
    if names is None:
        return schema
    unknown = set(names) - {feature.name for feature in schema.features}
    if unknown:
        raise ConfigurationError(f"allowed_features: not in the feature schema: {', '.join(sorted(unknown))}")
    fields = [field for field in schema.record["fields"] if field["name"] in names]
    return FeatureSchema.of({**schema.record, "fields": fields})
