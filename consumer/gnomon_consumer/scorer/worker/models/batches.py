"""Batches that a model accepts: rows whose lists have the same length, in the number of rows that the model requires.

So each row gets the same result in every batch as alone.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from gnomon_consumer.scorer.worker.models.base import Answers, Batch, FeatureColumn, ModelInput, Runner, joined
from gnomon_schemas.arrays import Indices
from gnomon_schemas.features import Feature, by_any_name
from gnomon_schemas.records import FeatureState


def fitting(runner: Runner, features: Sequence[Feature], fixed: int | None = None, most: int | None = None) -> Runner:
    """Return the runner, behind a BatchFitter if its model needs one.

    `fixed`: the number of rows that each call must have; `most`: the maximum number of rows of a call.
    """
    lists = {name for name, feature in by_any_name(features).items() if feature.kind == "array"}
    bound = {name for one in runner.inputs for name in one.features}
    if fixed is None and most is None and not (lists & bound if bound else lists):
        return runner
    return BatchFitter(runner, fixed, most)


class BatchFitter:
    """A runner that splits batches for the one behind it; see `fitting`."""

    def __init__(self, runner: Runner, fixed: int | None, most: int | None) -> None:
        self._runner = runner
        self._fixed = fixed
        self._most = fixed or most
        self.inputs: tuple[ModelInput, ...] = runner.inputs
        self.reading, self.doubt = runner.reading, runner.doubt

    def predict(self, batch: Batch, rows: int) -> Answers:
        """Score the parts of a batch one after the other, and return their answers in the order of its rows."""
        parts = list(self._parts(batch, rows))
        if len(parts) == 1 and self._fixed in (None, rows) and not any(column.ragged for column in batch.values()):
            return self._runner.predict(batch, rows)
        answers = [self._part(batch, part) for part in parts]
        return joined(answers).placed(np.concatenate(parts)) if parts else Answers(0)

    def _parts(self, batch: Batch, rows: int) -> Iterator[Indices]:
        most = self._most or max(rows, 1)
        for group in _groups(batch, rows):
            yield from (group[at : at + most] for at in range(0, len(group), most))

    def _part(self, batch: Batch, part: Indices) -> Answers:
        count = len(part)
        if self._fixed is not None and count < self._fixed:
            part = np.concatenate([part, np.repeat(part[-1:], self._fixed - count)])
        answers = self._runner.predict({name: _taken(column, part) for name, column in batch.items()}, len(part))
        return answers if count == len(part) else answers.first(count)

    def feature_state(self) -> FeatureState | None:
        """Return the feature state of the wrapped model."""
        return self._runner.feature_state()

    def close(self) -> None:
        """Close the wrapped model."""
        self._runner.close()


def _groups(batch: Batch, rows: int) -> Iterable[Indices]:
    """Return groups of rows whose lists have the same lengths, in order; null lists form their own group."""
    lengths: list[Any] = []
    for column in batch.values():
        if column.ragged:
            sizes = np.fromiter(map(len, column.values), np.int64, rows)
            lengths.append(sizes if column.missing is None else np.where(column.missing, -1, sizes))
    if not lengths:
        return [np.arange(rows)]
    _, group = np.unique(np.stack(lengths), axis=1, return_inverse=True)
    group = group.reshape(-1)
    return [np.flatnonzero(group == one) for one in range(int(group.max(initial=-1)) + 1)]


def _taken(column: FeatureColumn, rows: Indices) -> FeatureColumn:
    """Return rows of a column whose lists have one length: [rows, width], or still `ragged` if all of them are null."""
    missing = None if column.missing is None else column.missing[rows]
    values = column.values[rows]
    if column.ragged and len(rows) and (missing is None or not missing.any()):
        return FeatureColumn(np.stack(list(values)), None, column.nullable)
    return FeatureColumn(values, missing, column.nullable, column.ragged)
