"""What a model file does not say by itself: the order of its features, its classes, the roles of its outputs.

Looked for beside the model, the first that says it wins: a sidecar (`model.onnx` -> `model.yaml` or
`model.onnx.yaml`), an MLflow `MLmodel` file in the same folder, the metadata of the ONNX file.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from gnomon_schemas.errors import ConfigurationError

_ROLES = ("value", "label", "scores")
_TASKS = ("classification", "regression", "ranking")
_KEYS = {"features", "inputs", "outputs", "classes", "positive", "task", "name", "version"}
_MAX_BYTES = 1_000_000


@dataclass(frozen=True)
class Signature:
    """`features` in the order of a single tensor; `inputs` by input name; `outputs` by output name: their role."""

    features: tuple[str, ...] = ()
    inputs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    positive: str | None = None
    task: str | None = None
    name: str | None = None
    version: str | None = None


def find_signature(path: Path | None, metadata: Mapping[str, str], given: Path | None = None) -> Signature:
    """Gather the signature of the model at `path`; raises ConfigurationError that names the file at fault.

    `given` is a sidecar named by the user, which stands for the one beside the model.
    """
    found = _from_metadata(metadata)
    if given is not None:
        return _over(found, _from_sidecar(given))
    if path is None:
        return found
    mlmodel = path.parent / "MLmodel"
    if mlmodel.is_file():
        found = _over(found, _from_mlflow(mlmodel))
    for sidecar in (path.with_suffix(".yaml"), path.with_suffix(".yml"), path.with_name(path.name + ".yaml")):
        if sidecar.is_file():
            found = _over(found, _from_sidecar(sidecar))
            break
    return found


def _over(below: Signature, above: Signature) -> Signature:
    said = {name: value for name in vars(above) if (value := getattr(above, name))}
    return replace(below, **said)


def _from_metadata(metadata: Mapping[str, str]) -> Signature:
    return Signature(
        features=_names(metadata.get("features"), "ONNX metadata `features`"),
        classes=_names(metadata.get("classes"), "ONNX metadata `classes`"),
        positive=metadata.get("positive"),
        task=metadata.get("task") if metadata.get("task") in _TASKS else None,
        version=metadata.get("version"),
    )


def _names(value: Any, where: str) -> tuple[str, ...]:
    """A list of names: JSON or comma-separated text, or a list."""
    if value is None:
        return ()
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list) or not all(isinstance(item, (str, int, float)) for item in value):
        raise ConfigurationError(f"{where} is no list of names: {str(value)[:100]!r}")
    return tuple(str(item) for item in value)


def _load(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigurationError(f"{path}: over the limit of {_MAX_BYTES} bytes")
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigurationError(f"{path}: no YAML: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(loaded, Mapping):
        raise ConfigurationError(f"{path}: no mapping of keys to values")
    return loaded


def _from_sidecar(path: Path) -> Signature:
    loaded = _load(path)
    unknown = sorted(str(key) for key in loaded if key not in _KEYS)
    if unknown:
        raise ConfigurationError(f"{path}: unknown key {unknown[0]!r} (there are: {', '.join(sorted(_KEYS))})")
    inputs, outputs, task = loaded.get("inputs") or {}, loaded.get("outputs") or {}, loaded.get("task")
    if not isinstance(inputs, Mapping) or not isinstance(outputs, Mapping):
        raise ConfigurationError(f"{path}: `inputs` and `outputs` map names of the model")
    for output, role in outputs.items():
        if role not in _ROLES:
            raise ConfigurationError(f"{path}: output {output!r} is {role!r}, not one of {', '.join(_ROLES)}")
    if task is not None and task not in _TASKS:
        raise ConfigurationError(f"{path}: task {task!r} is not one of {', '.join(_TASKS)}")
    return Signature(
        features=_names(loaded.get("features"), f"{path}: `features`"),
        inputs={
            str(name): (one,) if isinstance(one, str) else _names(one, f"{path}: input {name!r}")
            for name, one in inputs.items()
        },
        outputs={str(name): str(role) for name, role in outputs.items()},
        classes=_names(loaded.get("classes"), f"{path}: `classes`"),
        positive=None if loaded.get("positive") is None else str(loaded["positive"]),
        task=task,
        name=None if loaded.get("name") is None else str(loaded["name"]),
        version=None if loaded.get("version") is None else str(loaded["version"]),
    )


def _from_mlflow(path: Path) -> Signature:
    signature = _load(path).get("signature")
    if not isinstance(signature, Mapping) or not isinstance(signature.get("inputs"), str):
        return Signature()
    try:
        columns = json.loads(signature["inputs"])
        names = tuple(str(column["name"]) for column in columns if "name" in column)
    except (ValueError, TypeError, KeyError):
        raise ConfigurationError(f"{path}: the signature's inputs are no list of columns") from None
    return Signature(features=names)
