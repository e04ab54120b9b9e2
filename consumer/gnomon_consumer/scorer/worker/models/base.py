"""The interface of every model runner: columns of features in, columns of answers out."""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.features import Feature, by_any_name
from gnomon_schemas.records import Failure, FailureKind, FeatureState, Prediction

Takes = Literal["float", "int", "bool", "string", "any"]
LIVE_ITEMS = Feature("prediction.items", "array", nullable=True, items="string")
"""The name of the feature by which a challenger gets the items that the live model ranked."""

_LARGEST = 1.7e308
"""A number beyond this counts as infinite."""


@dataclass(
    slots=True
)  # not frozen: a probe creates one for each feature of each row, and frozen ones take three times as long
class FeatureColumn:
    """One feature of a batch: `values` [rows] or [rows, width]; `missing` marks nulls (their value means nothing).

    Numbers are float64 or int64, booleans bool, texts objects of str. `nullable`: whether any row of this feature may
    be null. `ragged`: the feature is a list and its rows differ in length or some are null, so `values` [rows] holds an
    array for each row; otherwise a list is [rows, width].
    """

    values: NDArray[Any]
    missing: NDArray[np.bool_] | None = None
    nullable: bool = False
    ragged: bool = False


Batch = Mapping[str, FeatureColumn]


@dataclass(frozen=True, slots=True)
class ModelInput:
    """One input of a model, filled from `features` in this order; `width` is None if the model does not state it.

    `optional`: features that captures need not have; they count as null.
    """

    name: str
    takes: Takes
    features: tuple[str, ...]
    _: KW_ONLY
    width: int | None = None
    optional: frozenset[str] = frozenset()


@dataclass(slots=True)
class Answers:
    """A batch of predictions in columns; `failures`, by row index, override the columns.

    `value` [rows], `label` one text a row, `scores` one sequence of numbers a row, `items` one list of names for all
    rows, or one list a row.
    """

    rows: int
    _: KW_ONLY
    value: NDArray[np.float64] | None = None
    label: Sequence[str] | None = None
    scores: NDArray[np.float64] | Sequence[Sequence[float]] | None = None
    items: Sequence[str] | None = None
    row_items: Sequence[Sequence[str]] | None = None
    failures: dict[int, Failure] = field(default_factory=dict)

    def all_failures(self) -> dict[int, Failure]:
        """Return the rows without a valid prediction, by index: `failures`, and rows with invalid numbers or names."""
        doubtful = set(self.failures)
        for numbers in (self.value, self.scores):
            if isinstance(numbers, np.ndarray):
                finite = (numbers > -_LARGEST) & (numbers < _LARGEST)
                doubtful.update(np.flatnonzero(~finite.reshape(self.rows, -1).all(axis=1)).tolist())
            elif numbers is not None:
                doubtful.update(
                    row for row, few in enumerate(numbers) if not all(-_LARGEST < one < _LARGEST for one in few)
                )
        if self.scores is not None and (self.row_items is not None or self.items is not None):
            doubtful.update(row for row in range(self.rows) if len(self.scores[row]) != len(self._items(row) or ()))
        outcomes = {row: self.prediction(row) for row in sorted(doubtful)}
        return {row: outcome for row, outcome in outcomes.items() if isinstance(outcome, Failure)}

    def prediction(self, row: int) -> Prediction | Failure:
        """Return the outcome of one row; a number that is not finite fails, because it would spoil every average."""
        failure = self.failures.get(row)
        if failure is not None:
            return failure
        value = None if self.value is None else float(self.value[row])
        scores = None if self.scores is None else [float(score) for score in self.scores[row]]
        for number in (*(() if value is None else (value,)), *(scores or ())):
            if not -_LARGEST < number < _LARGEST:
                return Failure(FailureKind.MODEL_ERROR, f"the model answered {number}")
        items = None if scores is None else self._items(row)
        if scores is not None and items is not None and len(items) != len(scores):
            text = f"the model answered {len(scores)} scores for {len(items)} items"
            return Failure(FailureKind.MODEL_ERROR, text)
        return Prediction(
            value=value,
            label=None if self.label is None else str(self.label[row]),
            scores=scores,
            items=None if items is None else [str(item) for item in items],
        )

    def _items(self, row: int) -> Sequence[str] | None:
        return self.items if self.row_items is None else self.row_items[row]

    def first(self, count: int) -> "Answers":
        """Return the first `count` rows."""
        return self._chosen(np.arange(count))

    def placed(self, places: NDArray[np.int64]) -> "Answers":
        """Return the rows in another order: row i becomes row `places[i]`."""
        return self._chosen(np.argsort(places))

    def spread(self, places: NDArray[np.int64], rows: int, failures: Mapping[int, Failure]) -> "Answers":
        """Return these answers spread over `rows` rows: row i becomes row `places[i]`, the others are `failures`."""
        chosen = np.full(rows, -1)
        chosen[places] = np.arange(self.rows)
        result = self._chosen(chosen)
        result.failures.update(failures)
        return result

    def _chosen(self, rows: NDArray[np.int64]) -> "Answers":
        """Return rows by index; -1 means a row without an answer."""
        listed = rows.tolist()
        value, label, scores, row_items = self.value, self.label, self.scores, self.row_items
        if value is not None:
            value = np.append(value, np.nan)[rows]
        if label is not None:
            label = ["" if row < 0 else label[row] for row in listed]
        if isinstance(scores, np.ndarray):
            scores = np.vstack([scores, np.full((1, scores.shape[1]), np.nan)])[rows]
        elif scores is not None:
            scores = [[] if row < 0 else scores[row] for row in listed]
        if row_items is not None:
            row_items = [[] if row < 0 else row_items[row] for row in listed]
        failures = {at: self.failures[row] for at, row in enumerate(listed) if row in self.failures}
        return Answers(
            len(rows),
            value=value,
            label=label,
            scores=scores,
            items=self.items,
            row_items=row_items,
            failures=failures,
        )

    @property
    def columns(self) -> tuple[bool, ...]:
        """Return which of _COLUMNS are present; none is if every row failed before the model was called."""
        return (
            self.value is not None,
            self.label is not None,
            self.scores is not None,
            self.items is not None,
            self.row_items is not None,
        )


_COLUMNS = ("value", "label", "scores", "items", "row_items")


def joined(parts: Sequence[Answers]) -> Answers:
    """Return the answers to several calls as one; raise ValueError if they are of different kinds."""
    if len(parts) == 1:
        return parts[0]
    first = next((part for part in parts if any(part.columns)), parts[0])
    wanted, items = first.columns, first.items
    failures: dict[int, Failure] = {}
    rows = 0
    alike = []
    for part in parts:
        columns = part.columns
        if columns != wanted and not any(columns) and len(part.failures) == part.rows:
            part = first.first(0).spread(np.empty(0, np.int64), part.rows, part.failures)
            columns = part.columns
        if columns != wanted:
            odd = next(name for name, one, other in zip(_COLUMNS, columns, wanted, strict=True) if one != other)
            raise ValueError(f"only some of the answers have {odd}")
        if part.items is not items and list(part.items or ()) != list(items or ()):
            raise ValueError("the answers are for different items")
        if part.failures:
            failures.update((rows + row, failure) for row, failure in part.failures.items())
        rows += part.rows
        alike.append(part)
    result = Answers(rows, items=first.items, failures=failures)
    if first.value is not None:
        result.value = np.concatenate([part.value for part in alike if part.value is not None])
    if first.label is not None:
        result.label = [one for part in alike for one in part.label or ()]
    if first.scores is not None:
        result.scores = _joined_scores([part.scores for part in alike])
    if first.row_items is not None:
        result.row_items = [one for part in alike for one in part.row_items or ()]
    return result


def _joined_scores(parts: Sequence[Any]) -> Any:
    if all(isinstance(part, np.ndarray) and part.shape[1:] == parts[0].shape[1:] for part in parts):
        return np.concatenate(parts)
    return [row for part in parts for row in part]


class Runner(Protocol):
    """A loaded model. `inputs` empty means that it takes every feature by name.

    `reading` describes what is read as value, label and scores. `doubt` says why that cannot be compared with anything;
    None if it can.
    """

    inputs: tuple[ModelInput, ...]
    reading: str
    doubt: str | None

    def predict(self, batch: Batch, rows: int) -> Answers:
        """Score a batch; after an exception the caller tries its rows one at a time."""
        ...

    def feature_state(self) -> FeatureState | None:
        """Return the state of the model's own feature cache since the last call, or None without a cache."""
        ...

    def close(self) -> None:
        """Release the model's resources."""
        ...


def check_fit(inputs: Sequence[ModelInput], features: Sequence[Feature]) -> None:
    """Raise ConfigurationError that names the feature if the stream's captures cannot fill the model's inputs."""
    known = by_any_name(features)
    for one in inputs:
        _check_width(one, known)
        for name in one.features:
            feature = known.get(name)
            if feature is None:
                if name in one.optional:
                    continue
                raise ConfigurationError(
                    f"the model's input {one.name!r} needs the feature {name!r}, which the captures do not have"
                    f" (they have: {', '.join(known)})"
                )
            if not _kind_fits(one.takes, feature):
                kind = f"{feature.kind} of {feature.items}" if feature.kind == "array" else feature.kind
                raise ConfigurationError(
                    f"the feature {name!r} is {kind}, but the model's input {one.name!r} takes {one.takes}"
                )


def list_widths(inputs: Sequence[ModelInput], features: Sequence[Feature]) -> dict[str, int]:
    """Return how many items the model takes of each list, if its inputs state it; lists may share an input's width."""
    lists = {name for name, feature in by_any_name(features).items() if feature.kind == "array"}
    found: dict[str, int] = {}
    for one in inputs:
        bound = [name for name in one.features if name in lists]
        if one.width is not None and bound:
            left = one.width - (len(one.features) - len(bound))
            shares = [left // len(bound)] * (len(bound) - 1)
            found |= dict(zip(bound, [*shares, left - sum(shares)], strict=True))
    return found


def _check_width(one: ModelInput, known: Mapping[str, Feature]) -> None:
    """Check the number of columns: as many as single features, or at least as many if there is a list."""
    if one.width is None:
        return
    lists = sum(name in known and known[name].kind == "array" for name in one.features)
    single = len(one.features) - lists
    if single > one.width or (single < one.width and not lists):
        raise ConfigurationError(
            f"the model's input {one.name!r} takes {one.width} columns, but {len(one.features)} features are"
            f" bound to it: {', '.join(one.features) or 'none'}"
        )


def _kind_fits(takes: Takes, feature: Feature) -> bool:
    kind = feature.items if feature.kind == "array" else feature.kind
    if takes == "any":
        return True
    if takes == "string":
        return kind in ("string", "enum")
    if takes == "int":
        return kind in ("int", "long", "boolean")
    if takes == "bool":
        return kind == "boolean"
    return kind in ("int", "long", "float", "double", "boolean", "null")
