"""Models of named tensors, ONNX files and model servers alike: features into tensors, tensors into answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gnomon_consumer.scorer.models.base import Answers, Batch, Column, ModelInput, Takes, check_fit, missing_failures
from gnomon_consumer.scorer.models.signature import Signature
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.features import Feature
from gnomon_schemas.records import Failure, FailureKind

Role = Literal["value", "label", "scores", "zipmap"]


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output as the model declares it; `dims` None where it does not say, `dtype` None for no tensor.

    `maps` marks a sequence of maps from class to probability (ZipMap).
    """

    name: str
    dtype: Any
    dims: tuple[int | None, ...]
    maps: bool = False

    @property
    def takes(self) -> Takes | None:
        """What kind of feature fits; None for a type that no feature has."""
        if self.dtype is None:
            return None
        kind = np.dtype(self.dtype).kind
        kinds: Mapping[str, Takes] = {"f": "float", "i": "int", "u": "int", "b": "bool", "O": "string"}
        return kinds.get(kind)

    @property
    def width(self) -> int | None:
        """Columns, where it has two dimensions and says how many."""
        return self.dims[-1] if len(self.dims) > 1 else None


class TensorModel:
    """The binding of one model: which features fill its inputs, and what its outputs mean.

    Raises ConfigurationError that names the input, output or feature that does not fit.
    """

    def __init__(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], signature: Signature, features: Sequence[Feature]
    ) -> None:
        self._tensors = {one.name: one for one in inputs}
        self._signature = signature
        self.inputs = _bind(inputs, signature, [feature.name for feature in features])
        check_fit(self.inputs, features)
        self.outputs = _roles(outputs, signature)

    def feed(self, batch: Batch, rows: int, failures: dict[int, Failure]) -> dict[str, NDArray[Any]]:
        """The tensors of a batch; rows that cannot fill them are added to `failures`."""
        failures.update(missing_failures(self.inputs, batch))
        fed = {}
        for one in self.inputs:
            tensor = self._tensors[one.name]
            columns = [batch[name] for name in one.features]
            if len(columns) > 1 and one.takes == "float" and all(map(_plain, columns)):
                whole = _beside(columns, tensor.dtype, rows)
            else:
                parts = [plane(each, tensor.dtype, rows, one, failures) for each in columns]
                whole = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
            fed[one.name] = whole[:, 0] if len(tensor.dims) == 1 else whole
        return fed

    def answers(self, values: Mapping[str, Any], rows: int, failures: dict[int, Failure]) -> Answers:
        """The predictions in the model's outputs; raises ValueError that names an output of the wrong shape."""
        answers = Answers(rows, failures=failures)
        for name, role in self.outputs.items():
            self._take(answers, name, role, values[name], rows)
        _positive(answers, self._signature)
        return answers

    def _take(self, answers: Answers, name: str, role: Role, value: Any, rows: int) -> None:
        if isinstance(value, list) and len(value) != rows:
            raise ValueError(f"the output {name!r} has {len(value)} rows for {rows} captures")
        if role == "zipmap":
            answers.row_items = [[str(key) for key in one] for one in value]
            answers.scores = [[float(score) for score in one.values()] for one in value]
            return
        if isinstance(value, list):  # a tensor a row; lists to rank may differ in length
            parts = [np.asarray(one).reshape(-1) for one in value]
            if role == "scores":
                answers.scores = [part.astype(np.float64).tolist() for part in parts]
                return
            sizes = {part.size for part in parts} - {1}
            if sizes:
                raise ValueError(f"the output {name!r} has {max(sizes)} values for a capture; one is needed")
            value = np.concatenate(parts) if parts else np.empty(0)
        array = np.asarray(value)
        if array.ndim == 0 or array.shape[0] != rows:
            raise ValueError(f"the output {name!r} has the shape {list(array.shape)} for {rows} captures")
        if role == "label":
            answers.label = [self._class_name(item) for item in array.reshape(rows, -1)[:, 0]]
            return
        if array.dtype.kind not in "fiub":
            raise ValueError(f"the output {name!r} holds {array.dtype.name}; numbers are needed")
        if role == "scores":
            answers.scores = array.reshape(rows, -1).astype(np.float64)
        elif array.size == rows:
            answers.value = array.reshape(rows).astype(np.float64)
        else:
            raise ValueError(f"the output {name!r} has the shape {list(array.shape)}; one value a row is needed")

    def _class_name(self, item: Any) -> str:
        classes = self._signature.classes
        if classes and isinstance(item, (np.integer, int)) and 0 <= int(item) < len(classes):
            return classes[int(item)]
        return item.decode() if isinstance(item, bytes) else str(item)


def _bind(inputs: Sequence[Tensor], signature: Signature, known: Sequence[str]) -> tuple[ModelInput, ...]:
    bound = []
    for one in inputs:
        if one.takes is None:
            raise ConfigurationError(f"the model's input {one.name!r} has a type that no feature has")
        if len(one.dims) > 2:
            raise ConfigurationError(f"the model's input {one.name!r} has {len(one.dims)} dimensions; 1 or 2 fit")
        features = signature.inputs.get(one.name)
        if features is None and one.name in known:
            features = (one.name,)
        if features is None and len(inputs) == 1 and signature.features:
            features = signature.features
        if features is None and one.width in (None, 1) and len(inputs) > 1:
            features = (one.name,)  # check_fit names it: one input a feature, and this one does not exist
        if features is None:
            raise ConfigurationError(
                f"the model's input {one.name!r} takes {one.width or 'several'} columns and nothing says which feature"
                " goes where: list them under `features` in a sidecar .yaml, in an MLflow signature or in the"
                " ONNX metadata"
            )
        bound.append(ModelInput(one.name, one.takes, features, one.width))
    return tuple(bound)


def _roles(outputs: Sequence[Tensor], signature: Signature) -> dict[str, Role]:
    """What each output is: said by the signature, else told by its type and shape; the first of a kind counts."""
    found: dict[Role, str] = {}
    for one in outputs:
        role = signature.outputs.get(one.name) or _guess(one, "label" in found)
        if role is not None:
            found.setdefault(role, one.name)  # type: ignore[arg-type]  # the signature was checked when it was read
    if "scores" in found:
        found.pop("zipmap", None)
    if signature.task == "regression":
        found = {role: name for role, name in found.items() if role == "value"}
    missing = [name for name in signature.outputs if name not in {one.name for one in outputs}]
    if missing:
        raise ConfigurationError(f"the model has no output {missing[0]!r}")
    if not found:
        raise ConfigurationError("the model has no output that is a value, a label or scores")
    return {name: role for role, name in found.items()}


def _guess(one: Tensor, labelled: bool) -> Role | None:
    if one.maps:
        return "zipmap"
    if one.takes == "string" or (one.takes in ("int", "bool") and len(one.dims) <= 1):
        return "label"
    if one.takes not in ("float", "int"):
        return None
    wide = len(one.dims) == 2 and one.dims[-1] != 1
    # [rows, unknown] beside a label holds class probabilities; alone it is one value a row.
    unsure = wide and one.dims[-1] is None and not labelled
    return "scores" if wide and not unsure else "value"


def _plain(column: Column) -> bool:
    """Whether a feature is one number a row, NaN for a null."""
    values = column.values
    return values.ndim == 1 and values.dtype.kind in "fiub" and (column.missing is None or values.dtype == np.float64)


def _beside(columns: Sequence[Column], dtype: Any, rows: int) -> NDArray[Any]:
    """Plain features as one [rows, features], each written once: the probe pays for this with every single row."""
    whole = np.empty((rows, len(columns)), dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        for at, column in enumerate(columns):
            whole[:, at] = column.values
    return whole


def plane(column: Column, dtype: Any, rows: int, one: ModelInput, failures: dict[int, Failure]) -> NDArray[Any]:
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
    positive = signature.positive or (signature.classes[1] if len(signature.classes) == 2 else None)
    place = names.index(positive) if positive in names else 1
    answers.value = np.array([row[place] for row in scores], dtype=np.float64)
