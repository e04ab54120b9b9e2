"""Model files of XGBoost, LightGBM and CatBoost, run by their own libraries: `xgboost:FILE`, `lightgbm:FILE` and so on.

The library must be installed where the scorer runs. Features are bound by the names in the file, or in the order that
a sidecar gives; whole numbers and booleans are passed as float64. The file's objective decides what is read.
"""

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gnomon_consumer.scorer.worker.models.base import Answers, Batch, ModelInput, check_fit
from gnomon_consumer.scorer.worker.models.classes import Classes, resolve
from gnomon_consumer.scorer.worker.models.feeding import absent, defaults, tensor_of
from gnomon_consumer.scorer.worker.models.sidecar import nearest
from gnomon_consumer.scorer.worker.models.signature import Signature, find_signature
from gnomon_schemas.arrays import Floats
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.features import Feature
from gnomon_schemas.records import Failure, FeatureState

_KEYS = ("batch", "features", "missing", "name", "task", "version")
_OF_CLASSES = ("classes", "positive")
_CATBOOST_CLASSES = ("Logloss", "CrossEntropy", "Focal", "MultiClass", "MultiClassOneVsAll")
_CATBOOST_LOGARITHMS = ("Poisson", "Tweedie")
"""Objectives whose raw score is a logarithm; CatBoostRegressor returns its exponential."""


class NativeRunner:
    """A booster from one file; `most` is the maximum number of rows of one call, from a sidecar."""

    def __init__(
        self, library: str, content: bytes, path: Path, features: Sequence[Feature], *, signature: Path | None = None
    ) -> None:
        try:
            package: Any = importlib.import_module(library)
        except ImportError:
            raise ConfigurationError(f"--model {library}:{path}: the package {library} is not installed here") from None
        said = find_signature(path, {}, signature)
        try:
            booster = _LOADERS[library](package, content)
        except ConfigurationError as error:
            raise ConfigurationError(f"{path}: {error}") from None
        except Exception as error:  # noqa: BLE001 - each library has its own exceptions
            text = " ".join(str(error).split())
            raise ConfigurationError(f"{path}: {library} cannot load it: {text[-300:]}") from None
        self._predict, self._kind = booster.predict, booster.kind
        _check_said(said, booster.kind, path)
        names = said.features or booster.features
        if not names:
            raise ConfigurationError(
                f"{path}: the file does not name its features: list them under `features` in a sidecar"
            )
        if said.features and booster.features and booster.named and set(said.features) != set(booster.features):
            raise ConfigurationError(f"{path}: the model's features are {', '.join(booster.features[:20])}")
        names = booster.features if booster.named else names
        self._optional = said.optional & frozenset(names)
        one = ModelInput("features", "float", tuple(names), width=booster.width, optional=self._optional)
        self.inputs: tuple[ModelInput, ...] = (one,)
        check_fit(self.inputs, features)
        self._defaults = defaults(said.missing, self.inputs, {one.name: np.float64}, features)
        self.most = said.batch
        self._classes = _classes(said, booster)
        self.doubt: str | None = None
        self.reading = self._described(library)

    def predict(self, batch: Batch, rows: int) -> Answers:
        """Score a batch; rows that do not fit are not passed to the model."""
        failures: dict[int, Failure] = {}
        whole = {name: absent(rows) for name in self._optional} | dict(batch)
        matrix = tensor_of(self.inputs[0], np.float64, whole, rows, self._defaults, failures)
        kept = np.array([row for row in range(rows) if row not in failures], np.int64)
        if not len(kept):
            return Answers(rows, failures=failures)
        answers = self._answers(np.asarray(self._predict(matrix[kept]), np.float64), len(kept))
        return answers if len(kept) == rows else answers.spread(kept, rows, failures)

    def _answers(self, scores: Floats, rows: int) -> Answers:
        if self._kind == "value":
            if scores.size != rows:
                raise ValueError(f"the model answered the shape {list(scores.shape)} for {rows} captures")
            return Answers(rows, value=scores.reshape(rows))
        names = self._classes.names
        if self._kind == "positive":
            second = scores.reshape(rows)
            scores = np.stack([1.0 - second, second], axis=1)
        scores = scores.reshape(rows, -1)
        if len(names) != scores.shape[1]:
            raise ValueError(f"the model answered {scores.shape[1]} scores a row for {len(names)} classes")
        place = self._classes.positive_place
        return Answers(
            rows,
            value=None if place is None else scores[:, place],
            label=[names[at] for at in scores.argmax(axis=1).tolist()],
            scores=scores,
            items=names,
        )

    def _described(self, library: str) -> str:
        if self._kind == "value":
            return f"value: what {library} predicts; label: none; scores: none"
        names, place = self._classes.names, self._classes.positive_place
        value = "none" if place is None else f"the probability of {names[place]!r}"
        return (
            f"value: {value}; label: the most probable class; scores: probabilities over the classes {', '.join(names)}"
        )

    def feature_state(self) -> FeatureState | None:
        """Return None: a booster has no feature cache."""
        return None

    def close(self) -> None:
        """Do nothing: a booster holds no resources."""


class _Booster:
    """The content of a file: `kind` of answer (`value`; `positive`: probabilities of the second class; `classes`)."""

    def __init__(
        self,
        predict: Callable[[Floats], Any],
        kind: str,
        features: Sequence[str],
        *,
        width: int,
        classes: Sequence[str],
    ) -> None:
        self.predict = predict
        self.kind = kind
        self.features = tuple(features)
        self.width = width
        self.classes = tuple(classes)
        self.named = bool(features)


def _xgboost(package: Any, content: bytes) -> _Booster:
    booster = package.Booster()
    booster.load_model(bytearray(content))
    learner = json.loads(booster.save_config())["learner"]
    objective, count = learner["objective"]["name"], int(learner["learner_model_param"]["num_class"])
    targets = int(learner["learner_model_param"].get("num_target", 1))
    if targets > 1:
        raise ConfigurationError(f"the model predicts {targets} targets; one is needed")
    if "c" in (booster.feature_types or ()):
        raise ConfigurationError(
            "categorical features of XGBoost have no names in its files: encode them, or export to ONNX"
        )
    if objective == "binary:hinge":
        raise ConfigurationError("its objective binary:hinge answers a class, not a number: train with binary:logistic")
    if objective == "multi:softmax":  # the same model; only its answer is the class's index
        booster.set_param({"objective": "multi:softprob"})
    kind = "classes" if objective.startswith("multi:") else "positive" if objective == "binary:logistic" else "value"
    names = booster.feature_names or ()

    trees = _xgboost_trees(booster)

    def predict(matrix: Floats) -> Any:
        data = package.DMatrix(matrix, feature_names=list(names) or None, nthread=1)
        return booster.predict(data, validate_features=False, iteration_range=trees)

    booster.set_param({"nthread": 1})
    return _Booster(
        predict, kind, names, width=booster.num_features(), classes=[str(one) for one in range(max(count, 2))]
    )


def _xgboost_trees(booster: Any) -> tuple[int, int]:
    """Return the range of trees that predict, (0, 0) for all, after training with early stopping.

    XGBoost's scikit-learn classes then predict with the best round, its own Booster with all of them.
    """
    best = booster.attr("best_iteration")
    if best is None or int(best) + 1 >= booster.num_boosted_rounds():
        return 0, 0
    if booster.attr("scikit_learn") is None:
        raise ConfigurationError(
            f"it was trained for {booster.num_boosted_rounds()} rounds, the best being {best}, and nothing says"
            " which rounds predict: save booster[: booster.best_iteration + 1], or drop the attribute best_iteration"
        )
    return 0, int(best) + 1


def _lightgbm(package: Any, content: bytes) -> _Booster:
    booster = package.Booster(model_str=content.decode())
    text = content.decode()
    objective = next(
        (line.partition("=")[2].split() for line in text.splitlines() if line.startswith("objective=")), [""]
    )
    names = booster.feature_name()
    if "pandas_categorical:" in text and "pandas_categorical:[]" not in text and "pandas_categorical:null" not in text:
        raise ConfigurationError("its features are pandas categories: encode them as numbers, or export to ONNX")
    kind = (
        "classes"
        if objective[0] in ("multiclass", "multiclassova")
        else "positive"
        if objective[0] == "binary"
        else "value"
    )
    named = [] if all(name == f"Column_{at}" for at, name in enumerate(names)) else names
    count = booster.num_model_per_iteration()

    def predict(matrix: Floats) -> Any:
        return booster.predict(matrix, num_threads=1)

    return _Booster(
        predict, kind, named, width=booster.num_feature(), classes=[str(one) for one in range(max(count, 2))]
    )


def _catboost(package: Any, content: bytes) -> _Booster:
    booster = package.CatBoost()
    booster.load_model(blob=content)
    if booster.get_cat_feature_indices() or booster.get_text_feature_indices():
        raise ConfigurationError(
            "its features are categories or texts: encode them as numbers, or give a Python factory"
        )
    loss = str(booster.get_all_params().get("loss_function", "")).partition(":")[0]
    if (loss.startswith("Multi") and loss not in _CATBOOST_CLASSES) or loss == "RMSEWithUncertainty":
        raise ConfigurationError(f"{loss} answers several numbers for a row; one, or classes, are needed")
    kind = "classes" if loss in _CATBOOST_CLASSES else "value"
    number = "Exponent" if loss in _CATBOOST_LOGARITHMS else "RawFormulaVal"
    names = booster.feature_names_ or []
    named = [] if all(name == str(at) for at, name in enumerate(names)) else names
    labels = [str(one) for one in booster.classes_] if kind == "classes" else []

    def predict(matrix: Floats) -> Any:
        return booster.predict(matrix, prediction_type="Probability" if kind == "classes" else number, thread_count=1)

    return _Booster(predict, kind, named, width=len(names), classes=labels or ["0", "1"])


_LOADERS: Mapping[str, Callable[[Any, bytes], _Booster]] = {
    "xgboost": _xgboost,
    "lightgbm": _lightgbm,
    "catboost": _catboost,
}


def _check_said(said: Signature, kind: str, path: Path) -> None:
    """Raise ConfigurationError for sidecar keys that do not apply to a booster of this kind."""
    known = _KEYS if kind == "value" else (*_KEYS, *_OF_CLASSES)
    unknown = next(
        (key for key in sorted(said.by_hand) if key in ("inputs", "outputs", *_OF_CLASSES) and key not in known), None
    )
    if unknown is not None:
        what = "predicts numbers" if kind == "value" else "has one input and one answer"
        raise ConfigurationError(
            f"{path}: the sidecar says `{unknown}`, but this booster {what}{nearest(unknown, known)}"
        )
    task = "regression" if kind == "value" else "classification"
    if "task" in said.by_hand and said.task not in (None, task):
        raise ConfigurationError(f"{path}: the sidecar says `task: {said.task}`, but its objective is one of {task}")


def _classes(said: Signature, booster: _Booster) -> Classes:
    if booster.kind == "value":
        return Classes()
    return resolve(said, booster.classes, whole=True, width=len(booster.classes), needed=True)
