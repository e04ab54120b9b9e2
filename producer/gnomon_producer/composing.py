"""Build the message of one capture: segments, stratum, privacy, bytes, headers."""

from collections.abc import Mapping
from itertools import islice
from typing import Any

from gnomon_producer.binding import FeatureBinder, Values
from gnomon_producer.config import TapConfig
from gnomon_producer.delivery import Headers
from gnomon_producer.encoding import LiveEncoder, live_encoder
from gnomon_producer.errors import Dropped
from gnomon_producer.predictions import FAILURE, PREDICTION, Fields, prediction_fields, text
from gnomon_producer.privacy import Privacy
from gnomon_producer.trace import traceparent_source
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.features import Feature, FeatureSchema
from gnomon_schemas.flattening import with_definitions
from gnomon_schemas.framing import SchemaKey

MAX_SEGMENTS = 256


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
        """Write for this process from now on, framed by `key`."""
        config = self._config
        self._encode = live_encoder(self.schema, producer_id, config.model, config.sample_rate, key)

    def compose(
        self,
        sequence: int,
        captured_at: int,
        request_id: str,
        segments: dict[str, str],
        cluster: str | None,
        features: Values,
        prediction: Fields | None,
        failure: Fields | None,
        latency_us: int | None,
        state: Fields | None,
    ) -> tuple[bytes, bytes, Headers | None]:
        """Return key, value and headers of a LivePrediction's message.

        Raises Dropped, or the exception of a configured callable.
        """
        stratum = None
        if not self._plain:
            request_id, cluster, stratum, segments, features, prediction, failure = self._refined(
                request_id, cluster, segments, features, prediction, failure
            )
        try:
            value = self._encode(
                sequence,
                captured_at,
                request_id,
                stratum,
                segments,
                cluster,
                features,
                prediction,
                failure,
                latency_us,
                state,
            )
        except UnicodeEncodeError:
            self.binder.check(features)
            raise Dropped(
                "invalid_features", "an id, label, item or segment holds text that is not valid UTF-8"
            ) from None
        except Exception:
            self.binder.check(features)  # names the feature that does not fit, if there is one
            raise
        return request_id.encode(), value, self._headers(stratum)

    def _refined(
        self,
        request_id: str,
        cluster: str | None,
        segments: dict[str, str],
        values: Values,
        prediction: Fields | None,
        failure: Fields | None,
    ) -> tuple[str, str | None, str | None, dict[str, str], Values, Fields | None, Fields | None]:
        """Hash identifiers, add the declared segments and the stratum, and call `before_send` last."""
        privacy = self.privacy
        features = privacy.hashed(dict(zip(self.binder.names, values, strict=True)))
        request_id = privacy.identifier("request_id", request_id)
        cluster = None if cluster is None else privacy.identifier("cluster", cluster)
        segments = {**self._segments_of(features), **privacy.hashed(segments)}
        stratum = self._stratum_of(features, segments)
        if privacy.before_send is not None:
            event = privacy.shown(
                {
                    "request_id": request_id,
                    "cluster": cluster,
                    "stratum": stratum,
                    "segments": segments,
                    "features": features,
                    "prediction": _named(PREDICTION, prediction),
                    "error": _named(FAILURE, failure),
                }
            )
            request_id = text("request_id", event["request_id"])
            cluster, stratum = (
                None if event[name] is None else text(name, event[name]) for name in ("cluster", "stratum")
            )
            segments, features = texts(event["segments"]), event["features"]
            shown = event["prediction"]
            prediction = None if shown is None else prediction_fields(*(shown[name] for name in PREDICTION))
            failure = _values(FAILURE, event["error"])
        return request_id, cluster, stratum, segments, self.binder.bind(features), prediction, failure

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
            return None if stratum is None else text("the stratum", stratum)
        if not declared:
            return None
        found = ((name, segments.get(name, features.get(name))) for name in declared)
        return "|".join("" if value is None else text(f"stratum {name!r}", value) for name, value in found)


def _named(names: tuple[str, ...], values: Fields | None) -> dict[str, Any] | None:
    return None if values is None else dict(zip(names, values, strict=True))


def _values(names: tuple[str, ...], named: Mapping[str, Any] | None) -> Fields | None:
    return None if named is None else tuple(named[name] for name in names)


def texts(given: Mapping[Any, Any]) -> dict[str, str]:
    """Return segments as texts, without those that have no value; raise Dropped if they are too many, or endless."""
    entries = list(islice(given.items(), MAX_SEGMENTS + 1))
    if len(entries) > MAX_SEGMENTS:
        raise Dropped("invalid_features", f"more than {MAX_SEGMENTS} segments")
    found = {}
    for key, value in entries:
        if value is not None:
            name = key if type(key) is str else text("the name of a segment", key)
            found[name] = value if type(value) is str else text(f"segment {name[:100]!r}", value)
    return found


def _allowed(schema: FeatureSchema, names: tuple[str, ...] | None) -> FeatureSchema:
    """Return the schema with only the listed features; the name of a nested record means all of its features."""
    if names is None:
        return schema
    known = {feature.field: _names_of(feature) for feature in schema.features}
    unknown = set(names).difference(*known.values())
    if unknown:
        listed = ", ".join(sorted(unknown))
        raise ConfigurationError(f"allowed_features (GNOMON_FEATURES) are not in the feature schema: {listed}")
    wanted = [field for field in schema.record["fields"] if not known[field["name"]].isdisjoint(names)]
    return FeatureSchema.of({**schema.record, "fields": with_definitions(schema.record, wanted)})


def _names_of(feature: Feature) -> set[str]:
    parts = feature.name.split(".")
    around = {".".join(parts[:depth]) for depth in range(1, len(parts))}
    return {feature.name, feature.field, *feature.others, *around}
