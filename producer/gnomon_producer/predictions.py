"""Convert a caller's prediction to plain Avro values."""

import enum
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from gnomon_producer.checks import contents
from gnomon_producer.errors import Dropped, kind_of
from gnomon_schemas.records import MAX_FAILURE_MESSAGE, Failure, FailureKind, FeatureState, Prediction
from gnomon_schemas.texts import NotTextError, single, text_of
from gnomon_schemas.times import checked_microseconds

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

PREDICTION = ("value", "label", "scores", "items")
LABEL = ("value", "label", "relevance", "items")
FAILURE = ("kind", "message")
FEATURE_STATE = ("version", "cache_hits", "cache_misses")

Fields = tuple[Any, ...]
"""The values of a record within the envelope, in the order above."""


def prediction_fields(value: Any = None, label: Any = None, scores: Any = None, items: Any = None) -> Fields | None:
    """Return a Prediction's values, None if nothing is given; raise Dropped that names the invalid field."""
    if value is None and label is None and scores is None and items is None:
        return None
    numbers = None if scores is None else [_number("scores", score) for score in _sequence("scores", scores)]
    names = None if items is None else [text("items", item) for item in _sequence("items", items)]
    if numbers is not None and names is not None and len(numbers) != len(names):
        raise Dropped("invalid_features", f"{len(numbers)} scores or relevances are given for {len(names)} items")
    return (
        value if value is None or type(value) is float else _number("value", value),
        label if label is None or type(label) is str else text("label", label),
        numbers,
        names,
    )


def text(name: str, value: Any) -> str:
    """Return the text of an id, label, item or segment; raise Dropped that names a field without a text form."""
    try:
        return text_of(name, value)
    except NotTextError as misfit:
        raise Dropped("invalid_features", str(misfit)) from None


def label_fields(value: Any, label: Any, relevance: Any, items: Any) -> dict[str, Any]:
    """Return a Label's truth; raise Dropped if it is empty, or a number that is not a valid truth."""
    empty = type(label) is str and not label.strip()  # as in a file of labels
    truth = prediction_fields(value, None if empty else label, relevance, items)
    if truth is None or truth[:3] == (None, None, None):
        raise Dropped("invalid_features", "a label with neither value nor label nor relevance")
    fields = dict(zip(LABEL, truth, strict=True))
    if fields["value"] is not None and not math.isfinite(fields["value"]):
        raise Dropped("invalid_features", "value: a label must be a finite number, not NaN or infinity")
    if not all(map(math.isfinite, fields["relevance"] or ())):
        raise Dropped("invalid_features", "relevance: a label must have finite numbers, not NaN or infinity")
    return fields


def with_class(truth: dict[str, Any], classes: tuple[str, str] | None) -> dict[str, Any]:
    """Complete a binary truth: add the class of its value, or the value of its class.

    `classes`: the positive and the negative one, None if not declared.
    """
    if classes is not None:
        value, label = truth["value"], truth["label"]
        if label is None and value in (0.0, 1.0):
            truth["label"] = classes[0] if value else classes[1]
        elif value is None and label in classes:
            truth["value"] = float(label == classes[0])
    return truth


def prediction_of_result(result: Any) -> Fields | None:
    """Read the result of an `observe(predicted=…)` callable: mapping, Prediction, number, or label (text, boolean)."""
    if isinstance(result, Mapping):
        names = set(islice(result, len(PREDICTION) + 1))  # a mapping may iterate forever
        if not names <= set(PREDICTION):
            raise Dropped("invalid_features", f"a prediction can only have the names {', '.join(PREDICTION)}")
        return prediction_fields(**{name: result[name] for name in names})
    if isinstance(result, Prediction):
        return prediction_fields(result.value, result.label, result.scores, result.items)
    answer = _single("the result", result)
    # A boolean is a decision, as in the answers of models. NumPy's is known by name: the hook does not import NumPy.
    is_label = isinstance(answer, str | bytes | bool | enum.Enum) or kind_of(answer) in ("bool", "bool_")
    return prediction_fields(label=answer) if is_label else prediction_fields(value=answer)


def failure_fields(error: Any) -> Fields:
    """Return a Failure's values.

    An exception gives only its type's name, because its text may contain personal data.
    """
    if isinstance(error, Failure):
        return str(error.kind), error.message[:MAX_FAILURE_MESSAGE]
    if isinstance(error, BaseException):
        kind = FailureKind.TIMEOUT if isinstance(error, TimeoutError) else FailureKind.EXCEPTION
        return kind.value, f"{type(error).__module__}.{type(error).__qualname__}"[:MAX_FAILURE_MESSAGE]
    if isinstance(error, str):
        return FailureKind.EXCEPTION.value, error[:MAX_FAILURE_MESSAGE]
    raise Dropped("invalid_features", f"error is neither an exception nor a text but {kind_of(error)}")


def feature_state_fields(state: Any) -> Fields:
    """Return the values of a FeatureState, or of an equivalent mapping."""
    if isinstance(state, FeatureState):
        return state.version, state.cache_hits, state.cache_misses
    version = state.get("version")
    hits, misses = int(state.get("cache_hits", 0)), int(state.get("cache_misses", 0))
    return None if version is None else text("feature_state version", version), hits, misses


def microseconds(name: str, moment: Any) -> int:
    """Return microseconds since the Unix epoch of an int (microseconds from 2000 on) or an aware datetime, exactly."""
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise Dropped("invalid_features", f"{name} has no time zone")
        return (moment - _EPOCH) // _MICROSECOND
    if isinstance(moment, bool) or not hasattr(type(moment), "__index__"):
        raise Dropped("invalid_features", f"{name} is neither microseconds nor a datetime")
    try:
        return checked_microseconds(name, int(moment))
    except ValueError as error:
        raise Dropped("invalid_features", str(error)) from None


def _single(name: str, value: Any) -> Any:
    try:
        return single(name, value)
    except NotTextError as misfit:
        raise Dropped("invalid_features", str(misfit)) from None


def _number(name: str, value: Any) -> float:
    try:
        return float(_single(name, value))
    except (TypeError, ValueError, OverflowError):
        raise Dropped("invalid_features", f"{name}: a number is expected, not {kind_of(value)}") from None


def _sequence(name: str, value: Any) -> list[Any]:
    if not isinstance(value, (list, tuple)) and hasattr(value, "tolist"):
        value = value.tolist()
    if not isinstance(value, (list, tuple)):
        raise Dropped("invalid_features", f"{name}: a list is expected, not {kind_of(value)}")
    return list(contents(value))
