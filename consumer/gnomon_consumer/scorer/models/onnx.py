"""ONNX models through ONNX Runtime: the one module that imports it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from gnomon_consumer.scorer.models.base import Answers, Batch
from gnomon_consumer.scorer.models.inspection import inspect
from gnomon_consumer.scorer.models.signature import find_signature
from gnomon_consumer.scorer.models.tensors import Tensor, TensorModel
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.features import Feature
from gnomon_schemas.records import Failure, FeatureState

_DTYPES: Mapping[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int16)": np.int16,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
    "tensor(string)": object,
}


class OnnxRunner:
    """A model of one ONNX file, inspected before it is loaded, with one thread an operator."""

    def __init__(
        self,
        content: bytes,
        path: Path,
        features: Sequence[Feature],
        provider: str = "CPUExecutionProvider",
        signature: Path | None = None,
    ) -> None:
        inspect(content, path)
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
        except Exception as error:  # noqa: BLE001 - onnxruntime's own exceptions have no common root
            raise ConfigurationError(f"{path}: ONNX Runtime cannot load it: {_first_line(error)}") from None
        metadata = dict(self._session.get_modelmeta().custom_metadata_map)
        self._model = TensorModel(
            [_tensor(node) for node in self._session.get_inputs()],
            [_tensor(node) for node in self._session.get_outputs()],
            find_signature(path, metadata, signature),
            features,
        )
        self.inputs = self._model.inputs
        self._wanted = list(self._model.outputs)

    def predict(self, batch: Batch, rows: int) -> Answers:
        """Run the session once."""
        failures: dict[int, Failure] = {}
        feed = self._model.feed(batch, rows, failures)
        values = self._session.run(self._wanted, feed)
        return self._model.answers(dict(zip(self._wanted, values, strict=True)), rows, failures)

    def feature_state(self) -> FeatureState | None:
        """ONNX has no feature cache."""
        return None

    def close(self) -> None:
        """Drop the session."""
        del self._session


def _tensor(node: Any) -> Tensor:
    dims = tuple(dim if isinstance(dim, int) else None for dim in node.shape)
    if node.type.startswith("seq(tensor("):  # a tensor a row
        return Tensor(node.name, _DTYPES.get(node.type[4:-1]), (None, None))
    return Tensor(node.name, _DTYPES.get(node.type), dims, node.type.startswith("seq(map("))


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0][:300] if text else type(error).__name__
