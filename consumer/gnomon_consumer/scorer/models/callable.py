"""Models that are Python: `module:factory`, found from the folder of the command, run only in a sandboxed worker.

The factory takes nothing and returns the model: an object with `predict(columns)`, or a plain function of the same.
`columns` maps feature names to NumPy arrays (numbers are float64 or int64, texts objects; a missing number is NaN, a
missing text None). The answer is an array of one value a row, or a mapping with any of `value`, `label`, `scores` and
`items`. Optional attributes: `features`, the names that it needs (None: all of them), and `feature_state()`, which
returns (version, cache_hits, cache_misses) since the last call.
"""

import hashlib
import importlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gnomon_consumer.scorer.models.base import Answers, Batch, Column, ModelInput, check_fit
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.features import Feature
from gnomon_schemas.records import FeatureState


def locate(location: str, folder: Path) -> Path:
    """The source file of `module:factory`, without importing anything; raises ConfigurationError."""
    module, _, factory = location.partition(":")
    parts = module.split(".")
    if not factory.isidentifier() or not all(part.isidentifier() for part in parts):
        raise ConfigurationError(f"--model {location}: neither a file, nor module:factory, nor http://…")
    for root in (folder, *map(Path, filter(None, sys.path))):
        for path in (root.joinpath(*parts).with_suffix(".py"), root.joinpath(*parts, "__init__.py")):
            if path.is_file():
                return path
    raise ConfigurationError(f"--model {location}: no module {module!r} in {folder} nor on the Python path")


class CallableRunner:
    """A loaded Python model. Whatever its code raises while loading becomes a refusal that names it."""

    def __init__(self, location: str, folder: Path, features: Sequence[Feature]) -> None:
        module, _, factory = location.partition(":")
        sys.path.append(str(folder))
        loaded = importlib.import_module(module)
        make = getattr(loaded, factory, None)
        if not callable(make):
            raise ConfigurationError(f"--model {location}: {module} has no callable {factory!r}")
        self._model = make()
        self._predict = getattr(self._model, "predict", self._model)
        if not callable(self._predict):
            raise ConfigurationError(
                f"--model {location}: what {factory}() returned cannot be called, nor has it predict"
            )
        wanted = getattr(self._model, "features", None)
        names = [feature.name for feature in features] if wanted is None else [str(name) for name in wanted]
        self.inputs = tuple(ModelInput(name, "any", (name,)) for name in names)
        check_fit(self.inputs, features)

    def predict(self, batch: Batch, rows: int) -> Answers:
        """Call the model once."""
        answer = self._predict({one.name: _plain(batch[one.name]) for one in self.inputs})
        if not isinstance(answer, Mapping):
            return Answers(rows, value=_numbers(answer, rows, "its answer"))
        unknown = sorted(str(key) for key in answer.keys() - {"value", "label", "scores", "items"})
        if unknown:
            raise ValueError(f"the model answered {unknown[0]!r}; value, label, scores and items are known")
        value, label, scores, items = (answer.get(part) for part in ("value", "label", "scores", "items"))
        result = Answers(rows)
        if value is not None:
            result.value = _numbers(value, rows, "`value`")
        if label is not None:
            result.label = [str(one) for one in _rows(label, rows, "`label`")]
        if scores is not None:
            result.scores = [[float(one) for one in row] for row in _rows(scores, rows, "`scores`")]
        if items is not None:
            if len(items) and not isinstance(items[0], str):
                result.row_items = [[str(one) for one in row] for row in _rows(items, rows, "`items`")]
            else:
                result.items = [str(one) for one in items]
        return result

    def feature_state(self) -> FeatureState | None:
        """What the model's own `feature_state()` says, if it has one."""
        state = getattr(self._model, "feature_state", None)
        if state is None:
            return None
        version, hits, misses = state()
        return FeatureState(None if version is None else str(version), int(hits), int(misses))

    def close(self) -> None:
        """Close the model, if it can be."""
        close = getattr(self._model, "close", None)
        if callable(close):
            close()


def digest(path: Path) -> str:
    """SHA-256 of the module's file: what the log can pin of a model that is code."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _plain(column: Column) -> Any:
    if column.missing is None:
        return column.values
    if column.values.dtype == object:
        values = column.values.copy()
        values[column.missing] = None
        return values
    if column.values.ndim == 2:
        return column.values
    return np.where(column.missing, np.nan, column.values.astype(np.float64))


def _rows(answer: Any, rows: int, what: str) -> Any:
    if len(answer) != rows:
        raise ValueError(f"{what} has {len(answer)} rows for {rows} captures")
    return answer


def _numbers(answer: Any, rows: int, what: str) -> Any:
    array = np.asarray(answer)
    if array.dtype.kind not in "fiub" or array.size != rows:
        raise ValueError(f"{what} is {array.dtype.name} of the shape {list(array.shape)}; {rows} numbers are needed")
    return array.reshape(rows).astype(np.float64)
