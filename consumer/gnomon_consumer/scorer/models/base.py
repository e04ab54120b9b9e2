"""What every model runner takes and gives: columns of features in, columns of answers out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.features import Feature
from gnomon_schemas.records import Failure, FailureKind, FeatureState, Prediction

Takes = Literal["float", "int", "bool", "string", "any"]
_LARGEST = 1.7e308
"""Beyond it a number is as good as infinite."""


@dataclass(frozen=True, slots=True)
class Column:
    """One feature of a batch: `values` [rows] or [rows, width]; `missing` marks nulls (their value means nothing).

    Numbers are float64 or int64, booleans bool, texts objects of str.
    """

    values: NDArray[Any]
    missing: NDArray[np.bool_] | None = None


Batch = Mapping[str, Column]


@dataclass(frozen=True, slots=True)
class ModelInput:
    """One input of a model, filled from `features` in this order; `width` None where the model does not say."""

    name: str
    takes: Takes
    features: tuple[str, ...]
    width: int | None = None


@dataclass(slots=True)
class Answers:
    """A batch of predictions in columns; `failures` by row index outweigh whatever the columns hold there.

    `value` [rows], `label` one text a row, `scores` one sequence of numbers a row, `items` one list of names for all
    rows, or one list a row.
    """

    rows: int
    value: NDArray[np.float64] | None = None
    label: Sequence[str] | None = None
    scores: NDArray[np.float64] | Sequence[Sequence[float]] | None = None
    items: Sequence[str] | None = None
    row_items: Sequence[Sequence[str]] | None = None
    failures: dict[int, Failure] = field(default_factory=dict)

    def all_failures(self) -> dict[int, Failure]:
        """The rows that are no prediction, by index: of `failures`, and those with a number that is not finite."""
        doubtful = set(self.failures)
        for numbers in (self.value, self.scores):
            if isinstance(numbers, np.ndarray):
                finite = (numbers > -_LARGEST) & (numbers < _LARGEST)
                doubtful.update(np.flatnonzero(~finite.reshape(self.rows, -1).all(axis=1)).tolist())
            elif numbers is not None:
                doubtful.update(
                    row for row, few in enumerate(numbers) if not all(-_LARGEST < one < _LARGEST for one in few)
                )
        outcomes = {row: self.prediction(row) for row in sorted(doubtful)}
        return {row: outcome for row, outcome in outcomes.items() if isinstance(outcome, Failure)}

    def prediction(self, row: int) -> Prediction | Failure:
        """The outcome of one row; a number that is not finite is a failure, because it would poison every average."""
        failure = self.failures.get(row)
        if failure is not None:
            return failure
        value = None if self.value is None else float(self.value[row])
        scores = None if self.scores is None else [float(score) for score in self.scores[row]]
        for number in (*(() if value is None else (value,)), *(scores or ())):
            if not -_LARGEST < number < _LARGEST:
                return Failure(FailureKind.MODEL_ERROR, f"the model answered {number}")
        items = self.row_items[row] if self.row_items is not None else self.items
        return Prediction(
            value=value,
            label=None if self.label is None else str(self.label[row]),
            scores=scores,
            items=None if items is None or scores is None else [str(item) for item in items],
        )


def joined(parts: Sequence[Answers]) -> Answers:
    """Answers to several calls as if they were to one; raises ValueError where they are not of one kind."""
    if len(parts) == 1:
        return parts[0]
    first, rows = parts[0], 0
    failures: dict[int, Failure] = {}
    for part in parts:
        for name in ("value", "label", "scores", "row_items"):
            if (getattr(part, name) is None) != (getattr(first, name) is None):
                raise ValueError(f"only some of the answers have {name}")
        if part.items != first.items:
            raise ValueError("the answers are over different items")
        failures.update((rows + row, failure) for row, failure in part.failures.items())
        rows += part.rows
    return Answers(
        rows,
        value=None if first.value is None else np.concatenate([part.value for part in parts if part.value is not None]),
        label=None if first.label is None else [one for part in parts for one in part.label or ()],
        scores=None if first.scores is None else _joined_scores([part.scores for part in parts]),
        items=first.items,
        row_items=None if first.row_items is None else [one for part in parts for one in part.row_items or ()],
        failures=failures,
    )


def _joined_scores(parts: Sequence[Any]) -> Any:
    if all(isinstance(part, np.ndarray) and part.shape[1:] == parts[0].shape[1:] for part in parts):
        return np.concatenate(parts)
    return [row for part in parts for row in part]


class Runner(Protocol):
    """A loaded model. `inputs` empty means that it takes every feature by name."""

    inputs: tuple[ModelInput, ...]

    def predict(self, batch: Batch, rows: int) -> Answers:
        """Score a batch; an exception fails the batch, and the caller then tries its rows one at a time."""
        ...

    def feature_state(self) -> FeatureState | None:
        """The state of the model's own feature cache since the last call, or None where it has none."""
        ...

    def close(self) -> None:
        """Give back what the model holds."""
        ...


def check_fit(inputs: Sequence[ModelInput], features: Sequence[Feature]) -> None:
    """Raise ConfigurationError that names the feature where the stream's captures cannot fill the model's inputs."""
    known = {feature.name: feature for feature in features}
    for one in inputs:
        if one.width is not None and not _width_fits(one, known):
            raise ConfigurationError(
                f"the model's input {one.name!r} takes {one.width} columns, but {len(one.features)} features are"
                f" bound to it: {', '.join(one.features) or 'none'}"
            )
        for name in one.features:
            feature = known.get(name)
            if feature is None:
                raise ConfigurationError(
                    f"the model's input {one.name!r} needs the feature {name!r}, which the captures do not have"
                    f" (they have: {', '.join(known)})"
                )
            if not _kind_fits(one.takes, feature):
                kind = f"{feature.kind} of {feature.items}" if feature.kind == "array" else feature.kind
                raise ConfigurationError(
                    f"the feature {name!r} is {kind}, but the model's input {one.name!r} takes {one.takes}"
                )


def _width_fits(one: ModelInput, known: Mapping[str, Feature]) -> bool:
    arrays = len(one.features) == 1 and one.features[0] in known and known[one.features[0]].kind == "array"
    return arrays or len(one.features) == one.width


def _kind_fits(takes: Takes, feature: Feature) -> bool:
    kind = feature.items if feature.kind == "array" else feature.kind
    if takes == "any":
        return True
    if takes == "string":
        return feature.textual
    if takes == "int":
        return kind in ("int", "long", "boolean")
    if takes == "bool":
        return kind == "boolean"
    return kind in ("int", "long", "float", "double", "boolean", "null")


def missing_failures(inputs: Sequence[ModelInput], batch: Batch) -> dict[int, Failure]:
    """Rows in which a null meets an input that cannot hold one (texts, integers and booleans have no NaN)."""
    failures: dict[int, Failure] = {}
    for one in inputs:
        if one.takes in ("float", "any"):
            continue
        for name in one.features:
            missing = batch[name].missing
            for row in [] if missing is None else np.flatnonzero(missing):
                failures.setdefault(
                    int(row), Failure(FailureKind.INVALID_FEATURES, f"the feature {name!r} is null; {one.takes} needed")
                )
    return failures
