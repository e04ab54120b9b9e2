"""Model runners behind one small interface (`base.Runner`): ONNX files, boosters, Python callables, model servers."""

import hashlib
import mmap
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from gnomon_consumer.scorer.worker.models import external, opened
from gnomon_consumer.scorer.worker.models.base import LIVE_ITEMS, Runner
from gnomon_consumer.scorer.worker.models.batches import fitting
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.features import Feature
from gnomon_schemas.records import Artefact

ModelKind = Literal["onnx", "native", "callable", "server"]
MAX_MODEL_BYTES = 2 * 2**30
_LIBRARIES = ("xgboost", "lightgbm", "catboost")
_ENDINGS = {".ubj": "xgboost", ".cbm": "catboost", ".lgb": "lightgbm"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """The model as given on the command line; the scorer pins `sha256` and each worker checks it again.

    `required` is the SHA-256 to which a user pinned a Python model; it can be compared only after loading. `signature`
    names a sidecar; `seconds` is the deadline of one request to a model server, `authorization` its header.
    """

    kind: ModelKind
    location: str
    sha256: str
    name: str
    version: str
    provider: str = "CPUExecutionProvider"
    signature: str | None = None
    seconds: float = 10.0
    authorization: str | None = field(default=None, repr=False)
    required: str | None = None

    @property
    def artefact(self) -> Artefact:
        """Return the model as it appears in the records."""
        return Artefact(self.name, self.version, self.sha256)

    def covering(self, files: Mapping[str, str]) -> "ModelSpec":
        """Return the spec of a model that opened `files` (their SHA-256 by name) while it was loaded.

        Raises ConfigurationError if the user pinned another SHA-256.
        """
        digest = opened.digest(self.sha256, files)
        if self.required is not None and self.required.lower() != digest:
            also = f", with what it opens while loading ({', '.join(sorted(files)[:20])})" if files else ""
            raise ConfigurationError(f"{self.location}: its SHA-256 is {digest}{also}, not the pinned {self.required}")
        named = self.version == self.sha256[:12]
        return replace(self, sha256=digest, version=digest[:12] if named and digest else self.version)

    def as_json(self) -> dict[str, Any]:
        """Return the fields for a frame to a worker."""
        return asdict(self)


def describe(
    location: str,
    name: str | None = None,
    version: str | None = None,
    sha256: str | None = None,
    provider: str = "CPUExecutionProvider",
    signature: str | None = None,
    seconds: float = 10.0,
    authorization: str | None = None,
) -> ModelSpec:
    """Determine what `location` is and pin it; raise ConfigurationError. This neither runs nor parses the model."""
    kind, location, digest, default, password = _kind(location)
    if sha256 is not None and kind != "callable" and sha256.lower() != digest:
        raise ConfigurationError(f"{location}: its SHA-256 is {digest or 'unknown'}, not the pinned {sha256}")
    if authorization is not None and not (authorization.isascii() and authorization.isprintable()):
        raise ConfigurationError(
            "score.model_authorization has characters that an HTTP header cannot contain:"
            " a line break, or characters outside of ASCII"
        )
    if signature is not None and not external.is_file(Path(signature)):
        raise ConfigurationError(f"--signature {signature}: no such file")
    if signature is not None and kind == "callable":
        raise ConfigurationError(
            f"--signature {signature}: a sidecar does not apply to a Python model; its attribute `features` names"
            " what it needs, and its answer names value, label, scores and items"
        )
    return ModelSpec(
        kind=kind,
        location=location,
        sha256=digest,
        name=name or default,
        version=version or digest[:12] or "unknown",
        provider=provider,
        signature=signature,
        seconds=seconds,
        authorization=password or (authorization if kind == "server" else None),
        required=sha256 if kind == "callable" else None,
    )


def _kind(location: str) -> tuple[ModelKind, str, str, str, str | None]:
    """Return kind, location, SHA-256, default name, and the Authorization header that an address holds."""
    if location.startswith(("http://", "https://")):
        from gnomon_consumer.scorer.worker.models.server import address

        plain, authorization = address(location)
        name = plain.rstrip("/").rpartition("/models/")[2].replace("/", "-") or "model"
        return "server", plain, "", name, authorization
    if location.partition(":")[0].lower() in ("http", "https"):
        # The error does not repeat the text, because a text that was meant as an address may hold a password.
        raise ConfigurationError(
            "--model: the address of a model server begins with http:// or https://, in lower case"
        )
    path = Path(location)
    if external.is_folder(path):
        from gnomon_consumer.scorer.worker.models.mlflow import model_in

        return _kind(model_in(path))
    library, _, file = location.partition(":")
    if library in _LIBRARIES and file and not external.is_file(path):
        return "native", location, _digest(Path(file), location), Path(file).stem, None
    if external.is_file(path):
        if path.suffix in _ENDINGS:
            raise ConfigurationError(f"--model {location}: not an ONNX file; say `{_ENDINGS[path.suffix]}:{location}`")
        return "onnx", location, _digest(path, location), path.stem, None
    if ":" in location and path.suffix != ".onnx":
        from gnomon_consumer.scorer.worker.models.callable import locate

        source = locate(location, Path.cwd()).read_bytes()
        return "callable", location, hashlib.sha256(source).hexdigest(), location, None
    raise ConfigurationError(f"--model {location}: no such file")


def _digest(path: Path, location: str) -> str:
    """Return the SHA-256 of a model file, and of the files that hold its tensors."""
    if not external.is_file(path):
        raise ConfigurationError(f"--model {location}: no such file")
    size = path.stat().st_size
    if size > MAX_MODEL_BYTES:
        raise ConfigurationError(
            f"--model {location}: over the limit of {MAX_MODEL_BYTES} bytes; save large tensors as external data"
        )
    if size == 0:
        return hashlib.sha256(b"").hexdigest()
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return external.digest(content, path, external.named_in(content, path))


def load(spec: ModelSpec, features: Sequence[Feature], folder: Path) -> Runner:
    """Load the model and bind it to the features by name; raise ConfigurationError. Runs in a worker."""
    # ONNX Runtime sends telemetry to its maker, and warns if it cannot store an identifier of the machine in the home
    # folder, unless this is set before it is imported, here or by a Python model.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    if all(feature.name != LIVE_ITEMS.name for feature in features):
        features = (*features, LIVE_ITEMS)
    signature = None if spec.signature is None else Path(spec.signature)
    if spec.kind == "server":
        from gnomon_consumer.scorer.worker.models.server import ServerRunner

        server = ServerRunner(
            spec.location, features, spec.seconds, signature=signature, authorization=spec.authorization
        )
        return fitting(server, features, server.fixed, server.most)
    if spec.kind == "callable":
        from gnomon_consumer.scorer.worker.models import callable as python

        _pinned(spec, hashlib.sha256(python.locate(spec.location, folder).read_bytes()).hexdigest())
        return fitting(python.CallableRunner(python.imported(spec.location, folder), spec.location, features), features)
    if spec.kind == "native":
        from gnomon_consumer.scorer.worker.models.native import NativeRunner

        library, _, file = spec.location.partition(":")
        content = Path(file).read_bytes()
        _pinned(spec, hashlib.sha256(content).hexdigest())
        native = NativeRunner(library, content, Path(file), features, signature=signature)
        return fitting(native, features, None, native.most)
    from gnomon_consumer.scorer.worker.models.onnx import OnnxRunner

    path = Path(spec.location)
    content = path.read_bytes()
    onnx = OnnxRunner(content, path, features, provider=spec.provider, signature=signature, sha256=spec.sha256)
    return fitting(onnx, features, onnx.fixed, onnx.most)


def load_without_doubt(spec: ModelSpec, features: Sequence[Feature], folder: Path) -> Runner:
    """Load like `load`; also raise ConfigurationError if the model's answers could not be compared with anything."""
    runner = load(spec, features, folder)
    if runner.doubt is not None:
        runner.close()
        raise ConfigurationError(f"{spec.location}: {runner.doubt}")
    return runner


def _pinned(spec: ModelSpec, digest: str) -> None:
    if digest != spec.sha256:
        raise ConfigurationError(f"{spec.location}: its SHA-256 is no longer {spec.sha256}: the file was changed")
