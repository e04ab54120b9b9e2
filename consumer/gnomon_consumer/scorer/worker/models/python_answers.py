"""The possible answers of a Python model, from any library: arrays, lists, series, frames, Arrow and sparse arrays.

Positions determine the rows, so an answer whose index has another order is refused. Values are numbers only if each of
their rows is: a boolean or text among numbers is refused, because NumPy converts it in some batches only. Every refusal
is a ValueError; the caller then asks for the rows one at a time.
"""

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from gnomon_consumer.scorer.worker.models.base import Answers
from gnomon_schemas.records import Failure, FailureKind
from gnomon_schemas.texts import NotTextError, is_missing, text_of

_PARTS = ("value", "label", "scores", "items")


def read_answer(answer: Any, rows: int) -> Answers:
    """Return the answer of `predict` to so many rows as columns; raise ValueError that names the part at fault."""
    if _is_frame(answer) and len(answer.columns) and set(map(str, answer.columns)) <= set(_PARTS):
        answer = {str(name): answer[name] for name in answer.columns}
    if not isinstance(answer, Mapping):
        return Answers(rows, value=_numbers(answer, rows, "its answer"))
    unknown = sorted(str(key) for key in answer.keys() - set(_PARTS))
    if unknown:
        raise ValueError(f"the model answered {unknown[0]!r}; value, label, scores and items are known")
    value, label, scores, items = (answer.get(part) for part in _PARTS)
    if value is None and label is None and scores is None:
        raise ValueError("the model answered none of value, label and scores")
    result = Answers(rows)
    if value is not None:
        result.value = _numbers(value, rows, "`value`")
    if label is not None:
        result.label = _labels(label, rows, result.failures)
    if scores is not None:
        result.scores = _scores(scores, rows)
        items = _checked_items(scores, items)
    if items is not None:
        _take_items(items, rows, result)
    return result


def _rows(answer: Any, rows: int, what: str) -> Any:
    """Return the rows of an answer: an array, or a list of anything."""
    _check_order(answer, rows, what)
    if hasattr(answer, "toarray"):  # a sparse array
        answer = answer.toarray()
    elif hasattr(answer, "to_pylist"):  # Arrow
        answer = answer.to_pylist()
    elif hasattr(answer, "to_numpy"):
        answer = answer.to_numpy()
    if isinstance(answer, np.ma.MaskedArray):
        answer = _unmasked(answer)
    elif isinstance(answer, np.matrix):
        answer = np.asarray(answer)
    single = isinstance(answer, (str, bytes, bytearray, Mapping, set, frozenset)) or not hasattr(answer, "__getitem__")
    if single or not hasattr(answer, "__len__") or (isinstance(answer, np.ndarray) and not answer.ndim):
        raise ValueError(f"{what} is {type(answer).__name__}; an array or list of {rows} is needed")
    if len(answer) != rows:
        shape = f"the shape {list(answer.shape)}" if isinstance(answer, np.ndarray) else f"{len(answer)} rows"
        raise ValueError(f"{what} has {shape} for {rows} captures")
    return answer


def _unmasked(array: np.ma.MaskedArray[Any, Any]) -> NDArray[Any]:
    """Return None if an array is masked: the number below a mask means nothing."""
    plain = np.array(array.data, object)
    plain[np.ma.getmaskarray(array)] = None
    return plain


def _check_order(answer: Any, rows: int, what: str) -> None:
    """Refuse a series or frame whose index counts its rows in another order, because the model sorted them."""
    index = getattr(answer, "index", None)
    if not hasattr(index, "to_numpy"):
        return
    places = cast(Any, index).to_numpy()
    if places.dtype.kind in "iu" and not (places[1:] > places[:-1]).all() and set(places.tolist()) == set(range(rows)):
        raise ValueError(f"{what} has an index in another order than the captures: the model sorted its rows")


def _numbers(answer: Any, rows: int, what: str) -> NDArray[np.float64]:
    """Return one number a row, of [rows] or [rows, 1]; NaN for a missing one."""
    listed = _rows(answer, rows, what)
    array = listed if isinstance(listed, np.ndarray) else _array(listed)
    if array.dtype.kind == "b":
        raise ValueError(f"{what} holds booleans: answer {{'label': …}} for a decision, or numbers for a value")
    if array.size != rows or array.dtype.kind not in "fiuO":
        raise ValueError(f"{what} is {array.dtype.name} of the shape {list(array.shape)}; {rows} numbers are needed")
    array = array.reshape(rows)
    if array.dtype == object:
        return np.array([_number(one, what) for one in array.tolist()], np.float64)
    return array.astype(np.float64)


def _array(listed: Sequence[Any]) -> NDArray[Any]:
    """Return a list as an array of its values, without converting booleans or texts among numbers to numbers."""
    array = np.empty(len(listed), object)
    array[:] = [one.reshape(-1)[0] if isinstance(one, np.ndarray) and one.size == 1 else one for one in listed]
    if any(isinstance(one, (list, tuple, np.ndarray)) for one in array):
        return np.array([_row_of_numbers(one, "the list") for one in array])
    if all(isinstance(one, (bool, np.bool_)) for one in array) and len(array):
        return array.astype(bool)
    return array


def _number(one: Any, what: str) -> float:
    if is_missing(one):
        return math.nan
    if isinstance(one, (bool, np.bool_)) or not (isinstance(one, Real) or hasattr(one, "is_signed")):
        kind = type(one).__name__
        raise ValueError(f"{what} holds {kind}; answer {{'label': …}} for a decision, and numbers for a value")
    try:
        return float(one)
    except OverflowError:
        return math.inf


def _scores(answer: Any, rows: int) -> NDArray[np.float64] | list[list[float]]:
    listed = _rows(answer, rows, "`scores`")
    if isinstance(listed, np.ndarray) and listed.ndim == 2 and listed.dtype.kind in "fiu":
        return listed.astype(np.float64)
    return [_row_of_numbers(row, "`scores`") for row in listed]


def _row_of_numbers(row: Any, what: str) -> list[float]:
    if isinstance(row, np.ma.MaskedArray):
        row = _unmasked(row)
    if isinstance(row, np.ndarray) and row.ndim == 1 and row.dtype.kind in "fiu":
        return cast(list[float], row.astype(np.float64).tolist())
    if hasattr(row, "to_numpy"):
        row = row.to_numpy()
    if not isinstance(row, (list, tuple, np.ndarray)) or getattr(row, "ndim", 1) != 1:
        raise ValueError(f"{what} has {type(row).__name__} for a capture; a list of numbers is needed")
    return [_number(one, what) for one in row]


def _labels(answer: Any, rows: int, failures: dict[int, Failure]) -> list[str]:
    """Return one text for each row; a value without a text form fails that row."""
    found = []
    for row, item in enumerate(_rows(answer, rows, "`label`")):
        try:
            found.append(text_of("label", item))
        except NotTextError as error:
            failures[row] = Failure(FailureKind.MODEL_ERROR, str(error))
            found.append("")
    return found


def _checked_items(scores: Any, items: Any) -> Any:
    """Return the names of the scores: those of a frame's columns, which `items` must not contradict."""
    if not _is_frame(scores) or list(scores.columns) == list(range(len(scores.columns))):
        return items
    named = [text_of("item", one) for one in scores.columns]
    if items is not None and [text_of("item", one) for one in items] != named:
        raise ValueError(f"`items` are not the columns of `scores`: {', '.join(named[:10])}")
    return named


def _take_items(items: Any, rows: int, result: Answers) -> None:
    """Store the names of the scores: one list for all rows, or one for each."""
    if hasattr(items, "to_pylist"):
        items = items.to_pylist()
    if isinstance(items, (str, bytes, Mapping, set, frozenset)) or not hasattr(items, "__len__"):
        raise ValueError(f"`items` is {type(items).__name__}; a list of names is needed")
    if len(items) and _is_list(next(iter(items))):
        result.row_items = [[text_of("item", one) for one in row] for row in _rows(items, rows, "`items`")]
        return
    result.items = [text_of("item", one) for one in items]
    if len(set(result.items)) < len(result.items):
        raise ValueError("`items` names the same class or item twice")


def _is_list(one: Any) -> bool:
    return hasattr(one, "__len__") and not isinstance(one, (str, bytes, type)) and getattr(one, "shape", None) != ()


def _is_frame(answer: Any) -> bool:
    return hasattr(answer, "columns") and hasattr(answer, "to_numpy")
