"""Encode outcomes as framed ShadowPredictions: a batch of answers in columns, or a single answer."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gnomon_consumer.scorer.captures import Row, Rows
from gnomon_consumer.scorer.outcomes import ANSWER, STATUSES, Outcomes, status_of
from gnomon_consumer.scorer.worker.models.base import Answers
from gnomon_schemas.codec import Codec
from gnomon_schemas.columnar import ColumnarCodec
from gnomon_schemas.records import (
    MAX_FAILURE_MESSAGE,
    Artefact,
    Failure,
    FeatureState,
    Prediction,
    as_dict,
)
from gnomon_schemas.schema import record_schema

_OTHER_BYTES = 1000  # of an outcome: its header, its coordinates, its weights


@cache
def codec(record: str) -> Codec:
    """Return the codec of a packaged record."""
    return Codec(record_schema(record))


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
    """Return the framed ShadowPrediction; `batch_size` is 0 if no model was run."""
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
            "probe_probability": row.probe_probability,
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
def shadow_codec() -> ColumnarCodec:
    """Return the codec of outcomes in batches."""
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
    """Return the bucket and the ShadowPrediction of each row, as `encode` gives them for single rows.

    They are not encoded yet: a worker sends the columns of the answers, and the scorer encodes them.
    """
    count = len(rows)
    failures = answers.all_failures()
    shadow = shadow_codec()
    same = {
        "batch_size": batch_size,
        "queued_us": queued_us,
        "scored_at": scored_at,
        "feature_state": None if feature_state is None else as_dict(feature_state),
    }
    columns = {name: _repeated(value, shadow.columns.field(name).type, count) for name, value in same.items()}
    columns |= {
        "latency_us": pa.array(latency_us, pa.int64()),
        "prediction": _predictions(answers, failures, shadow.columns.field("prediction").type),
        "error": _errors(failures, count, shadow.columns.field("error").type),
    }
    kinds = pa.schema([shadow.columns.field(name) for name in ANSWER])
    answer = pa.RecordBatch.from_arrays([columns[name] for name in ANSWER], schema=kinds)
    codes = bytearray(count)  # all rows are scored
    for row, failure in failures.items():
        codes[row] = STATUSES.index(status_of(failure))
    return Outcomes(
        bytes(codes), lambda: shadow.encoded(completed(answer, rows, window_id, model, request_ids)), columns=answer
    )


def most_bytes(answer: pa.RecordBatch, rows: Rows, model: dict[str, Any], request_ids: pa.Array) -> int:
    """Return an upper bound of the bytes of the longest of these outcomes, without encoding them."""
    strata = max((len(cell.stratum or "") for cell in rows.cells), default=0)
    names = sum(len(str(value)) for value in model.values())
    return _OTHER_BYTES + 4 * (strata + names) + sum(map(_most_bytes, [*answer.columns, request_ids]))


def _most_bytes(values: pa.Array) -> int:
    """Return an upper bound of the Avro bytes of one of these values; a number has at most ten."""
    kind = values.type
    if pa.types.is_struct(kind):
        return 2 + sum(map(_most_bytes, values.flatten()))
    if pa.types.is_list(kind):
        longest = pc.max(pc.list_value_length(values)).as_py() or 0
        return 20 + longest * _most_bytes(pc.list_flatten(values))
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        return 10 + (pc.max(pc.binary_length(values)).as_py() or 0)
    return 10


def completed(
    answer: pa.RecordBatch, rows: Rows, window_id: str, model: dict[str, Any], request_ids: pa.Array
) -> pa.RecordBatch:
    """Return complete ShadowPredictions: the worker's answers with the scorer's own fields."""
    own, schema = envelope(rows, window_id, model, request_ids), shadow_codec().columns
    arrays = [own[name] if name in own else answer.column(name) for name in schema.names]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def envelope(rows: Rows, window_id: str, model: dict[str, Any], request_ids: pa.Array) -> dict[str, pa.Array]:
    """Return the columns of outcomes that no model can influence: coordinates, and the place in the sample."""
    kinds = shadow_codec().columns
    same = {"source_partition": rows.partition, "window_id": window_id, "model": model}
    columns = {name: _repeated(value, kinds.field(name).type, len(rows)) for name, value in same.items()}
    return columns | {
        "source_offset": pa.array(rows.offsets),
        "request_id": request_ids,
        "stratum": _strata(rows),
        "rank": pa.array(rows.ranks),
        "inclusion_probability": pa.array(rows.probabilities),
        "probe_probability": pa.array(rows.probe_probabilities, from_pandas=True),
    }


def warm_up() -> None:
    """Write and read one outcome, because the first use of Arrow may import pandas, which takes seconds."""
    row = Row(0, 0, b"", b"", None, 0, 1.0)
    model = {"name": "", "version": "", "sha256": ""}
    message = encode(row, "", model, Prediction(value=0.0), request_id="", scored_at=0)
    shadow = shadow_codec()
    shadow.encode(shadow.decode([message]).batch)


def _strata(rows: Rows) -> pa.Array:
    if len(rows.cells) == 1:
        return _repeated(rows.cells[0].stratum, pa.string(), len(rows))
    return pa.array([cell.stratum for cell in rows.cells], pa.string()).take(pa.array(rows.cell_of))


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
    return {"kind": str(failure.kind), "message": written(failure.message)}


def written(message: str) -> str:
    """Return a message that every store can hold: at most MAX_FAILURE_MESSAGE characters, no NUL, no lone surrogate.

    A long one keeps both ends, because the cause of an error often comes last.
    """
    text = message.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    if len(text) <= MAX_FAILURE_MESSAGE:
        return text
    end = MAX_FAILURE_MESSAGE // 2
    return f"{text[: MAX_FAILURE_MESSAGE - end - 3]} … {text[-end:]}"


def undecoded(row: Row, window_id: str, model: Artefact, failure: Failure, now_us: int) -> bytes:
    """Return the outcome of a row that no worker returned: timed out, quarantined. Its key is its request id."""
    request_id = row.key.decode("utf-8", "replace")
    return encode(row, window_id, as_dict(model), failure, request_id=request_id, scored_at=now_us)
