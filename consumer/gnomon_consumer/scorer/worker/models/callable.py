"""Models in Python: `module:factory`, found from the folder of the command, run only in a sandboxed worker.

The factory takes no arguments and returns the model: an object with `predict(columns)`, or such a function. `columns`
maps feature names to NumPy arrays: numbers are float64 (a missing one is NaN), whole numbers that cannot be null int64,
booleans that cannot be null bool, texts objects (a missing one is None), lists [rows, width] (missing ones [rows] of
None). All rows of a call have lists of the same length. The answer is an array of one number a row, or a mapping with
any of `value`, `label`, `scores` and `items`. Optional attributes: `features`, the names that it needs (None: all of
them; `prediction.items` gives the items that the live model ranked), `files`, paths that it opens only later (see
`opened`), and `feature_state()`, which returns version, hits and misses of its cache since the last call.
"""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gnomon_consumer.scorer.worker.models.base import LIVE_ITEMS, Answers, Batch, FeatureColumn, ModelInput, check_fit
from gnomon_consumer.scorer.worker.models.external import is_file
from gnomon_consumer.scorer.worker.models.python_answers import read_answer
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.features import Feature
from gnomon_schemas.records import Failure, FailureKind, FeatureState
from gnomon_schemas.texts import text_of

_EXACT = 2**53
_MOST_COUNTS = 2**31 - 1


def locate(location: str, folder: Path) -> Path:
    """Return the source file of `module:factory`, without importing anything; raises ConfigurationError."""
    module, _, factory = location.partition(":")
    parts = module.split(".")
    if not factory.isidentifier() or not all(part.isidentifier() for part in parts):
        raise ConfigurationError(f"--model {location}: neither a file, nor module:factory, nor http://…")
    for root in (folder, *map(Path, filter(None, sys.path))):
        for path in (root.joinpath(*parts).with_suffix(".py"), root.joinpath(*parts, "__init__.py")):
            if is_file(path):
                return path
    raise ConfigurationError(f"--model {location}: no module {module!r} in {folder} nor on the Python path")


def imported(location: str, folder: Path) -> Any:
    """Import `module:factory` and return the factory's model; raise ConfigurationError, or its code's exception."""
    module, _, factory = location.partition(":")
    sys.path.append(str(folder))
    loaded = importlib.import_module(module)
    make = getattr(loaded, factory, None)
    if not callable(make):
        raise ConfigurationError(f"--model {location}: {module} has no callable {factory!r}")
    model = make()
    named = getattr(model, "files", ())
    for path in [named] if isinstance(named, (str, Path)) else named:
        if not Path(path).is_file():
            raise ConfigurationError(f"--model {location}: `files` names {str(path)!r}, which does not exist")
        with Path(path).open("rb"):  # so that it counts among the opened files
            pass
    return model


class CallableRunner:
    """A loaded Python model, as `location` names it."""

    def __init__(self, model: Any, location: str, features: Sequence[Feature]) -> None:
        self._model = model
        self._predict = getattr(model, "predict", model)
        if not callable(self._predict):
            raise ConfigurationError(
                f"--model {location}: what its factory returned is neither callable nor has a method predict"
            )
        wanted = getattr(model, "features", None)
        if isinstance(wanted, str):
            raise ConfigurationError(f"--model {location}: `features` is one text; a list of names is needed")
        names = (
            [feature.name for feature in features if feature is not LIVE_ITEMS]
            if wanted is None
            else [str(name) for name in wanted]
        )
        self.inputs = tuple(ModelInput(name, "any", (name,)) for name in names)
        check_fit(self.inputs, features)
        said = getattr(model, "reading", None)
        self.reading = (
            said
            if isinstance(said, str)
            else "what predict() answers: an array is the value, or `value`, `label`, `scores`, `items`"
        )
        self.doubt: str | None = None

    def predict(self, batch: Batch, rows: int) -> Answers:
        """Call the model once, without the rows whose whole numbers float64 cannot hold."""
        failures = _inexact(batch, self.inputs)
        if not failures:
            return read_answer(self._predict({one.name: _plain(batch[one.name]) for one in self.inputs}), rows)
        kept = np.array([row for row in range(rows) if row not in failures], np.int64)
        if not len(kept):
            return Answers(rows, failures=failures)
        shown = {one.name: _plain(batch[one.name])[kept] for one in self.inputs}
        return read_answer(self._predict(shown), len(kept)).spread(kept, rows, failures)

    def feature_state(self) -> FeatureState | None:
        """Return the result of the model's `feature_state()`, if it has one; raise ValueError for an impossible one."""
        state = getattr(self._model, "feature_state", None)
        if state is None:
            return None
        version, hits, misses = state()
        if not (0 <= int(hits) <= _MOST_COUNTS and 0 <= int(misses) <= _MOST_COUNTS):
            raise ValueError(f"feature_state() counts {hits} hits and {misses} misses")
        return FeatureState(
            None if version is None else text_of("the version of the features", version), int(hits), int(misses)
        )

    def close(self) -> None:
        """Close the model, if it has a method for that."""
        close = getattr(self._model, "close", None)
        if callable(close):
            close()


def _inexact(batch: Batch, inputs: Sequence[ModelInput]) -> dict[int, Failure]:
    """Return the rows whose nullable whole numbers would lose their last digits as float64."""
    failures: dict[int, Failure] = {}
    for one in inputs:
        column = batch[one.name]
        if column.nullable and column.values.dtype.kind == "i" and column.values.ndim == 1:
            for row in np.flatnonzero((column.values > _EXACT) | (column.values < -_EXACT)).tolist():
                why = "it may be null, so it is given as float64, which cannot hold it"
                text = f"the feature {one.name!r} is {column.values[row]}: {why}"
                failures.setdefault(row, Failure(FailureKind.INVALID_FEATURES, text))
    return failures


def _plain(column: FeatureColumn) -> Any:
    """Return the array that a model gets; its type depends on the feature, never on the other rows of the batch."""
    values, missing = column.values, column.missing
    if not column.nullable and missing is None:
        return values
    if values.dtype == object:
        if missing is None:
            return values
        values = values.copy()
        values[missing] = None
        return values
    if values.ndim == 2:
        return values
    values = values.astype(np.float64)
    return values if missing is None else np.where(missing, np.nan, values)
