"""ONNX models through ONNX Runtime: the one module that imports it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from gnomon_consumer.scorer.models.base import Answers, Batch, Column, ModelInput, Takes, check_fit, missing_failures
from gnomon_consumer.scorer.models.signature import Signature, find_signature
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.features import Feature
from gnomon_schemas.records import Failure, FailureKind, FeatureState

_TAKES: Mapping[str, tuple[Takes, Any]] = {
    "tensor(float)": ("float", np.float32),
    "tensor(double)": ("float", np.float64),
    "tensor(float16)": ("float", np.float16),
    "tensor(int64)": ("int", np.int64),
    "tensor(int32)": ("int", np.int32),
    "tensor(int16)": ("int", np.int16),
    "tensor(int8)": ("int", np.int8),
    "tensor(uint8)": ("int", np.uint8),
    "tensor(bool)": ("bool", np.bool_),
    "tensor(string)": ("string", object),
}
_FLOATS = ("tensor(float)", "tensor(double)", "tensor(float16)")
_INTEGERS = ("tensor(int64)", "tensor(int32)", "tensor(int16)", "tensor(int8)", "tensor(uint8)", "tensor(bool)")


@dataclass(frozen=True, slots=True)
class _Output:
    """One output and the part of a prediction that it is."""

    name: str
    role: str  # value, label, scores, zipmap


class OnnxRunner:
    """A model of one ONNX file, checked before it is loaded (see `inspection`), with one thread an operator."""

    def __init__(
        self, content: bytes, path: Path, features: Sequence[Feature], provider: str = "CPUExecutionProvider"
    ) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        available = onnxruntime.get_available_providers()
        if provider not in available:
            raise ConfigurationError(
                f"the execution provider {provider!r} is not here (there are: {', '.join(available)})"
            )
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=[provider])
        except Exception as error:  # noqa: BLE001 - onnxruntime raises a family of its own, without a common root
            raise ConfigurationError(f"{path}: ONNX Runtime cannot load it: {_first_line(error)}") from None
        metadata = dict(self._session.get_modelmeta().custom_metadata_map)
        self._signature = find_signature(path, metadata)
        self._types = {one.name: _TAKES.get(one.type) for one in self._session.get_inputs()}
        self._flat = {one.name: len(one.shape) == 1 for one in self._session.get_inputs()}
        self.inputs = self._bind([feature.name for feature in features])
        check_fit(self.inputs, features)
        self._outputs = self._read_outputs()

    def _bind(self, known: Sequence[str]) -> tuple[ModelInput, ...]:
        nodes = self._session.get_inputs()
        bound = []
        for node in nodes:
            kind = _TAKES.get(node.type)
            if kind is None:
                raise ConfigurationError(
                    f"the model's input {node.name!r} has the type {node.type}, which no feature has"
                )
            width = node.shape[-1] if len(node.shape) > 1 and isinstance(node.shape[-1], int) else None
            if len(node.shape) > 2:
                raise ConfigurationError(
                    f"the model's input {node.name!r} has {len(node.shape)} dimensions; 1 or 2 fit"
                )
            features = self._signature.inputs.get(node.name)
            if features is None and node.name in known:
                features = (node.name,)
            if features is None and len(nodes) == 1 and self._signature.features:
                features = self._signature.features
            if features is None and width in (None, 1) and len(nodes) > 1:
                features = (node.name,)  # check_fit names it: one input a feature, and this one does not exist
            if features is None:
                raise ConfigurationError(
                    f"the model's input {node.name!r} takes {width or 'several'} columns and nothing says which feature"
                    " goes where: list them under `features` in a sidecar .yaml, in an MLflow signature or in the"
                    " ONNX metadata"
                )
            bound.append(ModelInput(node.name, kind[0], features, width))
        return tuple(bound)

    def _read_outputs(self) -> list[_Output]:
        roles: list[_Output] = []
        for node in self._session.get_outputs():
            named = self._signature.outputs.get(node.name)
            if named is not None:
                roles.append(_Output(node.name, named))
            elif node.type.startswith("seq(map("):
                roles.append(_Output(node.name, "zipmap"))
            elif node.type == "tensor(string)" or (node.type in _INTEGERS and len(node.shape) <= 1):
                roles.append(_Output(node.name, "label"))
            elif node.type in _FLOATS:
                wide = len(node.shape) == 2 and node.shape[-1] != 1
                # [rows, ?] next to a label holds class probabilities; alone it is a value a row.
                labelled = any(role.role == "label" for role in roles)
                unsure = wide and not isinstance(node.shape[-1], int) and not labelled
                roles.append(_Output(node.name, "value" if not wide or unsure else "scores"))
            else:
                continue
        taken: dict[str, _Output] = {}
        for output in roles:
            taken.setdefault("scores" if output.role == "zipmap" else output.role, output)
        if self._signature.task == "regression":
            taken = {role: output for role, output in taken.items() if role == "value"}
        if not taken:
            raise ConfigurationError("the model has no output that is a value, a label or scores")
        return list(taken.values())

    def predict(self, batch: Batch, rows: int) -> Answers:
        """Run the session once."""
        failures = missing_failures(self.inputs, batch)
        feed = {one.name: self._tensor(one, batch, rows, failures) for one in self.inputs}
        raw = self._session.run([output.name for output in self._outputs], feed)
        answers = Answers(rows, failures=failures)
        for output, value in zip(self._outputs, raw, strict=True):
            self._take(answers, output, value, rows)
        _positive(answers, self._signature)
        return answers

    def _tensor(self, one: ModelInput, batch: Batch, rows: int, failures: dict[int, Failure]) -> NDArray[Any]:
        kind = self._types[one.name]
        assert kind is not None
        parts = [_plane(batch[name], kind[1], rows, one, failures) for name in one.features]
        tensor = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        return tensor[:, 0] if self._flat[one.name] else tensor

    def _take(self, answers: Answers, output: _Output, value: Any, rows: int) -> None:
        if output.role == "zipmap":
            if not isinstance(value, list) or len(value) != rows:
                raise ValueError(f"the output {output.name!r} has {len(value)} rows for {rows} captures")
            answers.row_items = [[str(key) for key in one] for one in value]
            answers.scores = [[float(score) for score in one.values()] for one in value]
            return
        array = np.asarray(value)
        if array.ndim == 0 or array.shape[0] != rows:
            raise ValueError(f"the output {output.name!r} has the shape {list(array.shape)} for {rows} captures")
        if output.role == "label":
            answers.label = [self._class_name(item) for item in array.reshape(rows, -1)[:, 0]]
        elif output.role == "value":
            if array.size != rows:
                raise ValueError(f"the output {output.name!r} has the shape {list(array.shape)}; one value a row fits")
            answers.value = array.reshape(rows).astype(np.float64)
        else:
            answers.scores = array.reshape(rows, -1).astype(np.float64)

    def _class_name(self, item: Any) -> str:
        classes = self._signature.classes
        if classes and isinstance(item, (np.integer, int)) and 0 <= int(item) < len(classes):
            return classes[int(item)]
        return item.decode() if isinstance(item, bytes) else str(item)

    def feature_state(self) -> FeatureState | None:
        """ONNX has no feature cache."""
        return None

    def close(self) -> None:
        """Drop the session."""
        del self._session


def _plane(column: Column, dtype: Any, rows: int, one: ModelInput, failures: dict[int, Failure]) -> NDArray[Any]:
    """One feature as [rows, width] of the input's type; nulls become NaN where there is one."""
    values = column.values
    if values.dtype == object and dtype is not object:  # arrays of several lengths
        width = one.width or max((len(value) for value in values), default=0)
        plane = np.zeros((rows, width), dtype=dtype)
        for row, value in enumerate(values):
            if len(value) == width:
                plane[row] = value
            else:
                text = f"the feature {one.features[0]!r} has {len(value)} numbers; {width} needed"
                failures.setdefault(row, Failure(FailureKind.INVALID_FEATURES, text))
        return plane
    if values.ndim == 2 and one.width not in (None, values.shape[1]):
        text = f"the feature {one.features[0]!r} has {values.shape[1]} numbers; {one.width} needed"
        failures.update({row: Failure(FailureKind.INVALID_FEATURES, text) for row in range(rows)})
        return np.zeros((rows, one.width or 1), dtype=dtype)
    if one.takes == "float" and column.missing is not None and values.dtype != np.float64:
        values = np.where(column.missing, np.nan, values.astype(np.float64))
    if one.takes == "int" and np.issubdtype(values.dtype, np.integer) and dtype is not np.int64:
        limits = np.iinfo(dtype)
        for row in np.flatnonzero((values < limits.min) | (values > limits.max)).tolist():
            text = f"the feature {one.features[0]!r} is {values[row]}, outside of {np.dtype(dtype).name}"
            failures.setdefault(row, Failure(FailureKind.INVALID_FEATURES, text))
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype(dtype).reshape(rows, -1)


def _positive(answers: Answers, signature: Signature) -> None:
    """Name the scores, and take the positive class's score as the value of a two-class model."""
    scores = answers.scores
    if scores is None or not len(scores):
        return
    if answers.row_items is None and signature.classes and len(signature.classes) == len(scores[0]):
        answers.items = signature.classes
    if answers.value is not None or len(scores[0]) != 2 or signature.task == "ranking":
        return
    names = list(answers.row_items[0]) if answers.row_items is not None else list(answers.items or ())
    place = names.index(signature.positive) if signature.positive in names else 1
    answers.value = np.array([row[place] for row in scores], dtype=np.float64)


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0][:300] if text else type(error).__name__
