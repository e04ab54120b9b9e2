"""Before the first window: warm the workers, measure their rate, and compare the model with golden answers.

A file of rows is JSON lines, each {"features": {name: value, …}} and, for a golden check, what research got for it:
"value", "label" or "scores".
"""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gnomon_consumer.logs import get_logger
from gnomon_consumer.scorer.jobs import Job
from gnomon_consumer.scorer.options import Options
from gnomon_consumer.scorer.outcomes import Scored
from gnomon_consumer.scorer.pool import Pool
from gnomon_consumer.scorer.rows import Row, Rows
from gnomon_consumer.settings import ScoreSettings
from gnomon_schemas.codec import Codec, Reader, Record
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.features import Feature, FeatureSchema
from gnomon_schemas.schema import Schema
from gnomon_schemas.store import packaged_schemas

REHEARSAL = "rehearsal"
WARM_UP_ROWS = 512
_WORST = 3  # rows that a refusal names
log = get_logger("rehearsal")


@dataclass(frozen=True, slots=True)
class Example:
    """One row of a file: its line number, features, and the answer that is expected of the model."""

    line: int
    features: Mapping[str, Any]
    expected: Mapping[str, Any]


def read_examples(path: Path) -> list[Example]:
    """The rows of a file; raises ConfigurationError that names the line at fault."""
    examples = []
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                row = json.loads(line)
                if not isinstance(row, dict) or not isinstance(row.get("features"), dict):
                    raise ConfigurationError(f"{path}:{number}: not an object with `features`")
                expected = {name: row[name] for name in ("value", "label", "scores") if row.get(name) is not None}
                examples.append(Example(number, row["features"], expected))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}") from None
    except ValueError as error:
        raise ConfigurationError(f"{path}:{len(examples) + 1}: no JSON: {error}") from None
    if not examples:
        raise ConfigurationError(f"{path}: no rows")
    return examples


def synthetic(features: Sequence[Feature], count: int) -> list[Example]:
    """Rows of plausible types and no meaning, for a warm-up without a file."""
    return [Example(0, {feature.name: _any(feature, row) for feature in features}, {}) for row in range(count)]


def _any(feature: Feature, row: int) -> Any:
    if feature.kind == "null":
        return None
    if feature.kind == "enum":
        return feature.symbols[row % len(feature.symbols)]
    return {"boolean": row % 2 == 0, "string": "", "int": row % 7, "long": row % 7, "array": []}.get(
        feature.kind, float(row % 7)
    )


def captures(live: Schema, examples: Sequence[Example], source: Path | None = None) -> list[Row]:
    """The examples as captures; raises ConfigurationError where one does not fit the stream's features."""
    codec = Codec(live)
    names = [feature.name for feature in FeatureSchema.in_live(live).features]
    rows = []
    for number, example in enumerate(examples):
        missing = [name for name in names if name not in example.features]
        if missing:
            raise ConfigurationError(f"{source}:{example.line}: no feature {missing[0]!r}")
        key = f"{REHEARSAL}-{number}"
        record = {
            "producer_id": REHEARSAL,
            "sequence": number,
            "captured_at": 0,
            "request_id": key,
            "capture_probability": 1.0,
            "stratum": None,
            "segments": {},
            "cluster": None,
            "model": {"name": REHEARSAL, "version": ""},
            "features": {name: example.features[name] for name in names},
            "prediction": None,
            "error": None,
            "latency_us": None,
            "feature_state": None,
        }
        try:
            value = codec.encode(record)
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigurationError(f"{source}:{example.line}: {error}") from None
        rows.append(Row(0, number, key.encode(), value, None, number, 1.0))
    return rows


def rehearsed(
    pool: Pool, live: Schema, options: Options, settings: ScoreSettings, stopping: Callable[[], bool]
) -> float:
    """Compare with golden answers, then warm the workers up; rows a second of the whole pool."""
    if options.golden is not None:
        examples = read_examples(options.golden)
        found, _ = rehearse(pool, captures(live, examples, options.golden), settings.batch_rows, stopping)
        if len(found) == len(examples):
            largest = check_golden(examples, found, options.tolerance, options.golden)
            log.info("golden", rows=len(examples), largest_difference=largest)
    if isinstance(options.warm_up, int):
        rows = captures(live, synthetic(FeatureSchema.in_live(live).features, options.warm_up or WARM_UP_ROWS))
    else:
        rows = captures(live, read_examples(options.warm_up), options.warm_up)
    for _ in range(2):  # the second time counts
        _, rate = rehearse(pool, rows, settings.batch_rows, stopping)
    rate = max(rate, 1.0) * settings.workers
    log.info("warmed up", rows=len(rows), rows_per_second=round(rate))
    return rate


def rehearse(pool: Pool, rows: Sequence[Row], batch: int, stopping: Callable[[], bool]) -> tuple[list[Record], float]:
    """Score rows outside of any window; returns their outcomes in order, and rows a second of one worker."""
    for at in range(0, len(rows), batch):
        part = Rows.of(rows[at : at + batch])
        now_us = time.time_ns() // 1000
        pool.submit(Job(REHEARSAL, 0, now_us, part, np.arange(at, at + len(part)), single=False))
    found: dict[int, Scored] = {}
    seconds = 0.0
    while len(found) < len(rows) and not stopping():
        for finished in pool.poll(wait=0.05):
            found.update(zip(finished.places, finished.scored, strict=True))
            seconds += finished.seconds
    reader = Reader(packaged_schemas())
    records = [reader.decode(found[place].message).record for place in sorted(found)]
    return records, len(rows) / seconds if seconds else 0.0


def check_golden(examples: Sequence[Example], outcomes: Sequence[Record], tolerance: float, source: Path) -> float:
    """The largest difference from the golden answers; raises ConfigurationError that names the worst rows."""
    wrong: list[tuple[float, str]] = []
    largest = 0.0
    for example, outcome in zip(examples, outcomes, strict=True):
        distance, text = _difference(example.expected, outcome)
        largest = max(largest, distance)
        if distance > tolerance:
            wrong.append((distance, f"line {example.line}: {text}"))
    if wrong:
        wrong.sort(key=lambda pair: -pair[0])
        raise ConfigurationError(
            f"{source}: {len(wrong)} of {len(examples)} rows differ by more than {tolerance:g}; the worst are "
            + "; ".join(text for _, text in wrong[:_WORST])
        )
    return largest


def _difference(expected: Mapping[str, Any], outcome: Record) -> tuple[float, str]:
    if outcome["error"] is not None:
        return math.inf, f"{outcome['error']['kind']}: {outcome['error']['message']}"
    got = outcome["prediction"]
    worst, text = 0.0, ""
    for name, wanted in expected.items():
        have = got[name]
        if name == "label":
            distance = 0.0 if have == str(wanted) else math.inf
        elif name == "value":
            distance = math.inf if have is None else abs(have - float(wanted))
        elif have is None or len(have) != len(wanted):
            distance = math.inf
        else:
            distance = max((abs(a - float(b)) for a, b in zip(have, wanted, strict=True)), default=0.0)
        if distance > worst:
            worst, text = distance, f"{name} is {have}, not {wanted}"
    return worst, text
