"""The configuration of a Tap, from code or from the environment: every field with its unit, default and limits."""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from gnomon_producer.privacy import BeforeSend
from gnomon_producer.rejections import Ignored, checked_ignored
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.features import FeatureSource
from gnomon_schemas.json_text import load_json
from gnomon_schemas.topics import Topics

Features = Mapping[str, Any]
Segments = Mapping[str, str]

MIN_BUFFER_BYTES = 65_536
MAX_SECONDS = 86_400
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"", "0", "false", "no", "off"})


@dataclass(frozen=True, kw_only=True)
class TapConfig:
    """The settings of one stream's hook. Raises ConfigurationError for settings that cannot work."""

    stream: str
    """Names the topics `<topic_prefix>.<stream>.*`."""
    model: tuple[str, str]
    """Name and version of the live model."""
    features: FeatureSource
    """The feature record: path of an `.avsc` file, dict, dataclass, TypedDict or pydantic model."""
    allowed_features: tuple[str, ...] | None = None
    """Only these leave the process, and only these are in the published schema. None: all fields of the record."""
    bootstrap_servers: str = "localhost:9092"
    topic_prefix: str = "gnomon"
    service: str = field(default_factory=lambda: Path(sys.argv[0] or "python").name or "python")
    """Shown in the producers' reports, and as the source of labels."""
    strata: tuple[str, ...] | Callable[[Features, Segments], str | None] = ()
    """Segments or features whose values make up the stratum, or a callable that returns it."""
    segments: tuple[str, ...] | Callable[[Features], Segments] = ()
    """Features that are segments of every capture, or a callable; a call's own segments come on top."""
    classes: tuple[str, str] | None = None
    """Positive and negative class of a binary stream: a label's value 1 or 0 is sent with its class, and a class with
    its value."""
    enabled: Callable[[], bool] | None = None
    """Called for every capture; a false answer switches it off. An error counts as off."""
    ignore: Ignored = ()
    """Exceptions that are the caller's fault, such as (HTTPException,): no capture, counted as `rejected`. One whose
    HTTP status is 500 or more still counts as a failure. Or a callable that decides for each exception.
    """
    sample_rate: float = 1.0
    """Share of the captures (or of the clusters) to take, in (0, 1]."""
    sample_by: Literal["request", "cluster"] = "request"
    """The unit of sampling. Captures without a cluster are sampled by request."""
    sample_salt: str = "gnomon-hook-v1"
    """Key of the sampling hash: different from the scorers' seeds, the same in all processes of a service."""
    before_send: BeforeSend | None = None
    """Gets each capture last, with identifiers already hashed, and returns it, changed or not, or None to drop it."""
    hmac_key: bytes | None = field(default=None, repr=False)
    hmac_fields: tuple[str, ...] = ()
    """`request_id`, `cluster`, segments or string features to be replaced by their HMAC-SHA256."""
    max_buffer_bytes: int = 64 * 1024 * 1024
    """Limit of the memory for waiting messages, payload and bookkeeping together."""
    heartbeat_s: float = 10.0
    exit_timeout_s: float = 2.0
    """How long the end of the process may wait for the last captures."""
    handle_sigterm: bool = True
    """Drain on SIGTERM if nobody else handles it."""
    properties: Mapping[str, Any] = field(default_factory=dict)
    """Any librdkafka property; `schema.registry.*` go to the schema registry's client."""
    registry: Any = None
    """An existing schema registry client of the service, instead of `schema.registry.*`."""

    def __post_init__(self) -> None:
        Topics(self.stream, self.topic_prefix)
        named = isinstance(self.model, (tuple, list)) and len(self.model) == 2
        if not named or not all(isinstance(part, str) and part for part in self.model):
            raise ConfigurationError(f"model must be a name and a version, not {self.model!r}")
        _check(0 < self.sample_rate <= 1, "sample_rate", self.sample_rate, "over 0 and at most 1")
        _check(self.sample_by in ("request", "cluster"), "sample_by", self.sample_by, "'request' or 'cluster'")
        _check(
            self.max_buffer_bytes >= MIN_BUFFER_BYTES,
            "max_buffer_bytes",
            self.max_buffer_bytes,
            f"{MIN_BUFFER_BYTES} or more",
        )
        _check(0.1 <= self.heartbeat_s <= MAX_SECONDS, "heartbeat_s", self.heartbeat_s, f"0.1 to {MAX_SECONDS}")
        _check(0 <= self.exit_timeout_s <= MAX_SECONDS, "exit_timeout_s", self.exit_timeout_s, f"0 to {MAX_SECONDS}")
        checked_ignored(self.ignore)
        two = self.classes is None or (isinstance(self.classes, (tuple, list)) and len(set(self.classes)) == 2)
        if not two or not all(isinstance(name, str) and name for name in self.classes or ()):
            raise ConfigurationError(f"classes must be a positive and a negative class, not {self.classes!r}")
        if self.hmac_fields and not self.hmac_key:
            raise ConfigurationError("hmac_fields needs hmac_key (GNOMON_HMAC_KEY)")
        if self.allowed_features is not None and not self.allowed_features:
            raise ConfigurationError("allowed_features lists nothing; leave it out to allow all of the schema")

    @classmethod
    def from_env(cls, environment: Mapping[str, str] = os.environ, **given: Any) -> "TapConfig":
        """Read GNOMON_… variables; settings `given` in code (for example callables) override them.

        Raises ConfigurationError that names the variable and its value.
        """
        found: dict[str, Any] = {}
        for name, (variable, convert) in _VARIABLES.items():
            text = environment.get(variable)
            if text is None or name in given:
                continue
            try:
                found[name] = convert(text)
            except ValueError as error:
                shown = "…" if name in ("hmac_key", "properties") else repr(text)  # both may hold a secret
                raise ConfigurationError(f"{variable}={shown}: {error}") from error
        found.update(given)
        for name in ("stream", "model", "features"):
            if name not in found:
                raise ConfigurationError(f"{_VARIABLES[name][0]} is not set")
        unknown = set(found) - {field.name for field in fields(cls)}
        if unknown:
            raise ConfigurationError(f"unknown settings: {', '.join(sorted(unknown))}")
        return cls(**found)


def disabled_by(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether GNOMON_DISABLED switches off every Tap of this process. Any unclear value counts as yes."""
    return environment.get("GNOMON_DISABLED", "").strip().lower() not in _FALSE


def _check(holds: bool, name: str, value: object, limits: str) -> None:
    if not holds:
        raise ConfigurationError(f"{name} must be {limits}, not {value!r}")


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _model(text: str) -> tuple[str, str]:
    name, colon, version = text.rpartition(":")
    if not colon or not name or not version:
        raise ValueError("a model is NAME:VERSION")
    return name, version


def _truth(text: str) -> bool:
    word = text.strip().lower()
    if word not in _TRUE | _FALSE:
        raise ValueError("neither yes nor no")
    return word in _TRUE


def _properties(text: str) -> dict[str, Any]:
    loaded = load_json(text)
    if isinstance(loaded, dict):
        return loaded
    raise ValueError("not a JSON object of librdkafka properties")


_VARIABLES: dict[str, tuple[str, Callable[[str], Any]]] = {
    "stream": ("GNOMON_STREAM", str),
    "model": ("GNOMON_MODEL", _model),
    "features": ("GNOMON_FEATURE_SCHEMA", str),
    "allowed_features": ("GNOMON_FEATURES", _names),
    "bootstrap_servers": ("GNOMON_BOOTSTRAP_SERVERS", str),
    "topic_prefix": ("GNOMON_TOPIC_PREFIX", str),
    "service": ("GNOMON_SERVICE", str),
    "strata": ("GNOMON_STRATA", _names),
    "segments": ("GNOMON_SEGMENTS", _names),
    "classes": ("GNOMON_CLASSES", _names),
    "sample_rate": ("GNOMON_SAMPLE_RATE", float),
    "sample_by": ("GNOMON_SAMPLE_BY", str),
    "sample_salt": ("GNOMON_SAMPLE_SALT", str),
    "hmac_key": ("GNOMON_HMAC_KEY", str.encode),
    "hmac_fields": ("GNOMON_HMAC_FIELDS", _names),
    "max_buffer_bytes": ("GNOMON_MAX_BUFFER_BYTES", int),
    "heartbeat_s": ("GNOMON_HEARTBEAT_SECONDS", float),
    "exit_timeout_s": ("GNOMON_EXIT_TIMEOUT_SECONDS", float),
    "handle_sigterm": ("GNOMON_HANDLE_SIGTERM", _truth),
    "properties": ("GNOMON_KAFKA__PROPERTIES", _properties),
}
