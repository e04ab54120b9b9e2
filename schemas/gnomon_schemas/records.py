"""The records as frozen dataclasses. Times are integer microseconds since the Unix epoch (UTC).

On the hot paths records are plain dicts or columns; these classes are for code that handles few records, and they
document each field's type.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from enum import StrEnum
from functools import cache
from typing import Any, Literal, TypeVar, cast


class FailureKind(StrEnum):
    """The reasons for a missing prediction: a closed vocabulary."""

    EXCEPTION = "exception"
    TIMEOUT = "timeout"
    INVALID_FEATURES = "invalid_features"
    MODEL_ERROR = "model_error"
    WORKER_CRASH = "worker_crash"
    QUARANTINED = "quarantined"
    DEAD_LETTER = "dead_letter"


LARGEST_NUMBER = 1e60
"""A number beyond this counts as infinite: the fourth powers in variances of squares would overflow."""
LEAST_PROBABILITY = 1e-9
"""A capture that represents more than its inverse is rejected, because it would outweigh all others."""
MAX_FAILURE_MESSAGE = 500
"""Maximum characters of a Failure's message; a longer one is cut."""
NO_STRATUM = ""
"""The stratum of captures without one."""
OTHER_STRATUM = "other"
"""The stratum of captures whose own has no cell in their window."""

Role = Literal["challenger", "control"]
CloseReason = Literal["idle", "time", "count", "bytes", "revoked", "shutdown"]
SamplingLimit = Literal["breaker", "queue", "budget", "catch_up", "reservoir", "over_capacity"]
"""Why a window did not sample all captures: the circuit breaker is not closed; earlier rows still wait for a worker;
the tokens were spent; they were spent while a backlog is drained; the reservoirs were full; partitions were drawn.
"""


@dataclass(frozen=True, slots=True)
class Model:
    """The model behind a live prediction."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Artefact:
    """A model file in the shadow; `sha256` is the hex digest of its bytes, empty without a file."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """A model's answer."""

    value: float | None = None
    label: str | None = None
    scores: list[float] | None = None
    items: list[str] | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """The reason for a missing prediction; `kind` is a FailureKind (an unknown one is passed through)."""

    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class FeatureState:
    """The state that produced the features."""

    version: str | None
    cache_hits: int
    cache_misses: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LivePrediction:
    """One live request with its features, its live prediction or error, and its latency in microseconds."""

    producer_id: str
    sequence: int
    captured_at: int
    request_id: str
    capture_probability: float
    stratum: str | None
    segments: dict[str, str]
    cluster: str | None
    model: Model
    features: dict[str, Any]
    prediction: Prediction | None
    error: Failure | None
    latency_us: int | None
    feature_state: FeatureState | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowPrediction:
    """The shadow's outcome for one sampled capture."""

    source_partition: int
    source_offset: int
    request_id: str
    window_id: str
    stratum: str | None
    rank: int
    inclusion_probability: float
    model: Artefact
    prediction: Prediction | None
    error: Failure | None
    latency_us: int | None
    batch_size: int
    queued_us: int | None
    scored_at: int
    feature_state: FeatureState | None
    probe_probability: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentStart:
    """The first record of every shadow partition: the identity of this log."""

    deployment: str
    role: Role
    cluster_id: str
    topic_id: str | None
    source_partition: int
    start_offset: int
    model: Artefact
    seed: int
    policy: str
    started_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One stratum of a window; the inclusion probability of its rows is draw_probability * sampled / seen.

    `probed` of them were chosen for the latency probe, each capture with `probe_probability`; None: an earlier version
    wrote the record, whose probe had no exact probability.
    """

    stratum: str
    seen: int
    sampled: int
    draw_probability: float = 1.0
    threshold: int | None = None
    scored: int = 0
    failed: int = 0
    timed_out: int = 0
    dead_lettered: int = 0
    probed: int | None = None
    probe_probability: float | None = None


@dataclass(frozen=True, slots=True)
class Gap:
    """A hole in the source that no window can cover; `lost` counts its offsets."""

    reason: str
    lost: int


@dataclass(frozen=True, slots=True)
class Usage:
    """The cost of scoring a window: CPU and GPU time in microseconds, memory in bytes."""

    cpu_us: int = 0
    peak_rss_bytes: int = 0
    gpu_us: int | None = None
    gpu_peak_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingWindow:
    """Offsets [start_offset, end_offset) of one source partition, sampled as a unit; last record of its window."""

    window_id: str
    tick_id: str
    source_partition: int
    start_offset: int
    end_offset: int
    first_captured_at: int | None
    last_captured_at: int | None
    opened_at: int
    sealed_at: int
    close_reason: CloseReason
    lag_s: float
    seed: int
    policy: str
    cells: list[Cell]
    gap: Gap | None = None
    usage: Usage = field(default_factory=Usage)
    limited_by: SamplingLimit | None = None


@dataclass(frozen=True, slots=True)
class Label:
    """The ground truth of a request, one version of it."""

    request_id: str
    occurred_at: int
    observed_at: int
    source: str
    _: KW_ONLY
    value: float | None = None
    label: str | None = None
    relevance: list[float] | None = None
    items: list[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducerReport:
    """A producer's own account: offered = delivered + sum(dropped) + in flight."""

    producer_id: str
    service: str
    host: str
    pid: int
    started_at: int
    reported_at: int
    offered: int
    delivered: int
    dropped: dict[str, int]
    sampled_out: int
    switched_off: int
    closed: bool


T = TypeVar("T")


def as_dict(record: Any) -> dict[str, Any]:
    """Return a record dataclass as the plain dict that a codec encodes."""
    return {name: _plain(getattr(record, name)) for name in _field_names(type(record))}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return as_dict(value)
    return [_plain(item) for item in value] if isinstance(value, list) else value


def from_dict(kind: type[T], record: Mapping[str, Any]) -> T:
    """Build a record dataclass from a decoded dict.

    Fields that the class does not have (a later version's) are left out; a field that the dict does not have takes its
    default, or raises TypeError.
    """
    hints = _hints(cast(Any, kind))
    return kind(**{name: _built(hints[name], value) for name, value in record.items() if name in hints})


def _built(hint: Any, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_dict(hint, value)
    if typing.get_origin(hint) is list and isinstance(value, list):
        return [_built(typing.get_args(hint)[0], item) for item in value]
    return value


def _field_names(kind: Any) -> tuple[str, ...]:
    return tuple(kind.__dataclass_fields__)


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)
