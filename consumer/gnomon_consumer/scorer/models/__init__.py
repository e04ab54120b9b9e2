"""Model runners behind one small interface (`base.Runner`): ONNX files, Python callables, model servers."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from gnomon_consumer.scorer.models.base import Runner
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.features import Feature
from gnomon_schemas.records import Artefact

Kind = Literal["onnx", "callable", "server"]
MAX_MODEL_BYTES = 2 * 2**30


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Which model, as the command line says it; `sha256` is pinned by the scorer and checked again by each worker.

    `signature` names a sidecar; `seconds` is the deadline of one request to a model server.
    """

    kind: Kind
    location: str
    sha256: str
    name: str
    version: str
    provider: str = "CPUExecutionProvider"
    signature: str | None = None
    seconds: float = 10.0

    @property
    def artefact(self) -> Artefact:
        """How the model appears in the records."""
        return Artefact(self.name, self.version, self.sha256)

    def as_json(self) -> dict[str, Any]:
        """For a frame to a worker."""
        return asdict(self)


def describe(
    location: str,
    name: str | None = None,
    version: str | None = None,
    sha256: str | None = None,
    provider: str = "CPUExecutionProvider",
    signature: str | None = None,
    seconds: float = 10.0,
) -> ModelSpec:
    """Tell what `location` is and pin it; raises ConfigurationError. Nothing of the model is run or parsed here."""
    kind, digest, default = _kind(location)
    if sha256 is not None and sha256.lower() != digest:
        raise ConfigurationError(f"{location}: its SHA-256 is {digest or 'unknown'}, not the pinned {sha256}")
    if signature is not None and not Path(signature).is_file():
        raise ConfigurationError(f"--signature {signature}: no such file")
    return ModelSpec(
        kind, location, digest, name or default, version or digest[:12] or "unknown", provider, signature, seconds
    )


def _kind(location: str) -> tuple[Kind, str, str]:
    if location.startswith(("http://", "https://")):
        return "server", "", location.rstrip("/").rpartition("/models/")[2].replace("/", "-") or "model"
    path = Path(location)
    if not path.is_file():
        if ":" in location and path.suffix != ".onnx":
            from gnomon_consumer.scorer.models.callable import digest, locate

            return "callable", digest(locate(location, Path.cwd())), location.partition(":")[2]
        raise ConfigurationError(f"--model {location}: no such file")
    if path.stat().st_size > MAX_MODEL_BYTES:
        raise ConfigurationError(f"--model {location}: over the limit of {MAX_MODEL_BYTES} bytes")
    with path.open("rb") as stream:
        return "onnx", hashlib.file_digest(stream, "sha256").hexdigest(), path.stem


def load(spec: ModelSpec, features: Sequence[Feature], folder: Path) -> Runner:
    """Load the model and bind it to the features by name; raises ConfigurationError. Runs in a worker."""
    signature = None if spec.signature is None else Path(spec.signature)
    if spec.kind == "server":
        from gnomon_consumer.scorer.models.server import ServerRunner

        return ServerRunner(spec.location, features, spec.seconds, signature)
    if spec.kind == "callable":
        from gnomon_consumer.scorer.models import callable as python

        _pinned(spec, python.locate(spec.location, folder).read_bytes())
        return python.CallableRunner(spec.location, folder, features)
    from gnomon_consumer.scorer.models.onnx import OnnxRunner

    path = Path(spec.location)
    content = path.read_bytes()
    _pinned(spec, content)
    return OnnxRunner(content, path, features, spec.provider, signature)


def _pinned(spec: ModelSpec, content: bytes) -> None:
    if hashlib.sha256(content).hexdigest() != spec.sha256:
        raise ConfigurationError(f"{spec.location}: its SHA-256 is no longer {spec.sha256}: the file was changed")
