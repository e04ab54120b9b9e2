"""Decision scores instead of probabilities are refused, with the sidecar's line that states what they are."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from onnx import TensorProto, helper
from sklearn.linear_model import Perceptron, RidgeClassifier, SGDClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import SVC, LinearSVC
from tests.support.exported_models import FEATURES, LATE, ROWS, X, exported, predictions
from tests.support.live_stream import save, write_sidecar
from tests.support.model_runners import load, outcomes

from gnomon_consumer.scorer.rehearsal.warm_up import check_warm_up
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.records import Failure, Prediction

THREE = np.array(["a", "b", "c"])[np.digitize(X[:, 0], [-0.5, 0.5])]
NAMES = ["wind", "slack"]


def refused_rows(path: Path) -> list[str]:
    found = outcomes(load(path, FEATURES), ROWS, FEATURES)
    failed = [one.message for one in found if isinstance(one, Failure) and one.kind == "model_error"]
    assert failed, found
    return failed


def lines(message: str) -> list[dict[str, Any]]:
    """Return the `outputs` of each sidecar that a refusal suggests."""
    found = [yaml.safe_load(one)["outputs"] for one in re.findall(r"`(outputs: \{.*?\})`", message)]
    assert found, message
    return found


@pytest.mark.parametrize("zipmap", [True, False, "columns"], ids=str)
@pytest.mark.parametrize(
    ("model", "target"),
    [
        (Perceptron(), LATE),
        (SGDClassifier(), LATE),
        (OneVsRestClassifier(LinearSVC()), LATE),
        (LinearSVC(), THREE),
        (RidgeClassifier(), THREE),
        (SVC(), THREE),
        (SVC(), LATE),
    ],
    ids=lambda one: type(one).__name__ if hasattr(one, "fit") else str(len(set(one))),
)
def test_class_scores_that_are_no_probabilities_are_refused_and_every_line_offered_is_taken(
    tmp_path: Path, model: Any, target: Any, zipmap: Any
) -> None:
    options = {} if isinstance(model, (LinearSVC, RidgeClassifier)) else {"zipmap": zipmap}  # these write no map
    path = exported(tmp_path / "m.onnx", model, target, **options)
    labels = [str(one) for one in model.predict(X[:5])]
    offered = {repr(line): line for message in refused_rows(path) for line in lines(message)}
    for line in offered.values():
        write_sidecar(path, features=NAMES, outputs=line)
        assert [one.label for one in predictions(path)] == labels
    assert any(set(map(str, line.values())) == {"None"} for line in offered.values())


def test_the_scores_of_an_svc_stand_in_reverse_and_the_line_offered_gives_its_decision_function(tmp_path: Path) -> None:
    model = SVC()
    path = exported(tmp_path / "m.onnx", model, LATE, zipmap=False)
    messages = refused_rows(path)
    assert len(messages) == len(ROWS)
    assert all("its scores are in reverse order" in one for one in messages)
    write_sidecar(path, features=NAMES, outputs=lines(messages[0])[0])
    assert [one.value for one in predictions(path)] == pytest.approx(model.decision_function(X[:5]).tolist(), abs=1e-4)
    # Even if a sidecar calls them scores, they are in reverse order.
    write_sidecar(path, features=NAMES, outputs={"probabilities": "scores"})
    assert all("its scores are in reverse order" in one for one in refused_rows(path))
    write_sidecar(path, features=NAMES, positive="late")
    write_sidecar(path, features=NAMES, positive="late", outputs=lines(refused_rows(path)[0])[0])
    # `positive` names the class whose score is the value; if a column is the value, it is not needed.
    late = [-one for one in model.decision_function(X[:5]).tolist()]
    assert [one.value for one in predictions(path)] == pytest.approx(late, abs=1e-4)


def test_decision_scores_that_a_sidecar_calls_scores_order_the_rows(tmp_path: Path) -> None:
    model = Perceptron()
    path = exported(tmp_path / "m.onnx", model, LATE, zipmap=False)
    write_sidecar(path, features=NAMES, outputs={"probabilities": "scores"})
    assert [one.value for one in predictions(path)] == pytest.approx(model.decision_function(X[:5]).tolist(), abs=1e-4)


def logits(path: Path, **said: Any) -> Path:
    """Return a model with two logits a row, like a network without its last softmax."""
    save(
        path,
        [helper.make_node("Identity", ["x"], ["logits"])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [None, 2])],
    )
    write_sidecar(path, features=NAMES, **said)
    return path


def test_logits_under_the_names_of_classes_are_refused(tmp_path: Path) -> None:
    path = logits(tmp_path / "m.onnx", classes=["on_time", "late"])
    assert "which is not a probability; a sidecar decides it: `outputs: {logits: scores}`" in refused_rows(path)[0]
    logits(path, classes=["on_time", "late"], outputs={"logits": "scores"})
    assert [one.value for one in predictions(path)] == pytest.approx(X[:5, 1].tolist(), abs=1e-6)
    logits(path, task="ranking", outputs={"logits": "scores"})
    assert predictions(path)[0].scores == pytest.approx(X[0].tolist(), abs=1e-6)


def test_a_probability_that_rounding_put_beyond_one_is_one(tmp_path: Path) -> None:
    path = logits(tmp_path / "m.onnx", classes=["on_time", "late"])
    found = outcomes(load(path, FEATURES), [{"wind": -2e-7, "slack": 1.0000002}, {"wind": 0.0, "slack": 1.2}], FEATURES)
    assert isinstance(found[0], Prediction)
    assert isinstance(found[1], Failure)


def answered(label: str, scores: list[float], items: tuple[str, ...] = ("no", "yes")) -> dict[str, Any]:
    return {"prediction": {"value": None, "label": label, "scores": scores, "items": list(items)}, "error": None}


def test_the_warm_up_refuses_a_model_of_which_one_row_is_undecided(tmp_path: Path) -> None:
    message = refused_rows(logits(tmp_path / "m.onnx", classes=["on_time", "late"]))[0]
    outcomes = [
        answered("no", [0.8, 0.2]),
        {"prediction": None, "error": {"kind": "model_error", "message": message}},
    ]
    with pytest.raises(ConfigurationError, match=r"scores is undecided: .*`outputs: \{logits: scores\}`"):
        check_warm_up(outcomes, made_up=True, allow_failing=False)
    check_warm_up(outcomes, made_up=True, allow_failing=True)


def test_the_warm_up_refuses_two_classes_in_reverse_order() -> None:
    outcomes = [answered("yes", [0.8, 0.2]), answered("no", [0.1, 0.9]), answered("no", [0.4, 0.6])]
    with pytest.raises(ConfigurationError, match=r"in 3 of 3 rows .* reverse `classes` in the sidecar"):
        check_warm_up(outcomes, made_up=False, allow_failing=False)
    check_warm_up(outcomes, made_up=False, allow_failing=True)


def test_a_decision_with_a_threshold_of_its_own_is_not_in_reverse() -> None:
    outcomes = [answered("yes", [0.8, 0.2]), answered("yes", [0.7, 0.3]), answered("no", [0.97, 0.03])]
    check_warm_up(outcomes, made_up=False, allow_failing=False)
    three = [answered("a", [0.1, 0.2, 0.7], ("a", "b", "c")), answered("c", [0.7, 0.2, 0.1], ("a", "b", "c"))]
    check_warm_up(three, made_up=False, allow_failing=False)
