"""Models with named tensors, ONNX files and model servers: convert features to tensors, and tensors to answers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon_consumer.scorer.worker.models.answering import answers_of
from gnomon_consumer.scorer.worker.models.base import Answers, Batch, ModelInput, check_fit
from gnomon_consumer.scorer.worker.models.feeding import absent, defaults, refuse_infinite, tensor_of
from gnomon_consumer.scorer.worker.models.reading import read_outputs
from gnomon_consumer.scorer.worker.models.sidecar import nearest
from gnomon_consumer.scorer.worker.models.signature import Signature
from gnomon_consumer.scorer.worker.models.tensor import Tensor
from gnomon_schemas.checking import first_repeated
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.features import Feature
from gnomon_schemas.records import Failure

Tensors = dict[str, NDArray[Any]]


class TensorModel:
    """The binding of one model: which features fill its inputs, and what its outputs mean.

    `own`: the class labels that the model file holds, by output. `finite`: infinities cannot be given to the model.
    `fixed`: the number of rows that each call must have, None for any. Raises ConfigurationError that names the input,
    output or feature that does not fit.
    """

    def __init__(
        self,
        inputs: Sequence[Tensor],
        outputs: Sequence[Tensor],
        signature: Signature,
        features: Sequence[Feature],
        *,
        own: Mapping[str, tuple[str, ...]] | None = None,
        finite: bool = False,
    ) -> None:
        self._finite = finite
        self._tensors = {one.name: one for one in inputs}
        self.inputs = _bind(inputs, signature, [feature.name for feature in features])
        check_fit(self.inputs, features)
        types = {one.name: one.dtype for one in inputs}
        self._defaults = defaults(signature.missing, self.inputs, types, features)
        self._optional = frozenset(name for one in self.inputs for name in one.optional)
        self.fixed = _fixed_rows(inputs, signature.batch)
        self.reading = read_outputs(outputs, signature, own or {}, self.fixed)

    def predict(self, batch: Batch, rows: int, run: Callable[[Tensors], Mapping[str, Any]]) -> Answers:
        """Fill the tensors, `run` the model, and read its outputs. Rows that do not fit are not passed to the model."""
        failures: dict[int, Failure] = {}
        fed = self._feed(batch, rows, failures)
        if not failures:
            return answers_of(self.reading, run(fed), rows)
        kept = np.array([row for row in range(rows) if row not in failures], np.int64)
        if not len(kept):
            return Answers(rows, failures=failures)
        if self.fixed is not None:  # the call keeps its size; copies of the last good row replace those that do not fit
            full = np.concatenate([kept, np.repeat(kept[-1:], rows - len(kept))])
            answers = answers_of(self.reading, run({name: one[full] for name, one in fed.items()}), rows).first(
                len(kept)
            )
        else:
            answers = answers_of(self.reading, run({name: one[kept] for name, one in fed.items()}), len(kept))
        return answers.spread(kept, rows, failures)

    def _feed(self, batch: Batch, rows: int, failures: dict[int, Failure]) -> Tensors:
        if self._optional:
            batch = {name: absent(rows) for name in self._optional} | dict(batch)
        fed = {}
        for one in self.inputs:
            tensor = self._tensors[one.name]
            whole = tensor_of(one, tensor.dtype, batch, rows, self._defaults, failures)
            if self._finite and one.takes == "float":
                refuse_infinite(one, batch, failures)
            fed[one.name] = whole[:, 0] if len(tensor.dims) == 1 else whole
        return fed


def _bind(inputs: Sequence[Tensor], signature: Signature, known: Sequence[str]) -> tuple[ModelInput, ...]:
    unknown = next((name for name in signature.inputs if name not in {one.name for one in inputs}), None)
    if unknown is not None:
        raise ConfigurationError(f"the model has no input {unknown!r}{nearest(unknown, [one.name for one in inputs])}")
    bound = tuple(_bound(one, inputs, signature, known) for one in inputs)
    used = {name for one in bound for name in one.features}
    idle = next((name for name in signature.features if name not in used), None)
    if idle is not None and "features" in signature.by_hand:
        raise ConfigurationError(
            f"`features` lists {idle!r}, which no input of the model takes (they take: {', '.join(sorted(used))});"
            " with several inputs, say `inputs: {INPUT: [features]}`"
        )
    return bound


def _bound(one: Tensor, inputs: Sequence[Tensor], signature: Signature, known: Sequence[str]) -> ModelInput:
    if one.takes is None or one.sequence or one.maps:
        raise ConfigurationError(f"the model's input {one.name!r} has a type that no feature has: {one}")
    if len(one.dims) not in (1, 2):
        raise ConfigurationError(f"the model's input {one.name!r} has {len(one.dims)} dimensions; 1 or 2 fit")
    features = signature.inputs.get(one.name)
    if features is None and one.name in known:
        features = (one.name,)
    if features is None and len(inputs) == 1:
        signature.require("features")
        features = signature.features or None
    if features is None and one.width in (None, 1) and len(inputs) > 1:
        features = (one.name,)  # check_fit names it: it expects one input for each feature, and this one does not exist
    if features is None:
        raise ConfigurationError(
            f"the model's input {one.name!r} takes {one.width or 'several'} columns and nothing says which feature"
            " goes where: list them under `features` in a sidecar .yaml, in an MLflow signature or in the"
            " ONNX metadata"
        )
    if not features:
        raise ConfigurationError(f"the model's input {one.name!r} is given no features")
    if (twice := first_repeated(features)) is not None:
        raise ConfigurationError(f"the model's input {one.name!r} is given the feature {twice!r} twice")
    if len(one.dims) == 1 and len(features) > 1:
        raise ConfigurationError(
            f"the model's input {one.name!r} has one dimension, which holds one number a row, but {len(features)}"
            " features are bound to it: export the model with rows as the first of two dimensions"
        )
    width = one.width if len(one.dims) == 2 else 1
    return ModelInput(one.name, one.takes, features, width=width, optional=signature.optional & frozenset(features))


def _fixed_rows(inputs: Sequence[Tensor], said: int | None) -> int | None:
    """Return the number of rows that every call must have, None for any.

    One row is what an exporter writes if it does not know of batches. A larger number is filled up with rows that are
    ignored, if `said`, a sidecar's `batch`, agrees. Otherwise, or if inputs differ, raises ConfigurationError.
    """
    sizes = {one.dims[0]: one.name for one in inputs if one.dims[0] is not None}
    if len(sizes) > 1:
        several = " and ".join(f"{name!r} {size}" for size, name in sizes.items())
        raise ConfigurationError(f"the model's inputs are made for different numbers of rows: {several}")
    size = next(iter(sizes), None)
    if size not in (None, 1, said):
        raise ConfigurationError(
            f"the model's inputs are made for exactly {size} rows: export it with a dynamic first dimension, or say"
            f" `batch: {size}` in a sidecar to call it with that many rows, the last call padded"
        )
    return size
