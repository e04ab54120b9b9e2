"""Turn columns of features into the tensors of a model; a row that does not fit fails and names the feature."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon_consumer.scorer.worker.models.base import Batch, FeatureColumn, ModelInput, Takes
from gnomon_consumer.scorer.worker.models.sidecar import nearest
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.features import Feature, by_any_name
from gnomon_schemas.records import Failure, FailureKind

_TRUTHS = {"true": True, "false": False, "1": True, "0": False}


def defaults(
    missing: Mapping[str, str], inputs: Sequence[ModelInput], types: Mapping[str, Any], features: Sequence[Feature]
) -> dict[str, Any]:
    """Return the value that replaces a null of each feature in `missing`; raise ConfigurationError if it does not fit.

    `types`: the NumPy type of each input.
    """
    takes = {name: one for one in inputs for name in one.features}
    kinds = {name: feature.kind for name, feature in by_any_name(features).items()}
    found: dict[str, Any] = {}
    for name, text in missing.items():
        if name not in takes:
            unknown = f"`missing` gives a default of {name!r}, which is not a feature of the model"
            raise ConfigurationError(f"{unknown}{nearest(name, takes)}")
        if kinds.get(name) == "array":
            raise ConfigurationError(f"`missing` gives a default of {name!r}, which is a list and cannot have one")
        found[name] = _default(name, text, takes[name].takes, types[takes[name].name])
    for one in inputs:
        for name in one.features:
            if name not in kinds and name not in found and one.takes != "float":
                raise ConfigurationError(
                    f"the captures do not have the optional feature {name!r}, and {one.takes} has no null:"
                    f" give it a default, `missing: {{{name}: …}}`"
                )
    return found


def _default(name: str, text: str, takes: Takes, dtype: Any) -> Any:
    try:
        if takes == "float":
            return _number(text, dtype)
        if takes == "int":
            return _whole(text, dtype)
        return _TRUTHS[text.lower()] if takes == "bool" else text
    except (ValueError, KeyError, FloatingPointError):
        kind = np.dtype(dtype).name if takes in ("float", "int") else takes
        raise ConfigurationError(f"`missing`: the default of {name!r} is {text[:50]!r}, which is not {kind}") from None


def _number(text: str, dtype: Any) -> float:
    number = float(text)
    if "_" in text or (np.isinf(number) and "inf" not in text.lower()):
        raise ValueError("a notation that only Python has, or out of range")
    with np.errstate(over="raise"):
        np.float64(number).astype(dtype)
    return number


def _whole(text: str, dtype: Any) -> int:
    number, limits = int(text), np.iinfo(dtype)
    if "_" in text:
        raise ValueError("a notation that only Python has")
    if not limits.min <= number <= limits.max:
        raise ValueError("out of range")
    return number


def absent(rows: int) -> FeatureColumn:
    """Return the column of an optional feature that the captures do not have: nulls."""
    return FeatureColumn(np.full(rows, np.nan), np.ones(rows, bool), nullable=True)


def tensor_of(
    one: ModelInput, dtype: Any, batch: Batch, rows: int, given: Mapping[str, Any], failures: dict[int, Failure]
) -> NDArray[Any]:
    """Return [rows, columns] of the input's type; rows that do not fit go to `failures` (their cells are undefined).

    `given`: the value that replaces a null, by feature.
    """
    columns = [batch[name] for name in one.features]
    if one.takes == "float" and all(map(_single, columns)) and given.keys().isdisjoint(one.features):
        try:
            with np.errstate(over="raise", invalid="ignore"):
                return _next_to_each_other(columns, dtype, rows)
        except FloatingPointError:
            pass  # some number is too large: which one is found feature by feature
    parts = []
    for name, column in zip(one.features, columns, strict=True):
        if column.ragged:
            text = (
                "is null; a list" if column.missing is not None else "differs in length from row to row; one length is"
            )
            failures.update((row, _unfit(f"the feature {name!r} {text} needed")) for row in range(rows))
            return np.zeros((rows, one.width or 1), dtype)
        parts.append(_plane(name, column, one.takes, dtype, given, failures))
    whole = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
    if one.width not in (None, whole.shape[1]):
        name, column = next((name, batch[name]) for name in one.features if batch[name].values.ndim == 2)
        has = column.values.shape[1]
        text = f"the feature {name!r} has {has} numbers; {(one.width or 0) - (whole.shape[1] - has)} needed"
        failures.update((row, _unfit(text)) for row in range(rows))
    return whole


def refuse_infinite(one: ModelInput, batch: Batch, failures: dict[int, Failure]) -> None:
    """Add the rows with an infinite number to `failures`."""
    for name in one.features:
        values = batch[name].values
        if values.dtype.kind == "f" and (infinite := np.isinf(values)).any():
            for row in np.flatnonzero(infinite.reshape(len(values), -1).any(axis=1)).tolist():
                failures.setdefault(
                    row, _unfit(f"the feature {name!r} is infinite, which cannot be sent to a model server")
                )


def _single(column: FeatureColumn) -> bool:
    """Return whether a feature is one number for each row, NaN for a null."""
    values = column.values
    return values.ndim == 1 and values.dtype.kind in "fiub" and (column.missing is None or values.dtype == np.float64)


def _next_to_each_other(columns: Sequence[FeatureColumn], dtype: Any, rows: int) -> NDArray[Any]:
    """Return single features as one [rows, features], each written once: the probe does this for every row."""
    whole = np.empty((rows, len(columns)), dtype)
    for at, column in enumerate(columns):
        whole[:, at] = column.values
    return whole


def _plane(
    name: str, column: FeatureColumn, takes: Takes, dtype: Any, given: Mapping[str, Any], failures: dict[int, Failure]
) -> NDArray[Any]:
    """Return one feature as [rows, width] of the input's type; a null becomes its default, or NaN if possible."""
    values, missing = column.values, column.missing
    if values.dtype.kind in "fiu" and takes in ("float", "int"):
        outside = _outside(values, np.dtype(dtype))
        if outside.any():
            for row in np.flatnonzero(outside.reshape(len(values), -1).any(axis=1)).tolist():
                number = values[row][outside[row]][0] if values.ndim == 2 else values[row]
                failures.setdefault(row, _unfit(f"the feature {name!r} is {number}, outside of {np.dtype(dtype).name}"))
            values = np.where(outside, 0, values)
    if missing is not None and takes == "int" and values.dtype.kind == "f":
        values = np.where(missing, 0, values)
    whole: NDArray[Any] = values.astype(dtype)
    if missing is not None:
        if name in given:
            whole[missing] = given[name]
        elif takes == "float":
            whole[missing] = np.nan
        else:
            for row in np.flatnonzero(missing).tolist():
                failures.setdefault(row, _unfit(f"the feature {name!r} is null; {takes} needed"))
    return whole.reshape(len(whole), 1) if whole.ndim == 1 else whole


def _outside(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[np.bool_]:
    """Return the finite numbers that `dtype` cannot hold; infinities are not among them."""
    if dtype.kind in "iu":
        if values.dtype.kind == "f" or dtype == np.int64:
            return np.zeros(values.shape, bool)
        limits = np.iinfo(dtype)
        return (values < limits.min) | (values > min(limits.max, np.iinfo(np.int64).max))
    with np.errstate(over="ignore", invalid="ignore"):
        beyond: NDArray[np.bool_] = np.isinf(values.astype(dtype)) & np.isfinite(values)
        return beyond


def _unfit(text: str) -> Failure:
    return Failure(FailureKind.INVALID_FEATURES, text)
