"""The outcome of one sampled capture, from row to bytes."""

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from gnomon_schemas.codec import Codec
from gnomon_schemas.records import (
    MAX_FAILURE_MESSAGE,
    Artefact,
    Failure,
    FailureKind,
    FeatureState,
    Prediction,
    as_dict,
)
from gnomon_schemas.schema import record_schema

Status = Literal["scored", "failed", "timed_out", "dead_lettered"]


@dataclass(frozen=True, slots=True)
class Row:
    """One sampled capture: its coordinates, its place in the sample, and its bytes, which nobody has decoded yet."""

    partition: int
    offset: int
    key: bytes
    value: bytes
    stratum: str | None
    rank: int
    inclusion_probability: float


@cache
def codec(record: str) -> Codec:
    """The codec of a packaged record."""
    return Codec(record_schema(record))


def status_of(outcome: Prediction | Failure) -> Status:
    """The bucket of the ledger that an outcome belongs to."""
    if isinstance(outcome, Prediction):
        return "scored"
    if outcome.kind == FailureKind.DEAD_LETTER:
        return "dead_lettered"
    return "timed_out" if outcome.kind == FailureKind.TIMEOUT else "failed"


def encode(
    row: Row,
    window_id: str,
    model: dict[str, Any],
    outcome: Prediction | Failure,
    *,
    request_id: str,
    scored_at: int,
    latency_us: int | None = None,
    batch_size: int = 0,
    queued_us: int | None = None,
    feature_state: FeatureState | None = None,
) -> bytes:
    """Return the framed ShadowPrediction; `batch_size` 0 where no model was run."""
    prediction, error = None, None
    if isinstance(outcome, Prediction):
        prediction = as_dict(outcome)
    else:
        error = {"kind": str(outcome.kind), "message": outcome.message[:MAX_FAILURE_MESSAGE]}
    return codec("ShadowPrediction").encode(
        {
            "source_partition": row.partition,
            "source_offset": row.offset,
            "request_id": request_id,
            "window_id": window_id,
            "stratum": row.stratum,
            "rank": row.rank,
            "inclusion_probability": row.inclusion_probability,
            "model": model,
            "prediction": prediction,
            "error": error,
            "latency_us": latency_us,
            "batch_size": batch_size,
            "queued_us": queued_us,
            "scored_at": scored_at,
            "feature_state": None if feature_state is None else as_dict(feature_state),
        }
    )


def undecoded(row: Row, window_id: str, model: Artefact, failure: Failure, now_us: int) -> bytes:
    """The outcome of a row that no worker brought home: timed out, quarantined. Its key stands for its request id."""
    request_id = row.key.decode("utf-8", "replace")
    return encode(row, window_id, as_dict(model), failure, request_id=request_id, scored_at=now_us)
