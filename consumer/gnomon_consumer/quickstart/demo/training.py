"""The two models of the flights stream, trained with scikit-learn and exported to ONNX.

The live model is a logistic regression on the schedule; the challenger is gradient boosting that also sees the
weather at the origin. Each ONNX file has one input per feature, with its name and of shape [rows, 1]. Its outputs
are `label` (`late` where the probability is at least THRESHOLD, else `on_time`) and `probabilities`
[rows, 2] in the order of the metadata entry `classes`.
"""

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.helper
import onnx.numpy_helper
import pandas as pd
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType
from skl2onnx.operator_converters.random_forest import convert_sklearn_random_forest_classifier
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from threadpoolctl import threadpool_limits

from gnomon_consumer.quickstart.demo.flights import (
    CHALLENGER_MODEL,
    INPUT_TYPES,
    LIVE_MODEL,
    SCHEDULE,
    SEED,
    TEXTS,
    WEATHER,
    Flights,
    load,
)

CLASSES = ("on_time", "late")
# Warn a passenger when the chance of a late arrival is at least this; nearly a quarter of the flights are late.
THRESHOLD = 0.3
LIVE_FEATURES = (*TEXTS, *SCHEDULE)
CHALLENGER_FEATURES = (*TEXTS, *SCHEDULE, *WEATHER)
_OPSETS = {"": 17, "ai.onnx.ml": 3}


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A trained model: its pipeline, the features it reads, and the bytes of its ONNX file."""

    name: str
    version: str
    pipeline: Pipeline
    features: tuple[str, ...]
    onnx: bytes

    @property
    def sha256(self) -> str:
        """Return the SHA-256 of the ONNX file, in hex."""
        return hashlib.sha256(self.onnx).hexdigest()

    def write(self, folder: Path) -> Path:
        """Write `<name>.onnx` into the folder."""
        path = folder / f"{self.name}.onnx"
        path.write_bytes(self.onnx)
        return path


def train(flights: Flights) -> tuple[Trained, Trained]:
    """Fit both models on the flights whose outcome is known. The same flights give the same files."""
    known = ~np.isnan(flights.late)
    frame, late = flights.features[known], flights.late[known].astype(np.int64)
    live = _pipeline(
        [
            ("texts", OneHotEncoder(handle_unknown="ignore"), [*TEXTS]),
            ("times", OneHotEncoder(handle_unknown="ignore"), ["scheduled_hour", "weekday"]),
            ("distance", StandardScaler(), ["distance"]),
        ],
        LogisticRegression(C=0.1, max_iter=300),
    )
    challenger = _pipeline(
        [
            ("texts", OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), [*TEXTS]),
            ("numbers", "passthrough", [*SCHEDULE, *WEATHER]),  # the trees know what to do with a missing number
        ],
        HistGradientBoostingClassifier(
            max_iter=150, learning_rate=0.03, max_leaf_nodes=8, min_samples_leaf=500, random_state=SEED
        ),
    )
    return (
        _fitted(LIVE_MODEL, live, LIVE_FEATURES, frame, late),
        _fitted(CHALLENGER_MODEL, challenger, CHALLENGER_FEATURES, frame, late),
    )


_INPUTS: Mapping[type, type] = {object: StringTensorType, np.int64: Int64TensorType, np.float32: FloatTensorType}


def _pipeline(columns: list[tuple[str, Any, list[str]]], model: Any) -> Pipeline:
    return Pipeline([("columns", ColumnTransformer(columns)), ("model", model)])


def _fitted(
    model: tuple[str, str],
    pipeline: Pipeline,
    features: tuple[str, ...],
    frame: pd.DataFrame,
    late: npt.NDArray[np.int64],
) -> Trained:
    with threadpool_limits(1):  # two threads that wait for each other are slower than one, while other processes run
        pipeline.fit(frame[list(features)], late)
    name, version = model
    onnx = _export(name, version, pipeline, features)
    return Trained(name=name, version=version, pipeline=pipeline, features=features, onnx=onnx)


def _export(name: str, version: str, pipeline: Pipeline, features: tuple[str, ...]) -> bytes:
    model = convert_sklearn(
        pipeline,
        name=name,
        initial_types=[(feature, _INPUTS[INPUT_TYPES[feature]]([None, 1])) for feature in features],
        options={"zipmap": False},
        target_opset=_OPSETS,
        custom_conversion_functions={HistGradientBoostingClassifier: _convert_boosting},
    )
    _decide(model)
    onnx.helper.set_model_props(
        model,
        {
            "classes": json.dumps(CLASSES),
            "positive": CLASSES[1],
            "threshold": str(THRESHOLD),
            "features": json.dumps(features),
            "version": version,
        },
    )
    opsets = sorted(model.opset_import, key=lambda opset: str(opset.domain))  # skl2onnx lists them in a set's order
    del model.opset_import[:]
    model.opset_import.extend(opsets)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _convert_boosting(scope: Any, operator: Any, container: Any) -> None:
    """Run skl2onnx's converter; write booleans among a node's attributes as integers, as ONNX requires."""

    class Container:
        def __getattr__(self, name: str) -> Any:
            return getattr(container, name)

        def add_node(self, *args: Any, **attributes: Any) -> None:
            container.add_node(*args, **{name: _no_booleans(value) for name, value in attributes.items()})

    convert_sklearn_random_forest_classifier(scope, operator, Container())


def _no_booleans(value: Any) -> Any:
    if isinstance(value, list) and any(isinstance(item, (bool, np.bool_)) for item in value):
        return [int(item) for item in value]
    return value


def _decide(model: onnx.ModelProto) -> None:
    """Replace the label output (the likelier class) by the decision at THRESHOLD, as a string."""
    graph = model.graph
    probabilities = next(output for output in graph.output if output.name == "probabilities")
    helper, floats, texts = onnx.helper, onnx.TensorProto.FLOAT, onnx.TensorProto.STRING
    graph.initializer.extend(
        [
            helper.make_tensor("late_index", onnx.TensorProto.INT64, [1], [CLASSES.index("late")]),
            helper.make_tensor("late_threshold", floats, [1], [THRESHOLD]),
            onnx.numpy_helper.from_array(np.array(["late"], dtype=object), "late_text"),
            onnx.numpy_helper.from_array(np.array(["on_time"], dtype=object), "on_time_text"),
            helper.make_tensor("flat", onnx.TensorProto.INT64, [1], [-1]),
        ]
    )
    graph.node.extend(
        [
            helper.make_node("Gather", ["probabilities", "late_index"], ["late_column"], axis=1),
            helper.make_node("Reshape", ["late_column", "flat"], ["late_probability"]),
            helper.make_node("Less", ["late_probability", "late_threshold"], ["is_on_time"]),
            helper.make_node("Where", ["is_on_time", "on_time_text", "late_text"], ["decision"]),
        ]
    )
    del graph.output[:]
    graph.output.extend([helper.make_tensor_value_info("decision", texts, [None]), probabilities])


def main(arguments: list[str]) -> None:
    """`python -m gnomon_consumer.quickstart.demo.training FOLDER`: train both models and write their files there."""
    folder = Path(arguments[0] if arguments else ".")
    folder.mkdir(parents=True, exist_ok=True)
    for model in train(load()[0]):
        print(f"{model.write(folder)}  sha256 {model.sha256}")


if __name__ == "__main__":
    main(sys.argv[1:])
