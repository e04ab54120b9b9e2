"""ONNX models through ONNX Runtime. Only this module imports it."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from gnomon_consumer.scorer.worker.models import external
from gnomon_consumer.scorer.worker.models.base import Answers, Batch
from gnomon_consumer.scorer.worker.models.graph import own_labels
from gnomon_consumer.scorer.worker.models.inspection import inspect
from gnomon_consumer.scorer.worker.models.signature import find_signature
from gnomon_consumer.scorer.worker.models.tensor import Tensor
from gnomon_consumer.scorer.worker.models.tensors import TensorModel, Tensors
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.features import Feature
from gnomon_schemas.records import FeatureState

_DTYPES: Mapping[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int16)": np.int16,
    "tensor(int8)": np.int8,
    "tensor(uint64)": np.uint64,
    "tensor(uint32)": np.uint32,
    "tensor(uint16)": np.uint16,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
    "tensor(string)": object,
}
_PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
_PLACE = re.compile(r"/\S*?onnxruntime/(core|contrib_ops|python|test)/\S+?:\d+ ")
_FUNCTION = re.compile(r"^(?:\S.*?\)(?: const)?(?: \[with [^\]]*\])? )(?=\S)")
_MOST = 400


class OnnxRunner:
    """A model from one ONNX file and its external data, inspected before it is loaded, with one thread an operator.

    `content` is the file's bytes, `sha256` the pin of them and of the files that hold its tensors. `fixed` is the
    required number of rows of a call, `most` the maximum.
    """

    def __init__(
        self,
        content: bytes,
        path: Path,
        features: Sequence[Feature],
        *,
        provider: str = "CPUExecutionProvider",
        signature: Path | None = None,
        sha256: str | None = None,
    ) -> None:
        if sha256 is not None and external.digest(content, path, external.named_in(content, path)) != sha256:
            raise ConfigurationError(f"{path}: its SHA-256 is no longer {sha256}: the file was changed")
        parsed = inspect(content, path)
        if parsed.external != external.named_in(content, path):
            raise ConfigurationError(f"{path}: its tensors are in files that its SHA-256 does not cover: save it again")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        available = onnxruntime.get_available_providers()
        if provider not in available:
            raise ConfigurationError(
                f"the execution provider {provider!r} is not available (available: {', '.join(available)})"
            )
        source: Any = str(path) if parsed.external else content
        try:
            self._session = onnxruntime.InferenceSession(source, options, providers=[provider])
        except Exception as error:  # noqa: BLE001 - onnxruntime's own exceptions have no common root
            raise ConfigurationError(f"{path}: ONNX Runtime cannot load it: {reason(error)}") from None
        said = find_signature(path, dict(self._session.get_modelmeta().custom_metadata_map), signature)
        if said.datatypes:
            name, datatype = next(iter(said.datatypes.items()))
            raise ConfigurationError(
                f"the sidecar says that the input {name!r} is {datatype}; of an ONNX file the file says it:"
                " leave it out"
            )
        self._model = TensorModel(
            [_tensor(node) for node in self._session.get_inputs()],
            [_tensor(node) for node in self._session.get_outputs()],
            said,
            features,
            own=own_labels(parsed.model),
        )
        self.inputs = self._model.inputs
        self.reading, self.doubt = str(self._model.reading), self._model.reading.doubt
        self.fixed, self.most = self._model.fixed, said.batch
        self._wanted = list(self._model.reading.outputs)

    def predict(self, batch: Batch, rows: int) -> Answers:
        """Run the session once."""
        return self._model.predict(batch, rows, self._run)

    def _run(self, feed: Tensors) -> dict[str, Any]:
        try:
            return dict(zip(self._wanted, self._session.run(self._wanted, feed), strict=True))
        except Exception as error:  # noqa: BLE001 - onnxruntime's own exceptions have no common root
            raise ValueError(f"ONNX Runtime: {reason(error)}") from None

    def feature_state(self) -> FeatureState | None:
        """Return None: ONNX has no feature cache."""
        return None

    def close(self) -> None:
        """Drop the session."""
        del self._session


def _tensor(node: Any) -> Tensor:
    dims = tuple(dim if isinstance(dim, int) and dim >= 0 else None for dim in node.shape)
    if node.type.startswith("seq(tensor("):
        return Tensor(node.name, _DTYPES.get(node.type[4:-1]), (None, None), sequence=True, declared=node.type)
    maps = node.type.startswith("seq(map(")
    return Tensor(node.name, _DTYPES.get(node.type), dims, maps=maps, declared=node.type)


def reason(error: Exception) -> str:
    """Return ONNX Runtime's error text without the position in the C++ sources; of a long text both ends."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = _PREFIX.sub("", text)
    place = list(_PLACE.finditer(text))
    if place:
        before, after = text[: place[0].start()], text[place[-1].end() :]
        text = f"{before.rstrip(':')}: {_FUNCTION.sub('', after)}" if before else _FUNCTION.sub("", after)
    return text if len(text) <= _MOST else f"{text[: _MOST // 4]} … {text[-3 * _MOST // 4 :]}"
