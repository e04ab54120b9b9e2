"""Outcomes of sampled captures, from rows to bytes: a batch of answers in columns, or one by itself."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gnomon_consumer.scorer.models.base import Answers
from gnomon_consumer.scorer.rows import Row, Rows, Texts, text_at
from gnomon_schemas.codec import Codec
from gnomon_schemas.columnar import ColumnarCodec
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
STATUSES: tuple[Status, ...] = get_args(Status)


class Scored(NamedTuple):
    """The outcome of one row: its ledger bucket, its ShadowPrediction, and why it is a dead letter, if it is."""

    status: Status
    message: bytes
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Outcomes of some rows as columns: `codes[i]` is the place of row i's bucket in STATUSES.

    `dead` says of each dead letter, by its row, why it is one: reason and detail.
    """

    codes: bytes
    messages: Texts
    dead: Mapping[int, tuple[str, str]] = field(default_factory=dict)

    @classmethod
    def of(cls, outcomes: Sequence[Scored]) -> "Outcomes":
        """The columns of single outcomes."""
        return cls(
            bytes(STATUSES.index(one.status) for one in outcomes),
            [one.message for one in outcomes],
            {at: (one.reason, one.detail) for at, one in enumerate(outcomes) if one.status == "dead_lettered"},
        )

    def __len__(self) -> int:
        return len(self.messages)

    def __getitem__(self, at: int) -> Scored:
        return Scored(STATUSES[self.codes[at]], text_at(self.messages, at), *self.dead.get(at, ()))

    def __iter__(self) -> Iterator[Scored]:
        return (self[at] for at in range(len(self)))


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
        error = _failure(outcome)
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


@cache
def _columnar() -> ColumnarCodec:
    return ColumnarCodec(record_schema("ShadowPrediction"))


def encode_batch(
    rows: Rows,
    window_id: str,
    model: dict[str, Any],
    answers: Answers,
    *,
    request_ids: pa.Array,
    scored_at: int,
    latency_us: Sequence[int] | NDArray[np.int64],
    batch_size: int,
    queued_us: int,
    feature_state: FeatureState | None,
) -> Outcomes:
    """Return the bucket and the framed ShadowPrediction of each row: what `encode` gives for each by itself."""
    count = len(rows)
    failures = answers.all_failures()
    shadow = _columnar()
    same = {
        "source_partition": rows.partition,
        "window_id": window_id,
        "model": model,
        "batch_size": batch_size,
        "queued_us": queued_us,
        "scored_at": scored_at,
        "feature_state": None if feature_state is None else as_dict(feature_state),
    }
    columns = {name: _repeated(value, shadow.columns.field(name).type, count) for name, value in same.items()}
    columns |= {
        "source_offset": pa.array(rows.offsets),
        "request_id": request_ids,
        "stratum": _strata(rows),
        "rank": pa.array(rows.ranks),
        "inclusion_probability": pa.array(rows.probabilities),
        "latency_us": pa.array(latency_us, pa.int64()),
        "prediction": _predictions(answers, failures, shadow.columns.field("prediction").type),
        "error": _errors(failures, count, shadow.columns.field("error").type),
    }
    batch = pa.RecordBatch.from_arrays([columns[name] for name in shadow.columns.names], schema=shadow.columns)
    codes = bytearray(count)  # all scored
    for row, failure in failures.items():
        codes[row] = STATUSES.index(status_of(failure))
    return Outcomes(bytes(codes), shadow.encoded(batch))


def warm_up() -> None:
    """Write and read one outcome: the first use of Arrow may import pandas, for seconds that no capture should wait."""
    row = Row(0, 0, b"", b"", None, 0, 1.0)
    model = {"name": "", "version": "", "sha256": ""}
    message = encode(row, "", model, Prediction(value=0.0), request_id="", scored_at=0)
    shadow = _columnar()
    shadow.encode(shadow.decode([message]).batch)


def _strata(rows: Rows) -> pa.Array:
    if len(rows.cells) == 1:
        return _repeated(rows.cells[0][0], pa.string(), len(rows))
    return pa.array([stratum for stratum, _ in rows.cells], pa.string()).take(pa.array(rows.cell_of))


def _repeated(value: Any, kind: pa.DataType, count: int) -> pa.Array:
    if value is None:
        return pa.nulls(count, kind)
    if pa.types.is_struct(kind):
        parts = [_repeated(value[field.name], field.type, count) for field in kind.fields]
        return pa.StructArray.from_arrays(parts, fields=kind.fields)
    return pa.repeat(pa.scalar(value, kind), count)


def _predictions(answers: Answers, failures: dict[int, Failure], kind: pa.DataType) -> pa.StructArray:
    count = answers.rows
    texts, numbers = pa.list_(pa.string()), pa.list_(pa.float64())
    items: Any = pa.nulls(count, texts)
    if answers.scores is not None and answers.row_items is not None:
        items = pa.array([[str(item) for item in row] for row in answers.row_items], texts)
    elif answers.scores is not None and answers.items is not None:
        names = [str(item) for item in answers.items]
        ends = pa.array(np.arange(count + 1, dtype=np.int32) * len(names))
        items = pa.ListArray.from_arrays(ends, pa.array(names * count, pa.string()), type=texts)
    label = answers.label
    parts = [
        pa.nulls(count, pa.float64()) if answers.value is None else pa.array(np.asarray(answers.value, np.float64)),
        pa.nulls(count, pa.string()) if label is None else pa.array([str(one) for one in label], pa.string()),
        pa.nulls(count, numbers) if answers.scores is None else _lists(answers.scores, numbers),
        items,
    ]
    failed = np.zeros(count, dtype=bool)
    failed[list(failures)] = True
    return pa.StructArray.from_arrays(parts, fields=kind.fields, mask=pa.array(failed))


def _lists(scores: Any, kind: pa.DataType) -> pa.ListArray:
    if not isinstance(scores, np.ndarray):
        return pa.array([[float(score) for score in row] for row in scores], kind)
    count, width = scores.shape
    ends = pa.array(np.arange(count + 1, dtype=np.int32) * width)
    return pa.ListArray.from_arrays(ends, pa.array(np.asarray(scores, np.float64).reshape(-1)), type=kind)


def _errors(failures: dict[int, Failure], count: int, kind: pa.DataType) -> pa.StructArray:
    if not failures:
        return pa.nulls(count, kind)
    rows: list[dict[str, str] | None] = [None] * count
    for row, failure in failures.items():
        rows[row] = _failure(failure)
    return pa.array(rows, kind)


def _failure(failure: Failure) -> dict[str, str]:
    return {"kind": str(failure.kind), "message": failure.message[:MAX_FAILURE_MESSAGE]}


def undecoded(row: Row, window_id: str, model: Artefact, failure: Failure, now_us: int) -> bytes:
    """The outcome of a row that no worker brought home: timed out, quarantined. Its key stands for its request id."""
    request_id = row.key.decode("utf-8", "replace")
    return encode(row, window_id, as_dict(model), failure, request_id=request_id, scored_at=now_us)
