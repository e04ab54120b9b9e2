"""Messages from the pool to a worker, and the checks of its answers. No I/O.

A hostile model may write to its worker's pipe itself. So a worker returns only the model's answers, in columns of
checked types and sizes, one row for each requested row; coordinates, window, rank and inclusion probability come from
the scorer. Outcomes that a worker has encoded itself (of rows one by one) are compared with them.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gnomon_consumer.scorer.captures import Texts, as_array, text_at
from gnomon_consumer.scorer.outcomes import ANSWER, STATUSES, Outcomes, status_of
from gnomon_consumer.scorer.pool.jobs import Finished, Job
from gnomon_consumer.scorer.worker import pipe
from gnomon_consumer.scorer.worker.encoding import completed, envelope, shadow_codec
from gnomon_consumer.scorer.worker.models import ModelSpec
from gnomon_consumer.scorer.worker.sandbox import Limits
from gnomon_consumer.scorer.worker.scoring import MOST_UNBOUND, UnboundWriter
from gnomon_schemas.records import Artefact, Failure, FailureKind, as_dict
from gnomon_schemas.schema import Schema, record_schema

PipeFrame = tuple[dict[str, Any], list[bytes]]
OUTCOME = record_schema("ShadowPrediction").fingerprint.header
_DEAD = STATUSES.index("dead_lettered")
_MOST = 2**62  # of any number; a record could not hold more
_LEAST_SECONDS = 1e-9
_MEASURES = {"latency_us": 2**53, "batch_size": 2**31 - 1, "queued_us": 2**53, "scored_at": 253_402_300_799_000_000}
_MOST_ITEMS = 100_000
_MOST_FILES = 10_000


def load(spec: ModelSpec, limits: Limits, schemas: dict[str, Schema]) -> PipeFrame:
    """Return the first frame: the model, and the schemas by header, last the one whose features are to be bound."""
    header = {
        "op": "load",
        "model": spec.as_json(),
        "processes": limits.processes,
        # In sys.path[0], a model's files could shadow our modules; only `module:factory` needs the caller's folder.
        "folder": str(Path.cwd()),
        "keys": list(schemas),
    }
    return header, [schema.text.encode() for schema in schemas.values()]


def score(job: Job, cpu_seconds: float, schemas: dict[str, Schema]) -> PipeFrame:
    """Return a job, with the schemas that the worker does not know yet."""
    header = {
        "op": "score",
        "keys": list(schemas),
        "window": job.window_id,
        "partition": job.partition,
        "sealed_at": job.sealed_at,
        "single": job.single,
        "careful": job.careful,
        "cpu_seconds": cpu_seconds,
        "cells": job.rows.cells,
    }
    return header, [schema.text.encode() for schema in schemas.values()] + pipe.packed(job.rows)


def sandbox(header: dict[str, Any]) -> dict[str, Any]:
    """Return a ready worker's report on its sandbox."""
    found = header.get("sandbox")
    return found if isinstance(found, dict) else {}


def reading(header: dict[str, Any]) -> str:
    """Return a ready worker's report on the model's outputs: which are read as value, label and scores."""
    return str(header.get("reading", ""))[:2000]


def files(header: dict[str, Any]) -> dict[str, str]:
    """Return a ready worker's report on the files that its model opened while loading: the SHA-256 by name."""
    found = header.get("files")
    listed = list(found.items())[:_MOST_FILES] if isinstance(found, dict) else []
    return {str(name): str(digest)[:64] for name, digest in listed}


def unseen(header: dict[str, Any]) -> str:
    """Return a ready worker's report on why files that libraries in C open were not seen; empty where they were."""
    return str(header.get("unseen", ""))[:500]


def widths(header: dict[str, Any]) -> dict[str, int]:
    """Return a ready worker's report on the lists that its model takes: the number of items, by feature."""
    found = header.get("widths")
    listed = found.items() if isinstance(found, dict) else ()
    return {str(name): width for name, width in listed if isinstance(width, int) and 0 <= width <= _MOST_ITEMS}


def unbound_writers(header: dict[str, Any]) -> list[UnboundWriter]:
    """Return a worker's report on captures that its model cannot be bound to."""
    found = header.get("unbound_writers")
    listed = found[:MOST_UNBOUND] if isinstance(found, list) else []
    return [
        UnboundWriter(*(str(text)[:500] for text in one)) for one in listed if isinstance(one, list) and len(one) == 3
    ]


def progress(job: Job, current: int, header: dict[str, Any]) -> int:
    """Return the row that the worker begins after `current`; raises WireError."""
    row = header.get("row")
    if not job.careful or not isinstance(row, int) or not current < row < len(job.rows):
        raise pipe.WireError(f"progress at row {row!r}")
    return row


def finished(job: Job, model: Artefact, header: dict[str, Any], blobs: list[bytes]) -> Finished:
    """Return the outcomes of a job; raise WireError for an invalid frame, or fields that only the scorer may set."""
    try:
        dead = {int(row): (str(reason), str(detail)) for row, reason, detail in header["dead"]}
        columns = _columns(job, model, header["present"], blobs)
        codes = _codes(columns)
        if dead.keys() != set(np.flatnonzero(codes == _DEAD).tolist()):
            raise pipe.WireError("the dead letters do not match the outcomes")
        _check_measures(columns)
        return Finished(
            job,
            Outcomes(codes.tobytes(), shadow_codec().encoded(columns).to_pylist(), dead),
            job.places,
            seconds=max(_LEAST_SECONDS, float(_number(header["seconds"]))),
            cpu_us=int(_number(header["cpu_us"])),
            peak_rss_bytes=int(_number(header["peak_rss_bytes"])),
            gpu_us=_whole_or_none(header["gpu_us"]),
            gpu_peak_bytes=_whole_or_none(header["gpu_peak_bytes"]),
        )
    except (IndexError, KeyError, TypeError, ValueError, OverflowError, pa.ArrowException) as error:
        raise pipe.WireError(f"{type(error).__name__}: {error}") from None


def _columns(job: Job, model: Artefact, present: list[int], blobs: list[bytes]) -> pa.RecordBatch:
    """Return the outcomes of all rows, with the scorer's own coordinates and weights."""
    schema, rows, window = shadow_codec().columns, job.rows, job.window_id
    request_ids = _request_ids(rows.keys)
    if present:
        answers = pipe.put_together(pa.schema([schema.field(name) for name in ANSWER]), len(rows), present, blobs)
        return completed(answers, rows, window, as_dict(model), request_ids)
    codes, texts = blobs[0], pipe.parted(*blobs[1:])
    if not len(codes) == len(texts) == len(rows):
        raise pipe.WireError("not one outcome per row")
    if not pc.all(pc.starts_with(texts, pattern=OUTCOME), min_count=0).as_py():
        raise pipe.WireError("invalid outcomes")
    found = shadow_codec().decode(texts.to_pylist(), texts)
    if found.errors:
        raise pipe.WireError(f"outcomes that cannot be read: {next(iter(found.errors.values()))}")
    for name, column in envelope(rows, window, as_dict(model), request_ids).items():
        if not found.batch.column(name).equals(column.cast(schema.field(name).type)):
            raise pipe.WireError(f"outcomes with another {name}")
    return found.batch


def _request_ids(keys: Texts) -> pa.Array:
    """Return the request ids of captures: their keys."""
    try:
        return as_array(keys).cast(pa.string())
    except pa.ArrowInvalid:  # an invalid UTF-8 key is not that of a capture; the row becomes a dead letter
        return pa.array([text_at(keys, at).decode("utf-8", "replace") for at in range(len(keys))], pa.string())


def _codes(columns: pa.RecordBatch) -> NDArray[np.uint8]:
    """Return the bucket of each outcome; raise WireError if one is both a prediction and an error, or neither."""
    failed, error = columns.column("prediction").is_null(), columns.column("error")
    if not failed.equals(error.is_valid()):
        raise pipe.WireError("an outcome is either a prediction or an error")
    codes = np.zeros(len(columns), np.uint8)
    for row in np.flatnonzero(failed.to_numpy(zero_copy_only=False)).tolist():
        kind = FailureKind(error[row]["kind"].as_py())
        codes[row] = STATUSES.index(status_of(Failure(kind, "")))
    return codes


def _check_measures(columns: pa.RecordBatch) -> None:
    """Raise WireError for numbers that an honest worker never sends: they would break a report, or the joiner."""
    for name, most in _MEASURES.items():
        found = pc.min_max(columns.column(name)).as_py()
        if found["min"] is not None and not 0 <= found["min"] <= found["max"] <= most:
            raise pipe.WireError(f"{name} out of range")
    prediction = columns.column("prediction")
    scores = pc.struct_field(prediction, "scores")
    for numbers in (pc.struct_field(prediction, "value"), pc.list_flatten(scores)):
        if not pc.all(pc.is_finite(numbers), min_count=0).as_py():
            raise pipe.WireError("a prediction that is not finite")


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or not 0 <= value < _MOST:
        raise pipe.WireError(f"{value!r} is not a valid measurement")
    return value


def _whole_or_none(value: Any) -> int | None:
    return None if value is None else int(_number(value))
