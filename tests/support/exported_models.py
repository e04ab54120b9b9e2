"""Models of scikit-learn as its converter writes them, with their training data."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from skl2onnx import to_onnx

from gnomon_schemas.features import FeatureSchema
from gnomon_schemas.records import Prediction
from tests.support.live_stream import write_sidecar
from tests.support.model_runners import load, outcomes

FEATURES = FeatureSchema.of({"wind": "double", "slack": "double"})
X = np.random.default_rng(1).normal(size=(200, 2)).astype(np.float32)
LATE = np.where(X[:, 0] > 0, "late", "on_time")
ROWS = [{"wind": float(wind), "slack": float(slack)} for wind, slack in X[:5]]


def exported(path: Path, model: Any, target: Any = None, **options: Any) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X) if target is None else model.fit(X, target)
        last = model.steps[-1][1] if hasattr(model, "steps") else model
        said = {id(last): options} if options else None
        onnx = to_onnx(model, X[:1], options=said, target_opset={"": 17, "ai.onnx.ml": 3})
    path.write_bytes(onnx.SerializeToString())
    write_sidecar(path, features=["wind", "slack"])
    return path


def predictions(path: Path) -> list[Prediction]:
    """Return a model's answers to `ROWS`, none of which fails."""
    found = outcomes(load(path, FEATURES), ROWS, FEATURES)
    assert all(isinstance(one, Prediction) for one in found), found
    return [one for one in found if isinstance(one, Prediction)]
