"""The MLflow `MLmodel` file of a model's folder: its column-based signature, and the path of the model's own file."""

from pathlib import Path
from typing import Any

from gnomon_consumer.scorer.worker.models.external import is_file
from gnomon_consumer.scorer.worker.models.sidecar import load_texts
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.json_text import load_json

_FLAVORS = {"onnx": "", "xgboost": "xgboost:", "lightgbm": "lightgbm:", "catboost": "catboost:"}


def read(path: Path) -> dict[str, Any]:
    """Return the features in the order of the signature's columns, and which of them are optional.

    A signature of tensors names the model's inputs, not features, so it is ignored. If a file cannot be read, a
    ConfigurationError is returned in the place of the features.
    """
    try:
        loaded = load_texts(path)
    except ConfigurationError as error:
        return {"features": error}
    signature = loaded.get("signature")
    if not isinstance(signature, dict) or not isinstance(signature.get("inputs"), str):
        return {}
    fault = ConfigurationError(f"{path}: the signature's inputs are not a list of named columns")
    try:
        columns = load_json(signature["inputs"])
    except (ValueError, RecursionError):
        return {"features": fault}
    if not isinstance(columns, list) or not all(isinstance(column, dict) for column in columns):
        return {"features": fault}
    columns = [column for column in columns if column.get("type") != "tensor"]
    named = [column for column in columns if "name" in column]
    if not named:
        return {}
    if len(named) < len(columns) or not all(isinstance(column["name"], str) for column in named):
        return {"features": fault}
    optional = {column["name"] for column in named if column.get("required") is False or column.get("optional") is True}
    return {"features": tuple(column["name"] for column in named), "optional": frozenset(optional)}


def model_in(folder: Path) -> str:
    """Return the location of the model in an MLflow folder; raise ConfigurationError if none of them can be run."""
    path = folder / "MLmodel"
    if not path.is_file():
        raise ConfigurationError(f"--model {folder}: a folder without an MLmodel file; name the model's own file")
    flavors = load_texts(path).get("flavors")
    flavors = flavors if isinstance(flavors, dict) else {}
    for flavor, prefix in _FLAVORS.items():
        said = flavors.get(flavor)
        data = said.get("data") if isinstance(said, dict) else None
        if isinstance(data, str):
            if not is_file(folder / data) or not (folder / data).resolve().is_relative_to(folder.resolve()):
                raise ConfigurationError(f"{path}: {data[:200]!r} of the flavor {flavor} is not a file in this folder")
            return f"{prefix}{folder / data}"
    there = ", ".join(sorted(map(str, flavors))) or "none"
    raise ConfigurationError(
        f"{path}: none of its flavors ({there}) is one that can be run: {', '.join(_FLAVORS)};"
        " export the model to ONNX, or give a Python factory (module:factory) that loads it"
    )
