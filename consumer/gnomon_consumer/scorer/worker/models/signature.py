"""The facts that a model file itself does not state: the order of its features, its classes, the roles of its outputs.

Three places may state a key, and the first one that does wins: a sidecar (`--signature FILE`, or next to the model
`model.yaml`, `model.yml` or `model.onnx.yaml`), an MLflow `MLmodel` file in the same folder, the metadata of the ONNX
file. An overridden value is never checked, so another tool's metadata cannot invalidate a sidecar.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gnomon_consumer.scorer.worker.models import mlflow, sidecar
from gnomon_consumer.scorer.worker.models.names import classes_in, names_in
from gnomon_schemas.errors import ConfigurationError

Said = dict[str, Any]
"""The keys that one place states. A ConfigurationError as value is raised only if the key is needed."""


@dataclass(frozen=True, kw_only=True)
class Signature:
    """The signature of a model, each key from the first source that states it.

    `features` in the order of a single tensor; `inputs` by input name; `outputs` by output name: the role of the whole
    output, of each of its columns, or None. `classes` in the order of the scores; `class_names` by the model's own
    label or index. `missing`: the text that stands for a null, by feature. `optional`: features that captures need not
    have. `datatypes`: of a model server's inputs. `batch`: the most rows of one call.
    """

    features: tuple[str, ...] = ()
    inputs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    outputs: Mapping[str, sidecar.Roles] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    class_names: Mapping[str, str] = field(default_factory=dict)
    positive: str | None = None
    task: str | None = None
    missing: Mapping[str, str] = field(default_factory=dict)
    datatypes: Mapping[str, str] = field(default_factory=dict)
    batch: int | None = None
    optional: frozenset[str] = frozenset()
    faults: Mapping[str, ConfigurationError] = field(default_factory=dict)
    by_hand: frozenset[str] = frozenset()

    def require(self, key: str) -> None:
        """Raise the ConfigurationError of a key that is needed and was given wrongly."""
        if key in self.faults:
            raise self.faults[key]


def find_signature(path: Path | None, metadata: Mapping[str, str], given: Path | None = None) -> Signature:
    """Return the signature of the model at `path`; raise ConfigurationError that names the wrong file.

    `given` is a sidecar named by the user, which is read instead of one next to the model.
    """
    said = _from_metadata(metadata)
    if path is not None and (path.parent / "MLmodel").is_file():
        said |= mlflow.read(path.parent / "MLmodel")
    by_hand: Said = {}
    found = given or (None if path is None else _beside(path))
    if found is not None:
        by_hand = sidecar.read(found)
        if "classes" in by_hand:  # one key in two notations
            said.pop("class_names", None)
        said |= by_hand
    faults = {key: value for key, value in said.items() if isinstance(value, ConfigurationError)}
    fine = {key: value for key, value in said.items() if key not in faults}
    return Signature(**fine, faults=faults, by_hand=frozenset(by_hand))


def _beside(path: Path) -> Path | None:
    places = (path.with_suffix(".yaml"), path.with_suffix(".yml"), path.with_name(path.name + ".yaml"))
    return next((place for place in places if place.is_file()), None)


def _from_metadata(metadata: Mapping[str, str]) -> Said:
    said: Said = {}
    way_out = " (the key of a sidecar overrides it)"
    try:
        if "features" in metadata:
            said["features"] = names_in(metadata["features"], "the ONNX metadata's `features`")
    except ConfigurationError as error:
        said["features"] = ConfigurationError(f"{error}{way_out}")
    try:
        if "classes" in metadata:
            said["classes"], said["class_names"] = classes_in(metadata["classes"], "the ONNX metadata's `classes`")
    except ConfigurationError as error:
        said["classes"] = ConfigurationError(f"{error}{way_out}")
    if "positive" in metadata:
        said["positive"] = metadata["positive"]
    if metadata.get("task") in sidecar.TASKS:
        said["task"] = metadata["task"]
    return said
