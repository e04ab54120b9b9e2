"""Any sidecar, MLflow signature or model metadata is read, or refused with one of the product's errors."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gnomon_consumer.scorer.worker.models.reading import read_outputs
from gnomon_consumer.scorer.worker.models.signature import find_signature
from gnomon_consumer.scorer.worker.models.tensor import Tensor
from gnomon_consumer.scorer.worker.models.tensors import TensorModel
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.features import FeatureSchema

FEATURES = FeatureSchema.of({"a": ["null", "double"], "b": "long", "c": "string"}).features
INPUTS = [Tensor("x", "float32", (None, 2)), Tensor("c", object, (None, 1))]
OUTPUTS = [
    Tensor("label", "int64", (None,)),
    Tensor("probabilities", "float32", (None, 2)),
    Tensor("n", "int64", (None,)),
]
SIDECARS = (
    "inputs: {x: [a, b]}\nclasses: [no, yes]\npositive: yes\ntask: classification\nbatch: 8\n",
    "inputs: {x: [a, b], c: {features: c, datatype: BYTES}}\noutputs: {probabilities: scores, n: null}\n",
    "outputs: {probabilities: [value, null], n: ~}\ninputs: {x: [a, b]}\nmissing: {a: 0}\nclasses: {0: no, 1: yes}\n",
    "classes: \"['no', 'yes']\"\ninputs: {x: '[\"a\", \"b\"]'}\n# a comment\nname: x\nversion: 1.10\n",
)
MLMODELS = (
    'signature:\n  inputs: \'[{"name": "a", "type": "double", "required": false}, {"name": "b"}]\'\n',
    'flavors:\n  onnx: {data: model.onnx}\nsignature:\n  inputs: \'[{"type": "tensor", "name": "x"}]\'\n',
)
METADATA = ({"features": '["a", "b"]', "classes": "no,yes"}, {"classes": "{0: 'no', 1: 'yes'}", "positive": "yes"})
PIECES = (
    "[",
    "]",
    "{",
    "}",
    ":",
    ",",
    "'",
    '"',
    "\n",
    "&a ",
    "*a",
    "!!python/name:os.system ",
    "- ",
    "null",
    "~",
    "\0",
    "\ud800",
    "7",
    "1e999",
    "-1",
    "é",
    "---",
    "? ",
    "<<: ",
    "|",
    ">",
    "%",
    "@",
    "\t",
    "#",
    "True",
    "classes",
    "value",
)


def mutated(text: str, source: random.Random) -> str:
    for _ in range(source.randint(1, 6)):
        at = source.randint(0, len(text))
        kind = source.random()
        if kind < 0.4:
            text = text[:at] + source.choice(PIECES) + text[at:]
        elif kind < 0.7:
            text = text[:at] + text[at + source.randint(1, 8) :]
        elif kind < 0.85:
            other = source.randint(0, len(text))
            text = text[:at] + text[min(at, other) : max(at, other)] + text[at:]
        else:
            text = text[:at] + chr(source.choice([0, 10, 34, 39, 91, 123, 0x2028, 0xFEFF, 0x10FFFF])) + text[at + 1 :]
    return text


def attempt(folder: Path, sidecar: str, mlmodel: str, metadata: dict[str, str]) -> bool:
    """Return whether a model binds with all of this; any exception but our own refusal fails the test."""
    model = folder / "model.onnx"
    model.with_suffix(".yaml").write_bytes(sidecar.encode("utf-8", "surrogatepass"))
    (folder / "MLmodel").write_bytes(mlmodel.encode("utf-8", "surrogatepass"))
    try:
        said = find_signature(model, metadata)
        bound = TensorModel(INPUTS, OUTPUTS, said, FEATURES, own={"label": ("0", "1")})
        str(bound.reading)
        read_outputs(OUTPUTS, said, {}, None)
    except ConfigurationError:
        return False
    return True


def run(folder: Path, seeds: range) -> None:
    taken = 0
    for seed in seeds:
        source = random.Random(seed)
        what = source.randrange(3)
        sidecar, mlmodel, metadata = source.choice(SIDECARS), source.choice(MLMODELS), dict(source.choice(METADATA))
        if what == 0:
            sidecar = mutated(sidecar, source)
        elif what == 1:
            mlmodel = mutated(mlmodel, source)
        else:
            metadata = {
                mutated(key, source) if source.random() < 0.2 else key: mutated(value, source)
                for key, value in metadata.items()
            }
        try:
            taken += attempt(folder, sidecar, mlmodel, metadata)
        except Exception:
            print(f"seed {seed}")
            raise
    assert taken > len(seeds) // 10  # some mutations do no harm


@pytest.mark.parametrize("sidecar", SIDECARS, ids=range(len(SIDECARS)))
@pytest.mark.parametrize("mlmodel", MLMODELS, ids=["columns", "tensors"])
@pytest.mark.parametrize("metadata", METADATA, ids=["names", "Python"])
def test_the_seeds_are_taken(tmp_path: Path, sidecar: str, mlmodel: str, metadata: dict[str, str]) -> None:
    assert attempt(tmp_path, sidecar, mlmodel, metadata)


def test_mutations(tmp_path: Path) -> None:
    run(tmp_path, range(400))


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_ten_thousand_mutations(tmp_path: Path) -> None:
    run(tmp_path, range(1_000, 11_000))


TEXTS = st.text(max_size=12) | st.sampled_from(
    ["a", "b", "c", "x", "label", "probabilities", "value", "scores", "null", "0", "1"]
)
ANY = st.recursive(
    TEXTS | st.none() | st.integers() | st.floats() | st.booleans(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)
KEYS = st.sampled_from(["features", "inputs", "outputs", "classes", "positive", "task", "missing", "batch", "name"])


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sidecar=st.dictionaries(KEYS, ANY, max_size=5), signature=ANY, classes=ANY)
def test_well_formed_nonsense(tmp_path: Path, sidecar: dict[str, Any], signature: Any, classes: Any) -> None:
    mlmodel = json.dumps({"signature": {"inputs": json.dumps(signature)}})
    attempt(tmp_path, json.dumps(sidecar), mlmodel, {"classes": json.dumps(classes), "features": str(signature)})
