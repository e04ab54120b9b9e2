"""What the pool says to a worker, and what it believes of the answers. No I/O.

A model that has got hold of its worker's pipe may answer in the worker's place, so an answer is taken only as far as it
fits what was asked; it is one ShadowPrediction for each row at most, and a number is a number.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from gnomon_consumer.scorer import wire
from gnomon_consumer.scorer.jobs import Finished, Job
from gnomon_consumer.scorer.models import ModelSpec
from gnomon_consumer.scorer.outcomes import STATUSES, Outcomes
from gnomon_consumer.scorer.sandbox import Limits
from gnomon_schemas.schema import Schema, record_schema

Frame = tuple[dict[str, Any], list[bytes]]
OUTCOME = record_schema("ShadowPrediction").fingerprint.header
_DEAD = STATUSES.index("dead_lettered")
_MOST = 2**62  # of any number: beyond, no record could hold it
_LEAST_SECONDS = 1e-9


def load(spec: ModelSpec, limits: Limits, schemas: dict[str, Schema]) -> Frame:
    """The first frame: the model, and the schemas by header; the features that it is bound to come last."""
    header = {
        "op": "load",
        "model": spec.as_json(),
        "limits": limits.as_json(),
        # As sys.path[0] it would let a model shadow our modules; only `module:factory` needs the caller's folder.
        "folder": str(Path.cwd()),
        "keys": list(schemas),
    }
    return header, [schema.text.encode() for schema in schemas.values()]


def score(job: Job, cpu_seconds: float, schemas: dict[str, Schema]) -> Frame:
    """A job, with the schemas that the worker does not know yet."""
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
    return header, [schema.text.encode() for schema in schemas.values()] + wire.packed(job.rows)


def sandbox(header: dict[str, Any]) -> dict[str, Any]:
    """What a worker that is ready says of its sandbox."""
    found = header.get("sandbox")
    return found if isinstance(found, dict) else {}


def progress(job: Job, current: int, header: dict[str, Any]) -> int:
    """The row that is begun after `current`; raises WireError."""
    row = header.get("row")
    if not job.careful or not isinstance(row, int) or not current < row < len(job.rows):
        raise wire.WireError(f"progress at row {row!r}")
    return row


def finished(job: Job, header: dict[str, Any], blobs: list[bytes]) -> Finished:
    """The outcomes of a job; raises WireError where they are none."""
    try:
        codes, texts = blobs[0], wire.parted(*blobs[1:])
        dead = {int(row): (str(reason), str(detail)) for row, reason, detail in header["dead"]}
        fits = len(codes) == len(texts) == len(job.rows) and max(codes, default=0) < len(STATUSES)
        if not fits or dead.keys() != set(np.flatnonzero(np.frombuffer(codes, np.uint8) == _DEAD).tolist()):
            raise wire.WireError("outcomes that do not fit the job")
        if not pc.all(pc.starts_with(texts, pattern=OUTCOME), min_count=0).as_py():
            raise wire.WireError("outcomes that are none")
        return Finished(
            job,
            Outcomes(codes, texts.to_pylist(), dead),
            job.places,
            max(_LEAST_SECONDS, float(_number(header["seconds"]))),
            int(_number(header["cpu_us"])),
            int(_number(header["peak_rss_bytes"])),
            *(None if header[name] is None else int(_number(header[name])) for name in ("gpu_us", "gpu_peak_bytes")),
        )
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise wire.WireError(f"{type(error).__name__}: {error}") from None


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or not 0 <= value < _MOST:
        raise wire.WireError(f"{value!r} is no measure")
    return value
