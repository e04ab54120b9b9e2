"""ONNX models as people export them: inputs, outputs, the order of features, and refused models."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper
from tests.support.live_stream import save, scalar, sum_model, write_sidecar
from tests.support.model_runners import load, outcomes, predict

from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.features import FeatureSchema
from gnomon_schemas.records import Failure, Prediction

ROWS: list[dict[str, Any]] = [
    {"amount": 1.5, "age": 40.0, "visits": 3, "country": "NZ"},
    {"amount": -2.0, "age": None, "visits": 0, "country": ""},
    {"amount": float("inf"), "age": 1.0, "visits": 2**31 - 1, "country": "Ö"},
]


def classifier(path: Path, labels: list[Any], zipmap: bool, **metadata: str) -> Path:
    kind = "classlabels_strings" if isinstance(labels[0], str) else "classlabels_ints"
    count = len(labels)
    told: dict[str, Any] = {kind: labels}
    nodes = [
        helper.make_node(
            "LinearClassifier",
            ["x"],
            ["label", "raw"],
            domain="ai.onnx.ml",
            coefficients=[float(i) for i in range(2 * count)],
            intercepts=[0.0] * count,
            post_transform="SOFTMAX",
            multi_class=0,
            **told,
        )
    ]
    label = TensorProto.STRING if isinstance(labels[0], str) else TensorProto.INT64
    outputs = [helper.make_tensor_value_info("label", label, [None])]
    if zipmap:
        told = {kind.replace("ints", "int64s"): labels}
        nodes.append(helper.make_node("ZipMap", ["raw"], ["scores"], domain="ai.onnx.ml", **told))
        key = onnx.TypeProto.Map()
        key.key_type = label
        key.value_type.tensor_type.elem_type = TensorProto.FLOAT
        value = onnx.ValueInfoProto(name="scores")
        value.type.sequence_type.elem_type.map_type.CopyFrom(key)
        outputs.append(value)
    else:
        nodes.append(helper.make_node("Identity", ["raw"], ["scores"]))
        outputs.append(helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, count]))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])]
    return save(path, nodes, inputs, outputs, **({"features": "amount,age"} | metadata))


@pytest.mark.parametrize("zipmap", [True, False], ids=["zipmap", "tensor"])
@pytest.mark.parametrize("classes", [["no", "yes"], [0, 1], ["red", "green", "blue"], [0, 1, 2]], ids=str)
def test_classifiers(tmp_path: Path, classes: list[str] | list[int], zipmap: bool) -> None:
    names = [str(one) for one in classes]
    path = classifier(tmp_path / "c.onnx", classes, zipmap, classes=json.dumps(names))
    found = outcomes(load(path), [{"amount": 0.1, "age": 0.2}])[0]
    assert isinstance(found, Prediction)
    assert found.scores is not None
    assert found.items is not None
    assert sorted(found.items) == sorted(names)
    by_name = dict(zip(found.items, found.scores, strict=True))
    assert sum(found.scores) == pytest.approx(1.0)
    assert found.label == max(by_name, key=by_name.__getitem__)
    assert found.value == (by_name[names[1]] if len(names) == 2 else None)


def sequence(path: Path, width: int, **metadata: str) -> Path:
    """Return a model that answers a sequence: the features of each capture as a separate tensor."""
    shape = [None, width]
    return save(
        path,
        [helper.make_node("SplitToSequence", ["x"], ["out"], axis=0, keepdims=0)],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_sequence_value_info("out", TensorProto.FLOAT, None)],
        **metadata,
    )


def test_sequences_of_tensors(tmp_path: Path) -> None:
    rows = [{"amount": 1.0, "age": 2.0}, {"amount": 3.0, "age": 4.0}]
    one = sequence(tmp_path / "value.onnx", 1, features="age")
    with pytest.raises(ConfigurationError, match="say in a sidecar what they are"):
        load(one)
    write_sidecar(one, outputs={"out": "value"})
    values = load(one)
    assert outcomes(values, rows) == [Prediction(value=2.0), Prediction(value=4.0)]
    ranked = sequence(tmp_path / "ranked.onnx", 2, features="amount,age")
    write_sidecar(ranked, task="ranking", classes=["a", "b"], outputs={"out": "scores"}, features=["amount", "age"])
    expected = [Prediction(scores=[1.0, 2.0], items=["a", "b"]), Prediction(scores=[3.0, 4.0], items=["a", "b"])]
    assert outcomes(load(ranked), rows) == expected
    wide_model = sequence(tmp_path / "wide.onnx", 2, features="amount,age")
    write_sidecar(wide_model, outputs={"out": "value"})
    wide = load(wide_model)
    with pytest.raises(ValueError, match="'out' has 2 values for a capture; one is needed"):
        predict(wide, rows)


def test_the_positive_class_can_be_named(tmp_path: Path) -> None:
    path = classifier(tmp_path / "c.onnx", ["late", "on_time"], True, positive="late")
    found = outcomes(load(path), [{"amount": 0.1, "age": 0.2}])[0]
    assert isinstance(found, Prediction)
    assert found.scores is not None
    assert found.value == found.scores[0]


def test_strings_integers_and_booleans_go_in(tmp_path: Path) -> None:
    features = FeatureSchema.of({"country": ["null", "string"], "visits": "long", "known": "boolean"})
    nodes = [
        helper.make_node(
            "LabelEncoder",
            ["country"],
            ["code"],
            domain="ai.onnx.ml",
            keys_strings=["NZ", "AU"],
            values_floats=[1.0, 2.0],
            default_float=-1.0,
        ),
        helper.make_node("Cast", ["visits"], ["v"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["known"], ["k"], to=TensorProto.FLOAT),
        helper.make_node("Sum", ["code", "v", "k"], ["value"]),
    ]
    inputs = [
        scalar("country", TensorProto.STRING),
        scalar("visits", TensorProto.INT32),
        scalar("known", TensorProto.BOOL),
    ]
    outputs = [helper.make_tensor_value_info("value", TensorProto.FLOAT, [None, 1])]
    runner = load(save(tmp_path / "m.onnx", nodes, inputs, outputs), features)
    rows: list[dict[str, Any]] = [
        {"country": "AU", "visits": 10, "known": True},
        {"country": "??", "visits": 1, "known": False},
        {"country": None, "visits": 1, "known": False},
        {"country": "NZ", "visits": 2**40, "known": False},
    ]
    found = outcomes(runner, rows, features)
    assert found[:2] == [Prediction(value=13.0), Prediction(value=0.0)]
    assert isinstance(found[2], Failure)
    assert (found[2].kind, "'country'" in found[2].message) == ("invalid_features", True)
    assert isinstance(found[3], Failure)
    assert (found[3].kind, "'visits'" in found[3].message) == ("invalid_features", True)


def test_array_features_and_ranking(tmp_path: Path) -> None:
    features = FeatureSchema.of({"embedding": {"type": "array", "items": "float"}})
    nodes = [helper.make_node("Identity", ["embedding"], ["scores"])]
    shape = [None, 3]
    path = save(
        tmp_path / "rank.onnx",
        nodes,
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, shape)],
    )
    write_sidecar(path, task="ranking", classes=["a", "b", "c"], outputs={"scores": "scores"})
    runner = load(path, features)
    rows: list[dict[str, Any]] = [{"embedding": [3.0, 1.0, 2.0]}, {"embedding": [1.0]}]
    found = outcomes(runner, rows, features)
    assert found[0] == Prediction(scores=[3.0, 1.0, 2.0], items=["a", "b", "c"])
    assert isinstance(found[1], Failure)
    assert "'embedding' has 1 numbers; 3 needed" in found[1].message


def test_order_of_features_comes_from_sidecar_mlflow_or_metadata(tmp_path: Path) -> None:
    def model(folder: Path, **metadata: str) -> Path:
        folder.mkdir()
        axis = helper.make_tensor("i", TensorProto.INT64, [1], [0])
        nodes = [helper.make_node("Gather", ["x", "i"], ["value"], axis=1)]
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])]
        outputs = [helper.make_tensor_value_info("value", TensorProto.FLOAT, [None, 1])]
        return save(folder / "model.onnx", nodes, inputs, outputs, initializers=[axis], **metadata)

    row = [{"amount": 1.0, "age": 2.0}]
    metadata = model(tmp_path / "a", features="age, amount")
    assert outcomes(load(metadata), row) == [Prediction(value=2.0)]
    mlflow = model(tmp_path / "b", features="age, amount")
    columns_ = json.dumps([{"name": "amount", "type": "double"}, {"name": "age", "type": "double"}])
    (mlflow.parent / "MLmodel").write_text(f"signature:\n  inputs: '{columns_}'\n")
    assert outcomes(load(mlflow), row) == [Prediction(value=1.0)]
    sidecar = model(tmp_path / "c", features="amount, age")
    write_sidecar(sidecar, features=["age", "amount"])
    assert outcomes(load(sidecar), row) == [Prediction(value=2.0)]
    elsewhere = tmp_path / "signature.yaml"
    elsewhere.write_text("features: [amount, age]\n")
    assert outcomes(load(sidecar, signature=str(elsewhere)), row) == [Prediction(value=1.0)]
    with pytest.raises(ConfigurationError, match="nothing says which feature goes where"):
        load(model(tmp_path / "d"))
    write_sidecar(sidecar, featrues=["age"])
    with pytest.raises(ConfigurationError, match="unknown key 'featrues'"):
        load(sidecar)


def test_wrong_shapes_name_the_output(tmp_path: Path) -> None:
    nodes = [helper.make_node("ReduceSum", ["amount"], ["value"], keepdims=1)]
    path = save(
        tmp_path / "collapsed.onnx",
        nodes,
        [scalar("amount")],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, [None, 1])],
    )
    with pytest.raises(ValueError, match=r"'value' has the shape \[1, 1\] for 3 captures"):
        predict(load(path), ROWS)


# --- refused models ---------------------------------------------------------------------------------------------------


def test_foreign_operators_and_external_data_are_refused(tmp_path: Path) -> None:
    path = sum_model(tmp_path / "m.onnx", "amount", "age")
    model = onnx.load(path)
    model.graph.node[0].domain = "com.example"
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ConfigurationError, match=r"'com\.example\.Sum' is not one of the ONNX standard's"):
        load(path)

    path = sum_model(tmp_path / "n.onnx", "amount", "age")
    model = onnx.load(path)
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [1], [0.0])
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    model.graph.initializer.append(tensor)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ConfigurationError, match="'/etc/passwd', which is not a file in the model's own folder"):
        load(path)


def test_operators_are_looked_for_in_subgraphs(tmp_path: Path) -> None:
    out = helper.make_tensor_value_info("r", TensorProto.FLOAT, None)
    bad = helper.make_graph([helper.make_node("Evil", [], ["r"], domain="x")], "then", [], [out])
    fine = helper.make_graph([helper.make_node("Constant", [], ["r"], value_float=1.0)], "else", [], [out])
    node = helper.make_node("If", ["c"], ["value"], then_branch=bad, else_branch=fine)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("c", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("value", 1, None)],
    )
    path = tmp_path / "m.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    with pytest.raises(ConfigurationError, match=r"'x\.Evil'"):
        load(path)


@pytest.mark.parametrize("content", [b"", b"no model", b"\x00" * 100, b"\x08\x07\x12"], ids=repr)
def test_what_is_no_onnx_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="not an ONNX file"):
        load(path)


def test_an_unknown_provider_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"'CUDAExecutionProvider' is not available \(available: .*CPU"):
        load(sum_model(tmp_path / "m.onnx", "amount"), provider="CUDAExecutionProvider")


def test_onnx_runtime_neither_reports_its_use_nor_warns_about_it(tmp_path: Path) -> None:
    """In a separate process without a home folder, because the setting must exist before the library is loaded."""
    model = sum_model(tmp_path / "m.onnx", "amount")
    code = (
        "import sys; from pathlib import Path; from gnomon_consumer.scorer.worker import models;"
        " from gnomon_schemas.features import Feature;"
        " spec = models.describe(sys.argv[1]); models.load(spec, [Feature('amount', 'double', False)], Path('.'))"
    )
    environment = {"PATH": os.environ["PATH"], "HOME": "/proc/nowhere", "XDG_CACHE_HOME": "/proc/nowhere"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(model)], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
