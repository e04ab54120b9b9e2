"""The rehearsal before the first window: warm the workers, measure their rate, and check the model's answers.

A model that fails on every row is refused, because its deployment would never give a result.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gnomon_consumer.runtime.logging import get_logger
from gnomon_consumer.scorer.captures import Row, Rows
from gnomon_consumer.scorer.options import Options
from gnomon_consumer.scorer.outcomes import Scored
from gnomon_consumer.scorer.pool.jobs import Job
from gnomon_consumer.scorer.pool.pool import Pool
from gnomon_consumer.scorer.rehearsal.examples import REHEARSAL, captures, read_examples, synthetic
from gnomon_consumer.scorer.rehearsal.golden import check_golden
from gnomon_consumer.scorer.worker.models.probabilities import UNDECIDED
from gnomon_consumer.settings import ScoreSettings
from gnomon_schemas.codec import Reader, Record
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.features import FeatureSchema
from gnomon_schemas.schema import Schema
from gnomon_schemas.store import packaged_schemas

WARM_UP_ROWS = 512
WARM_UP_SECONDS = 60.0
"""Seconds for one pass over the rows: each row of a model that hangs takes `score.call_seconds`."""
ALONE_ROWS = 16  # rows that are scored both in a batch and alone
# allowed relative difference of two answers to one row: floating point may differ with the size of a batch
_ALIKE = 1e-3
_REVERSED = (
    "the label is the class of the lower of two scores in {} of {} rows of the warm-up, so the classes are named in"
    " reverse order: reverse `classes` in the sidecar, or say which output is the value, such as"
    " `outputs: {{NAME: [value, null]}}`"
)
NAME_THEM = "list them in the model's attribute `files` (docs/models.md)"
log = get_logger("rehearsal")


def rehearsed(
    pool: Pool, live: Schema, options: Options, settings: ScoreSettings, stopping: Callable[[], bool]
) -> float:
    """Compare with golden answers, then warm the workers up; return the rows a second of the whole pool.

    Raises ConfigurationError if the answers differ, or if the model fails on every row.
    """
    log.info("model", name=options.model.name, reads=pool.reading, **({"files": pool.files[:50]} if pool.files else {}))
    if pool.unseen:
        log.warning("files that C libraries open are not in the model's SHA-256", reason=pool.unseen, way_out=NAME_THEM)
    if options.golden is not None:
        examples = read_examples(options.golden)
        found, _ = rehearse(pool, captures(live, examples, options.golden), settings.batch_rows, stopping)
        if len(found) == len(examples):
            largest = check_golden(examples, found, options.tolerance, options.golden)
            log.info("golden", rows=len(examples), largest_difference=largest)
    made_up = isinstance(options.warm_up, int)
    rows = warm_up_rows(live, options.warm_up, pool.widths)
    outcomes: list[Record] = []
    rate = 0.0
    for _ in range(2):  # only the second pass is measured
        outcomes, rate = rehearse(pool, rows, settings.batch_rows, stopping)
        if len(outcomes) < len(rows):
            break
    if outcomes and not stopping():
        check_warm_up(outcomes, made_up, options.allow_failing)
    if len(outcomes) == len(rows):
        few = rows[:ALONE_ROWS]
        _warn_of_neighbours(outcomes, rehearse(pool, few, settings.batch_rows, stopping, single=True)[0])
    rate = max(rate, 1.0) * settings.workers
    log.info("warmed up", rows=len(outcomes), rows_per_second=round(rate))
    return rate


def warm_up_rows(live: Schema, warm_up: int | Path, widths: Mapping[str, int]) -> list[Row]:
    """Return the captures of a warm-up: a file's, or so many generated ones (0: WARM_UP_ROWS).

    Raises ConfigurationError.
    """
    if isinstance(warm_up, Path):
        return captures(live, read_examples(warm_up), warm_up)
    return captures(live, synthetic(FeatureSchema.in_live(live).features, warm_up or WARM_UP_ROWS, widths))


def rehearse(
    pool: Pool,
    rows: Sequence[Row],
    batch: int,
    stopping: Callable[[], bool],
    single: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[list[Record], float]:
    """Score rows outside of any window; return their outcomes in order, and rows a second of one worker.

    It stops after WARM_UP_SECONDS of the clock; rows without an outcome by then have none. Raises ConfigurationError
    if no row has one.
    """
    for at in range(0, len(rows), batch):
        part = Rows.of(rows[at : at + batch])
        now_us = time.time_ns() // 1000
        pool.submit(
            Job(
                window_id=REHEARSAL,
                partition=0,
                sealed_at=now_us,
                rows=part,
                places=np.arange(at, at + len(part)),
                single=single,
            )
        )
    found: dict[int, Scored] = {}
    seconds = 0.0
    until = clock() + WARM_UP_SECONDS
    while len(found) < len(rows) and not stopping() and clock() < until:
        for finished in pool.poll(wait=0.05):
            found.update(zip(finished.places, finished.scored, strict=True))
            seconds += finished.seconds
    if len(found) < len(rows) and not stopping():
        pool.cancel({REHEARSAL})
        said = f"{len(found)} of {len(rows)} rows have an outcome after {WARM_UP_SECONDS:g} s"
        if not found:
            raise ConfigurationError(f"the model is too slow to warm up: {said}; give fewer with --warm-up N")
        log.warning("warm-up ends early", reason=said)
    reader = Reader(packaged_schemas())
    records = [reader.decode(found[place].message).record for place in sorted(found)]
    return records, len(found) / seconds if seconds else 0.0


def check_warm_up(outcomes: Sequence[Record], made_up: bool, allow_failing: bool) -> None:
    """Warn of rows that failed, and of labels that do not have the highest score.

    Raises ConfigurationError if every row failed, unless `allow_failing`. `made_up`: the rows were generated.
    """
    failures = [outcome["error"] for outcome in outcomes if outcome["error"] is not None]
    if failures:
        first = f"{failures[0]['kind']}: {failures[0]['message']}"
        if len(failures) == len(outcomes) and not allow_failing:
            real = " These rows were generated: --warm-up FILE gives real ones." if made_up else ""
            raise ConfigurationError(
                f"the model fails on all {len(outcomes)} rows of the warm-up, the first with {first}.{real}"
                " `gnomon score --allow-failing` scores it anyway"
            )
        undecided = next((one["message"] for one in failures if UNDECIDED in one["message"]), None)
        if undecided is not None and not allow_failing:
            raise ConfigurationError(f"the meaning of the model's scores is undecided: {undecided}")
        log.warning("rows failed in the warm-up", failed=len(failures), rows=len(outcomes), first=first)
    answers = [one["prediction"] for one in outcomes if one["error"] is None]
    unlike = [one for one in answers if _unlike_its_scores(one)]
    if unlike:
        if _in_reverse(unlike, answers) and not allow_failing:
            raise ConfigurationError(_REVERSED.format(len(unlike), len(answers)))
        log.warning(
            "labels differ from the classes with the highest scores: check `classes` and `outputs` of the model",
            rows=len(unlike),
            of=len(outcomes) - len(failures),
            label=unlike[0]["label"],
            scores=dict(zip(unlike[0]["items"], unlike[0]["scores"], strict=True)),
        )


def _in_reverse(unlike: Sequence[Mapping[str, Any]], answers: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether two classes are in reverse order: each of them is the label when its score is the lower one.

    With a decision threshold other than one half, one of the two may be the label at the lower score, but never both.
    """
    two = all(len(one["items"]) == 2 for one in unlike)
    return two and len({one["label"] for one in unlike}) == 2 and 2 * len(unlike) > len(answers)


def _unlike_its_scores(prediction: Mapping[str, Any]) -> bool:
    label, scores, items = prediction["label"], prediction["scores"], prediction["items"]
    if label is None or not scores or not items:
        return False
    highest = max(scores)
    return label not in [item for item, score in zip(items, scores, strict=True) if score == highest]


def _warn_of_neighbours(together: Sequence[Record], alone: Sequence[Record]) -> None:
    """Warn of a model whose answer to a row depends on the other rows of its batch, because it cannot be compared."""
    for row, (one, other) in enumerate(zip(together, alone, strict=False)):
        if one["error"] is None and other["error"] is None and not _alike(one["prediction"], other["prediction"]):
            log.warning(
                "the answer to a row depends on its batch: export the model for inference",
                row=row,
                in_a_batch={name: one["prediction"][name] for name in ("value", "label")},
                alone={name: other["prediction"][name] for name in ("value", "label")},
            )
            return


def _alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    if one["label"] != other["label"] or one["items"] != other["items"]:
        return False
    first, second = ([part["value"] or 0.0, *(part["scores"] or ())] for part in (one, other))
    return len(first) == len(second) and bool(np.allclose(first, second, rtol=_ALIKE, atol=_ALIKE))
