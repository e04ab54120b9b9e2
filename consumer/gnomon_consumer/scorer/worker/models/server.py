"""Model servers with the Open Inference Protocol v2 over HTTP: KServe, Triton, MLServer, OpenVINO and others.

Each worker keeps one connection open, so the number of workers limits the concurrent requests. Every request
carries `X-Shadow: gnomon`, so that the server can distinguish it from live traffic.
"""

import http.client
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gnomon_consumer.scorer.worker.models import protocol
from gnomon_consumer.scorer.worker.models.base import Answers, Batch, ModelInput
from gnomon_consumer.scorer.worker.models.signature import Signature, find_signature
from gnomon_consumer.scorer.worker.models.tensor import Tensor
from gnomon_consumer.scorer.worker.models.tensors import TensorModel, Tensors
from gnomon_schemas.errors import ConfigurationError, DependencyUnreachableError, GnomonError
from gnomon_schemas.features import Feature, by_any_name
from gnomon_schemas.records import FeatureState

HEADERS = {"X-Shadow": "gnomon", "Content-Type": "application/json", "Accept": "application/json"}
MAX_ANSWER = 256 * 2**20
_WAY_OUT = (
    "say in a sidecar (--signature FILE) what it takes and answers: `inputs: {NAME: [features]}`,"
    " `outputs: {NAME: value}`"
)


class ServerRunner:
    """A model behind `http://host:port/v2/models/NAME[/versions/V]`; `seconds` is the deadline of one request.

    `authorization`: the value of that header. No error contains it.
    """

    def __init__(
        self,
        location: str,
        features: Sequence[Feature],
        seconds: float,
        *,
        signature: Path | None = None,
        authorization: str | None = None,
    ) -> None:
        parts = urlsplit(location)
        self._location = location
        self._path = parts.path.rstrip("/")
        self._headers = HEADERS | ({} if authorization is None else {"Authorization": authorization})
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname or "", parts.port, timeout=seconds)
        try:
            self._bind(find_signature(None, {}, signature), features)
        except GnomonError:
            self.close()
            raise

    def _bind(self, said: Signature, features: Sequence[Feature]) -> None:
        """Ask the server for the model's inputs and outputs, and bind it; a sidecar supplies what the server omits."""
        described = self._described()
        inputs = [protocol.tensor(one) for one in _listed(described, "inputs")] or _from_sidecar(said, features)
        outputs = [protocol.tensor(one) for one in _listed(described, "outputs")] or [
            protocol.undescribed(name) for name in said.outputs
        ]
        if not inputs or not outputs:
            lacks = "inputs" if not inputs else "outputs"
            raise ConfigurationError(
                f"{self._location}: the server's metadata describes no {lacks} of the model; {_WAY_OUT}"
            )
        self._model = TensorModel(inputs, outputs, said, features, finite=True)  # JSON has no infinity
        self._types = {one.name: one.declared for one in inputs}
        odd = next((name for name, said_type in said.datatypes.items() if self._types.get(name) != said_type), None)
        if odd is not None:
            raise ConfigurationError(
                f"the sidecar says that the input {odd!r} is {said.datatypes[odd]}; the server says"
                f" {self._types.get(odd)}"
            )
        self.inputs: tuple[ModelInput, ...] = self._model.inputs
        self.reading, self.doubt = str(self._model.reading), self._model.reading.doubt
        self.fixed, self.most = self._model.fixed, said.batch or self._most_rows()

    def _described(self) -> dict[str, Any]:
        try:
            return self._ask("GET", self._path)
        except (OSError, http.client.HTTPException) as error:
            raise DependencyUnreachableError(f"the model server at {self._location} does not answer: {error}") from None
        except ValueError as error:
            raise ConfigurationError(f"{self._location}: {error}") from None

    def _most_rows(self) -> int | None:
        """Return the maximum number of rows of a request if the server (Triton) states it, else None."""
        try:
            most = self._ask("GET", f"{self._path}/config").get("max_batch_size")
        except (OSError, http.client.HTTPException, ValueError):
            return None
        return most if isinstance(most, int) and most > 0 else None

    def predict(self, batch: Batch, rows: int) -> Answers:
        """Send one request for the whole batch."""
        return self._model.predict(batch, rows, self._infer)

    def _infer(self, feed: Tensors) -> dict[str, Any]:
        wanted = self._model.reading.outputs
        said, tail = self._exchange("POST", f"{self._path}/infer", protocol.request(feed, self._types, wanted))
        values = protocol.outputs(said, tail)
        missing = next((name for name in wanted if name not in values), None)
        if missing is not None:
            raise ValueError(
                f"the server's answer has no output {missing!r} (there are: {', '.join(values) or 'none'})"
            )
        return values

    def _ask(self, method: str, path: str) -> dict[str, Any]:
        return self._exchange(method, path, None)[0]

    def _exchange(self, method: str, path: str, body: bytes | None) -> tuple[dict[str, Any], bytes]:
        """Return the JSON of an answer, and the bytes of the binary extension after it."""
        for attempt in (1, 2):
            fresh = self._connection.sock is None
            try:
                self._connection.request(method, path, body, self._headers)
                response = self._connection.getresponse()
                text = response.read(MAX_ANSWER + 1)
                break
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                # If the server has closed a kept connection meanwhile, the request is sent once more; not after a
                # time-out.
                if fresh or attempt == 2 or isinstance(error, TimeoutError):
                    raise
        if len(text) > MAX_ANSWER:
            self._connection.close()  # the rest of it would be read as the next answer
            raise ValueError(f"the server's answer is over {MAX_ANSWER} bytes")
        if response.status != 200:
            raise ValueError(
                f"the server answered {response.status}{_hint(response.status)}: {protocol.complaint(text)}"
            )
        length = response.getheader(protocol.LENGTH)
        return protocol.parted(text, length)

    def feature_state(self) -> FeatureState | None:
        """Return None: the protocol has no feature cache."""
        return None

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def address(location: str) -> tuple[str, str | None]:
    """Return the location without user and password, and the Authorization header made from them.

    Raises ConfigurationError, whose text never contains a password.
    """
    parts = urlsplit(location)
    host = parts.netloc.rpartition("@")[2]
    plain = parts._replace(netloc=host, query="", fragment="").geturl()
    try:
        fine = parts.hostname and (parts.port is None or parts.port > 0) and "/models/" in parts.path
    except ValueError:  # the port
        fine = False
    if not fine:
        raise ConfigurationError(f"--model {plain}: not http://host:port/v2/models/NAME")
    return plain, protocol.basic(parts.username, parts.password)


def _hint(status: int) -> str:
    if status in (401, 403):
        return " (user and password go into the address, a token into the setting score.model_authorization)"
    return " (no such model)" if status == 404 else ""


def _listed(described: Mapping[str, Any], key: str) -> list[Any]:
    listed = described.get(key) or []
    if not isinstance(listed, list):
        raise ConfigurationError(f"the server's metadata has {key} that are not a list; {_WAY_OUT}")
    return listed


def _from_sidecar(said: Signature, features: Sequence[Feature]) -> list[Tensor]:
    """Return the inputs for a server that describes none: types from the sidecar, or from the features."""
    named = by_any_name(features)
    textual = {name: feature.textual or feature.items == "string" for name, feature in named.items()}
    return [
        protocol.undescribed(
            name, said.datatypes.get(name) or ("BYTES" if all(textual.get(one) for one in bound) else "FP64")
        )
        for name, bound in said.inputs.items()
    ]
