"""Sidecars, MLflow signatures and ONNX metadata as people and other tools write them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.support.live_stream import save, write_sidecar
from tests.support.model_runners import load, outcomes

from gnomon_consumer.scorer.worker import models
from gnomon_consumer.scorer.worker.models.names import classes_in
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.features import FeatureSchema
from gnomon_schemas.records import Failure, Prediction

FEATURES = FeatureSchema.of({"a": ["null", "double"], "b": "double"})


def total(folder: Path, **metadata: str) -> Path:
    """value = a + b."""
    return save(
        folder / "model.onnx",
        [helper.make_node("ReduceSum", ["x", "axis"], ["value"], keepdims=1)],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor("axis", TensorProto.INT64, [1], [1])],
        **metadata,
    )


def index_of_class(folder: Path, kind: int = TensorProto.INT64) -> Path:
    """label = 0 if b is below zero, else 1."""
    return save(
        folder / "churn.onnx",
        [helper.make_node("Greater", ["b", "zero"], ["is"]), helper.make_node("Cast", ["is"], ["label"], to=kind)],
        [helper.make_tensor_value_info("b", TensorProto.FLOAT, [None])],
        [helper.make_tensor_value_info("label", kind, [None])],
        [helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0])],
    )


def labels(path: Path) -> list[str | None]:
    found = outcomes(load(path, FEATURES), [{"a": 0.0, "b": -1.0}, {"a": 0.0, "b": 1.0}], FEATURES)
    return [one.label if isinstance(one, Prediction) else one.message for one in found]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("classes: [no, yes]", ["no", "yes"]),
        ("classes: [NO, SE]", ["NO", "SE"]),
        ("classes: [007, 010]", ["007", "010"]),
        ("classes: [1.0, 1.10]", ["1.0", "1.10"]),
        ("classes: [null, 2024-01-01]", ["null", "2024-01-01"]),
        ("classes: {0: no, 1: yes}", ["no", "yes"]),
        ("classes: {yes: 1, no: 0}", ["no", "yes"]),
        ('classes: \'["no", "yes"]\'', ["no", "yes"]),
        ("classes: \"['no', 'yes']\"", ["no", "yes"]),
        ("classes: \"{0: 'no', 1: 'yes'}\"", ["no", "yes"]),
        ('classes: \'{"0": "no", "1": "yes"}\'', ["no", "yes"]),
        ("classes: no, yes", ["no", "yes"]),
        ("classes: {0: 1, 1: 2}", ["1", "2"]),
        ("classes: []", ["0", "1"]),
        ("classes:", ["0", "1"]),
    ],
)
@pytest.mark.parametrize(
    "kind", [TensorProto.INT64, TensorProto.UINT16, TensorProto.BOOL], ids=["int64", "uint16", "bool"]
)
def test_classes_are_texts_as_they_are_written(tmp_path: Path, line: str, expected: list[str], kind: int) -> None:
    path = index_of_class(tmp_path, kind)
    path.with_suffix(".yaml").write_text(f"{line}\n")
    if kind == TensorProto.BOOL and expected == ["0", "1"]:
        expected = ["False", "True"]
    assert labels(path) == expected


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("classes: 2", "is a number; a list of names is needed"),
        ("classes: \"['no' 'yes']\"", "neither a JSON list nor names separated by commas"),
        ("classes: \"array(['no', 'yes'])\"", "neither a JSON list nor"),
        ("classes: [no, no]", "lists 'no' twice"),
        ("classes: [no, [yes]]", "is not a list of names"),
        ("classes: [1, 2]", "may be the model's own labels or the names of the indices"),
        ("classes: [no, yes]\nclasses: [yes, no]", "the key 'classes' occurs twice"),
        ("clases: [no, yes]", "unknown key 'clases' .did you mean 'classes'"),
        ("outputs: {label: lable}", "'lable', not one of value, label, scores or null"),
        ("task: regressoin", "not one of classification, regression, ranking"),
        ("batch: many", "not a number of rows"),
        ("- a list", "not a mapping"),
        ("a: [", "not YAML"),
        ("a: &a [*a]", "recursive node"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_key(tmp_path: Path, line: str, reason: str) -> None:
    path = index_of_class(tmp_path)
    path.with_suffix(".yaml").write_text(line)
    with pytest.raises(ConfigurationError, match=reason) as refusal:
        load(path, FEATURES)
    assert "classes" in reason or "churn" in str(refusal.value) or "model's own" in reason


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"positive": "yes"}, "says `positive`, but reads the value"),
        ({"task": "regression", "classes": ["no", "yes"]}, "says `classes`, but reads `task: regression`"),
        ({"task": "ranking"}, r"`task: ranking`, but no output is read as scores.*outputs: {value: scores}"),
        (
            {"inputs": {"x": {"features": ["a", "b"], "datatype": "FP64"}}},
            "'x' is FP64; of an ONNX file the file says it",
        ),
        ({"missing": {"c": "0"}}, "'c', which is not a feature of the model"),
        ({"inputs": {"y": ["a", "b"]}}, "the model has no input 'y'"),
        ({"features": ["a", "b", "c"]}, "takes 2 columns, but 3 features"),
        ({"features": ["a", "a"]}, "is given the feature 'a' twice"),
        ({"inputs": {"x": ["b", "b"]}}, "is given the feature 'b' twice"),
        ({"missing": {"a": "1e400"}}, "the default of 'a' is '1e400'"),
        ({"missing": {"a": "1_0"}}, "the default of 'a' is '1_0'"),
    ],
    ids=str,
)
def test_what_a_sidecar_says_and_the_model_does_not_have_is_refused(
    tmp_path: Path, said: dict[str, Any], reason: str
) -> None:
    path = total(tmp_path, features="a,b")
    write_sidecar(path, **said)
    with pytest.raises(ConfigurationError, match=reason):
        load(path, FEATURES)


def test_a_python_model_takes_no_sidecar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_model.py").write_text("def make():\n    return lambda columns: columns['b']\n")
    (tmp_path / "own.yaml").write_text("classes: [no, yes]\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match="a sidecar does not apply to a Python model"):
        models.describe("own_model:make", signature=str(tmp_path / "own.yaml"))


def test_a_label_that_is_no_class_is_that_rows_failure(tmp_path: Path) -> None:
    path = index_of_class(tmp_path)
    write_sidecar(path, classes={"0": "no"})
    assert labels(path) == ["no", "the model answered the label '1', which is not one of 0"]


@pytest.mark.parametrize(
    "said", [{"classes": '{"0": "no"}'}, {"classes": "2"}, {"features": "2"}, {"features": "[1"}], ids=str
)
def test_a_sidecar_wins_over_another_tools_metadata(tmp_path: Path, said: dict[str, str]) -> None:
    path = total(tmp_path, **said)
    write_sidecar(path, features=["a", "b"])
    assert outcomes(load(path, FEATURES), [{"a": 1.0, "b": 2.0}], FEATURES) == [Prediction(value=3.0)]


@pytest.mark.parametrize(
    "columns",
    [
        [{"name": "x", "type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 2]}}],
        [{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 2]}}],
        [{"name": "a", "type": "double", "required": True}, {"name": "b", "type": "double"}],
        [{"type": "double"}, {"type": "double"}],
    ],
    ids=str,
)
def test_mlflow_signatures(tmp_path: Path, columns: list[dict[str, Any]]) -> None:
    path = total(tmp_path, features="a,b")
    (tmp_path / "MLmodel").write_text(f"signature:\n  inputs: '{json.dumps(columns)}'\n")
    assert outcomes(load(path, FEATURES), [{"a": 1.0, "b": 2.0}], FEATURES) == [Prediction(value=3.0)]


def test_an_mlflow_folder_is_a_model(tmp_path: Path) -> None:
    total(tmp_path, features="a,b")
    (tmp_path / "MLmodel").write_text("flavors:\n  onnx:\n    data: model.onnx\n  python_function: {}\n")
    assert outcomes(load(tmp_path, FEATURES), [{"a": 1.0, "b": 2.0}], FEATURES) == [Prediction(value=3.0)]
    (tmp_path / "MLmodel").write_text("flavors:\n  onnx:\n    data: ../model.onnx\n")
    with pytest.raises(ConfigurationError, match="not a file in this folder"):
        load(tmp_path, FEATURES)
    (tmp_path / "MLmodel").write_text("flavors:\n  sklearn: {}\n")
    with pytest.raises(ConfigurationError, match=r"none of its flavors \(sklearn\) is one that can be run"):
        load(tmp_path, FEATURES)
    (tmp_path / "MLmodel").unlink()
    with pytest.raises(ConfigurationError, match="a folder without an MLmodel file"):
        load(tmp_path, FEATURES)


def test_an_optional_column_that_captures_lack_counts_as_null(tmp_path: Path) -> None:
    path = total(tmp_path)
    columns = [{"name": "b", "type": "double"}, {"name": "new", "type": "double", "required": False}]
    (tmp_path / "MLmodel").write_text(f"signature:\n  inputs: '{json.dumps(columns)}'\n")
    found = outcomes(load(path, FEATURES), [{"a": None, "b": 2.0}], FEATURES)[0]
    assert isinstance(found, Failure)  # the sum of a number and NaN
    write_sidecar(path, missing={"new": "4"})
    assert outcomes(load(path, FEATURES), [{"a": None, "b": 2.0}], FEATURES) == [Prediction(value=6.0)]


def test_a_default_stands_for_a_null_alone(tmp_path: Path) -> None:
    path = total(tmp_path)
    write_sidecar(path, features=["a", "b"], missing={"a": "-1"})
    rows: list[dict[str, Any]] = [{"a": None, "b": 2.0}, {"a": 5.0, "b": 2.0}, {"a": float("nan"), "b": 2.0}]
    found = outcomes(load(path, FEATURES), rows, FEATURES)
    assert found[:2] == [Prediction(value=1.0), Prediction(value=7.0)]
    assert isinstance(found[2], Failure)
    write_sidecar(path, features=["a", "b"], missing={"a": "1e40"})
    with pytest.raises(ConfigurationError, match="'1e40', which is not float32"):
        load(path, FEATURES)


def test_an_embedding_and_numbers_in_one_tensor(tmp_path: Path) -> None:
    features = FeatureSchema.of({"embedding": {"type": "array", "items": "float"}, "b": "double"})
    path = total(tmp_path)
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 3
    path.write_bytes(model.SerializeToString())
    write_sidecar(path, features=["embedding", "b"])
    rows: list[dict[str, Any]] = [{"embedding": [1.0, 2.0], "b": 4.0}, {"embedding": [1.0], "b": 4.0}]
    found = outcomes(load(path, features), rows, features)
    assert found[0] == Prediction(value=7.0)
    assert isinstance(found[1], Failure)
    assert found[1].message == "the feature 'embedding' has 1 numbers; 2 needed"


@pytest.mark.parametrize(
    ("outputs", "reason"),
    [
        (
            {"mean": [None, 1], "deviation": [None, 1]},
            "which output of the model is the value: 'mean' .* or 'deviation'",
        ),
        ({"probabilities": [None, 3], "raw": [None, 3], "label": [None]}, None),
        (
            {"logits": [None, 3], "hidden": [None, 3]},
            "which output of the model is the scores: 'logits' .* or 'hidden'",
        ),
        (
            {"score": [None, 1], "pred": [None]},
            "which output of the model is a label or a value: 'pred' .*`outputs: {pred: label}`",
        ),
        ({"count": [None]}, "which output of the model is a label or a value: 'count'"),
    ],
    ids=str,
)
def test_two_outputs_for_one_role_are_refused_with_the_line_that_decides_it(
    tmp_path: Path, outputs: dict[str, list[int | None]], reason: str | None
) -> None:
    nodes, described = [], []
    for name, shape in outputs.items():
        kind = TensorProto.INT64 if name in ("label", "pred", "count") else TensorProto.FLOAT
        wide = ["x"] * 3 if shape[-1] == 3 else ["x"]
        nodes.append(helper.make_node("Concat", wide, [f"{name}_x"], axis=1))
        nodes.append(helper.make_node("Cast", [f"{name}_x"], [f"{name}_c"], to=kind))
        last = ("Identity", [f"{name}_c"]) if len(shape) == 2 else ("Squeeze", [f"{name}_c", "axis"])
        nodes.append(helper.make_node(*last, [name]))
        described.append(helper.make_tensor_value_info(name, kind, shape))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1])],
        described,
        [helper.make_tensor("axis", TensorProto.INT64, [1], [1])],
    )
    path = tmp_path / "m.onnx"
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
    )
    write_sidecar(path, features=["b"])
    if reason is None:
        assert load(path, FEATURES).reading.endswith("not read: raw")
        return
    with pytest.raises(ConfigurationError, match=reason):
        load(path, FEATURES)
    others = dict.fromkeys(list(outputs)[1:])
    write_sidecar(path, features=["b"], outputs={next(iter(outputs)): "value"} | others, task="regression")
    if next(iter(outputs.values()))[-1] != 3:
        assert outcomes(load(path, FEATURES), [{"a": None, "b": 2.0}], FEATURES)[0] == Prediction(value=2.0)


def test_tensors_in_the_models_own_folder_are_under_its_hash(tmp_path: Path) -> None:
    path = save(
        tmp_path / "model.onnx",
        [helper.make_node("MatMul", ["x", "ones"], ["value"])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, [None, 1])],
        [numpy_helper.from_array(np.ones((2, 1), np.float32), "ones")],
        features="a,b",
    )
    model = onnx.load(path)
    onnx.save_model(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert outcomes(load(path, FEATURES), [{"a": 1.0, "b": 2.0}], FEATURES) == [Prediction(value=3.0)]
    spec = models.describe(str(path))
    (tmp_path / "weights.bin").write_bytes((tmp_path / "weights.bin").read_bytes() + b"\0")
    assert models.describe(str(path)).sha256 != spec.sha256
    with pytest.raises(ConfigurationError, match="the file was changed"):
        models.load(spec, FEATURES.features, tmp_path)
    (tmp_path / "weights.bin").rename(tmp_path / "elsewhere.bin")
    with pytest.raises(ConfigurationError, match=r"'weights\.bin', which is not a file in the model's own folder"):
        load(path, FEATURES)


@pytest.mark.parametrize("text", ['{"0": "no", "0": "yes"}', "{0: 'no', 0: 'yes'}"])
def test_a_class_that_another_tool_names_twice_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="has a key twice"):
        classes_in(text, "the ONNX metadata's `classes`")
