"""Model servers by the Open Inference Protocol v2 over HTTP: KServe, Triton, MLServer, OpenVINO and others.

One connection a worker is kept open, so the number of workers is the limit of concurrent requests. Every request
carries `X-Shadow: gnomon`, so that the server can tell it from live traffic.
"""

import http.client
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from gnomon_consumer.scorer.models.base import Answers, Batch
from gnomon_consumer.scorer.models.signature import find_signature
from gnomon_consumer.scorer.models.tensors import Tensor, TensorModel
from gnomon_schemas.errors import ConfigurationError, DependencyUnreachableError
from gnomon_schemas.features import Feature
from gnomon_schemas.records import Failure, FeatureState

HEADERS = {"X-Shadow": "gnomon", "Content-Type": "application/json", "Accept": "application/json"}
MAX_ANSWER = 256 * 2**20
_DTYPES: Mapping[str, Any] = {
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "BOOL": np.bool_,
    "BYTES": object,
}


class ServerRunner:
    """A model behind `http://host:port/v2/models/NAME[/versions/V]`; `seconds` is the deadline of one request."""

    def __init__(
        self, location: str, features: Sequence[Feature], seconds: float, signature: Path | None = None
    ) -> None:
        parts = urlsplit(location)
        if parts.scheme not in ("http", "https") or not parts.hostname or "/models/" not in parts.path:
            raise ConfigurationError(f"--model {location}: not http://host:port/v2/models/NAME")
        self._location = location
        self._path = parts.path.rstrip("/")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname, parts.port, timeout=seconds)
        try:
            said = self._ask("GET", self._path, None)
        except (OSError, http.client.HTTPException) as error:
            raise DependencyUnreachableError(f"the model server at {location} does not answer: {error}") from None
        except ValueError as error:
            raise ConfigurationError(f"{location}: {error}") from None
        self._model = TensorModel(
            [_tensor(one) for one in said.get("inputs") or []],
            [_tensor(one) for one in said.get("outputs") or []],
            find_signature(None, {}, signature),
            features,
        )
        self._types = {str(one["name"]): str(one["datatype"]) for one in said["inputs"]}
        self.inputs = self._model.inputs

    def predict(self, batch: Batch, rows: int) -> Answers:
        """One request for the whole batch."""
        failures: dict[int, Failure] = {}
        feed = self._model.feed(batch, rows, failures)
        inputs = [
            {"name": name, "shape": list(value.shape), "datatype": self._types[name], "data": _data(value)}
            for name, value in feed.items()
        ]
        body = json.dumps({"inputs": inputs, "outputs": [{"name": name} for name in self._model.outputs]})
        said = self._ask("POST", f"{self._path}/infer", body)
        values = {}
        for one in said.get("outputs") or []:
            kind = _DTYPES.get(one["datatype"])
            values[one["name"]] = np.array(one["data"], dtype=kind).reshape(one["shape"])
        missing = [name for name in self._model.outputs if name not in values]
        if missing:
            raise ValueError(f"the server's answer has no output {missing[0]!r}")
        return self._model.answers(values, rows, failures)

    def _ask(self, method: str, path: str, body: str | None) -> dict[str, Any]:
        for attempt in (1, 2):
            fresh = self._connection.sock is None
            try:
                self._connection.request(method, path, body, HEADERS)
                response = self._connection.getresponse()
                text = response.read(MAX_ANSWER + 1)
                break
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                # A kept connection that the server has closed meanwhile is tried once more; a time-out is not.
                if fresh or attempt == 2 or isinstance(error, TimeoutError):
                    raise
        if len(text) > MAX_ANSWER:
            raise ValueError(f"the server's answer is over {MAX_ANSWER} bytes")
        if response.status != 200:
            raise ValueError(f"the server answered {response.status}: {text[:200].decode('utf-8', 'replace')}")
        loaded = json.loads(text)
        if not isinstance(loaded, dict):
            raise ValueError("the server's answer is no JSON object")  # noqa: TRY004 - bad data, not a bad argument
        return loaded

    def feature_state(self) -> FeatureState | None:
        """The protocol has none."""
        return None

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _tensor(one: Mapping[str, Any]) -> Tensor:
    try:
        dims = tuple(dim if isinstance(dim, int) and dim >= 0 else None for dim in one["shape"])
        return Tensor(str(one["name"]), _DTYPES.get(one["datatype"]), dims)
    except (KeyError, TypeError):
        raise ConfigurationError(f"the server describes a tensor as {str(one)[:100]}") from None


def _data(value: Any) -> list[Any]:
    """Flat, row by row. JSON has no NaN: null stands for it, as the servers that take one do."""
    flat = value.reshape(-1).tolist()
    return [None if isinstance(one, float) and one != one else one for one in flat]
