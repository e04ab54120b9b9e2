"""Models as scikit-learn's converter writes them: what is read as value, label and scores, or why they are refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    GradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.linear_model import BayesianRidge, LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, LocalOutlierFactor
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC, OneClassSVM
from sklearn.tree import DecisionTreeClassifier
from tests.support.exported_models import FEATURES, LATE, ROWS, X, exported, predictions
from tests.support.live_stream import write_sidecar
from tests.support.model_runners import load, outcomes

from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.records import Prediction
from gnomon_schemas.texts import text_of


@pytest.mark.parametrize("zipmap", [True, False, "columns"], ids=str)
@pytest.mark.parametrize("target", [LATE, (LATE == "late").astype(int)], ids=["texts", "integers"])
@pytest.mark.parametrize(
    "model",
    [
        LogisticRegression(),
        make_pipeline(StandardScaler(), LogisticRegression()),
        GaussianNB(),
        RandomForestClassifier(5),
    ],
    ids=["linear", "pipeline", "bayes", "forest"],
)
def test_a_classifiers_own_labels_name_its_scores(tmp_path: Path, model: Any, target: Any, zipmap: Any) -> None:
    found = predictions(exported(tmp_path / "m.onnx", model, target, zipmap=zipmap))
    classes = [str(one) for one in model.classes_]
    for one, label, scores in zip(found, model.predict(X[:5]), model.predict_proba(X[:5]), strict=True):
        assert (one.label, one.items) == (str(label), classes)
        assert one.scores == pytest.approx(scores.tolist(), abs=1e-5)
        assert one.value == pytest.approx(scores[1], abs=1e-5)


@pytest.mark.parametrize("model", [IsolationForest(n_estimators=5), OneClassSVM(), LocalOutlierFactor(novelty=True)])
def test_an_anomaly_detectors_score_is_the_value_and_its_label_the_label(tmp_path: Path, model: Any) -> None:
    path = exported(tmp_path / "m.onnx", model)
    found = predictions(path)
    assert [one.label for one in found] == [str(one) for one in model.predict(X[:5])]
    expected = model.decision_function(X[:5]).reshape(-1)
    assert [one.value for one in found] == pytest.approx(expected.tolist(), abs=1e-4)
    write_sidecar(path, features=["wind", "slack"], classes={"-1": "strange", "1": "usual"})
    assert {one.label for one in predictions(path)} <= {"strange", "usual"}


def test_several_targets_of_a_regression_are_refused_at_start_until_one_is_named(tmp_path: Path) -> None:
    path = exported(tmp_path / "m.onnx", LinearRegression(), X.astype(float) * 2.0)
    runner = load(path, FEATURES)
    assert runner.doubt is not None
    assert "`outputs: {variable: [value, null]}`" in runner.doubt
    assert predictions(path)[0].value is None
    write_sidecar(path, features=["wind", "slack"], outputs={"variable": [None, "value"]})
    assert predictions(path)[0].value == pytest.approx(2.0 * X[0, 1], abs=1e-4)
    assert load(path, FEATURES).doubt is None


def test_distances_to_clusters_make_no_value(tmp_path: Path) -> None:
    found = predictions(exported(tmp_path / "m.onnx", KMeans(2, n_init=1)))
    assert found[0].label in ("0", "1")
    assert found[0].value is None


def test_one_decision_score_that_was_declared_as_two_is_the_value(tmp_path: Path) -> None:
    model = RidgeClassifier()
    found = predictions(exported(tmp_path / "m.onnx", model, LATE))
    assert [one.value for one in found] == pytest.approx(model.decision_function(X[:5]).tolist(), abs=1e-4)
    assert (found[0].label, found[0].scores) == (str(model.predict(X[:1])[0]), None)


def test_the_output_with_the_models_classes_is_the_label_whatever_stands_next_to_it(tmp_path: Path) -> None:
    options = {"zipmap": False, "decision_path": True, "decision_leaf": True}
    model = DecisionTreeClassifier(max_depth=2)
    path = exported(tmp_path / "m.onnx", model, LATE, **options)
    assert [one.label for one in predictions(path)] == model.predict(X[:5]).tolist()
    assert "not read: decision_path, decision_leaf" in load(path, FEATURES).reading


def test_the_list_of_class_labels_as_an_output_is_not_a_row(tmp_path: Path) -> None:
    path = exported(tmp_path / "m.onnx", LogisticRegression(), LATE, zipmap=False, output_class_labels=True)
    assert predictions(path)[0].items == ["late", "on_time"]


def test_labels_of_several_targets_are_refused(tmp_path: Path) -> None:
    target = np.stack([LATE == "late", X[:, 1] > 0], axis=1).astype(int)
    path = exported(tmp_path / "m.onnx", MultiOutputClassifier(LogisticRegression()), target, zipmap=False)
    with pytest.raises(ConfigurationError, match="no output that is clearly a value, a label or scores"):
        load(path, FEATURES)


@pytest.mark.parametrize("zipmap", [True, False])
def test_scores_next_to_several_labels_a_row_are_no_classes(tmp_path: Path, zipmap: bool) -> None:
    """Of two independent targets, ZipMap writes maps from 0 and 1 to a score, as if they were classes."""
    target = np.stack([LATE == "late", X[:, 1] > 0], axis=1).astype(int)
    path = exported(tmp_path / "m.onnx", OneVsRestClassifier(LogisticRegression()), target, zipmap=zipmap)
    with pytest.raises(ConfigurationError, match="seems to hold several labels of a row"):
        load(path, FEATURES)


def test_a_label_of_a_shape_that_cannot_be_read_is_given_up_only_by_a_sidecar(tmp_path: Path) -> None:
    """Its converter writes the labels of all rows into one row."""
    model = QuadraticDiscriminantAnalysis()
    path = exported(tmp_path / "m.onnx", model, LATE)
    with pytest.raises(ConfigurationError, match=r"say `outputs: \{output_label: null\}` in a sidecar"):
        load(path, FEATURES)
    write_sidecar(path, features=["wind", "slack"], outputs={"output_label": None})
    assert [one.value for one in predictions(path)] == pytest.approx(model.predict_proba(X[:5])[:, 1], abs=1e-5)


@pytest.mark.parametrize("zipmap", [True, False, "columns"], ids=str)
@pytest.mark.parametrize("classes", [(0.0, 1.0), (-1, 1), (3, 7), (False, True), ("10", "2"), ("i1", "no")], ids=str)
def test_classes_that_people_have(tmp_path: Path, classes: tuple[Any, Any], zipmap: Any) -> None:
    """Booleans are whole numbers in an ONNX file."""
    model, target = GaussianNB(), np.where(LATE == "late", classes[1], classes[0])
    found = predictions(exported(tmp_path / "m.onnx", model, target, zipmap=zipmap))
    names = [text_of("class", int(one) if isinstance(one, bool) else one) for one in classes]
    for one, place, scores in zip(found, model.predict(X[:5]), model.predict_proba(X[:5]), strict=True):
        assert one.items == names
        assert one.label == names[classes.index(place)]
        assert one.scores == pytest.approx(scores.tolist(), abs=1e-5)
        assert one.value == pytest.approx(scores[1], abs=1e-5)


PIPELINES = {
    "calibrated": CalibratedClassifierCV(LinearSVC()),
    "one against rest": OneVsRestClassifier(LogisticRegression()),
    "neighbours": KNeighborsClassifier(),
    "network": MLPClassifier(4, max_iter=40),
    "stacked": StackingClassifier([("a", LogisticRegression()), ("b", GaussianNB())]),
    "boosted": GradientBoostingClassifier(n_estimators=4),
    "AdaBoost": AdaBoostClassifier(n_estimators=4),
    "bagged": BaggingClassifier(LogisticRegression(), n_estimators=3),
    "votes": VotingClassifier(
        [("a", LogisticRegression()), ("b", GaussianNB())], voting="soft", flatten_transform=False
    ),
    "support vectors": SVC(probability=True),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model", PIPELINES.values(), ids=list(PIPELINES))
@pytest.mark.parametrize("count", [2, 3])
def test_classifiers_of_other_kinds(tmp_path: Path, model: Any, count: int) -> None:
    target = LATE if count == 2 else np.digitize(X[:, 0], [-0.5, 0.5])
    path = exported(tmp_path / "m.onnx", model, target)
    found, runner = predictions(path), load(path, FEATURES)
    for row, one, label, scores in zip(ROWS, found, model.predict(X[:5]), model.predict_proba(X[:5]), strict=True):
        assert (one.label, one.items) == (str(label), [str(name) for name in model.classes_])
        assert one.scores == pytest.approx(scores.tolist(), abs=1e-4)
        assert one.value == (pytest.approx(scores[1], abs=1e-4) if count == 2 else None)
        (alone,) = outcomes(runner, [row], FEATURES)
        assert isinstance(alone, Prediction)
        assert alone.label == one.label
        assert alone.scores == pytest.approx(one.scores, abs=1e-6)


def test_a_forest_of_several_targets_that_is_declared_as_one_fails_with_the_line_that_decides(tmp_path: Path) -> None:
    model = RandomForestRegressor(3)
    path = exported(tmp_path / "m.onnx", model, X.astype(float))
    with pytest.raises(ValueError, match=r"or `outputs: \{variable: \[value, null\]\}`"):
        outcomes(load(path, FEATURES), ROWS, FEATURES)
    write_sidecar(path, features=["wind", "slack"], outputs={"variable": [None, "value"]})
    assert [one.value for one in predictions(path)] == pytest.approx(model.predict(X[:5])[:, 1], abs=1e-5)


@pytest.mark.parametrize("model", [BayesianRidge(), GaussianProcessRegressor()], ids=["ridge", "process"])
def test_a_regression_with_its_standard_error_is_refused_until_one_is_named(tmp_path: Path, model: Any) -> None:
    path = exported(tmp_path / "m.onnx", model, X[:, 0] * 3.0, return_std=True)
    with pytest.raises(ConfigurationError, match="which output of the model is the value"):
        load(path, FEATURES)


def test_what_is_read_is_said(tmp_path: Path) -> None:
    path = exported(tmp_path / "m.onnx", LogisticRegression(), LATE, zipmap=False)
    expected = (
        "value: the score of 'on_time'; label: output 'label';"
        " scores: output 'probabilities' over the classes late, on_time"
    )
    assert load(path, FEATURES).reading == expected
    write_sidecar(path, features=["wind", "slack"], positive="late")
    assert load(path, FEATURES).reading.startswith("value: the score of 'late'")
    write_sidecar(path, features=["wind", "slack"], outputs={"probabilities": None})
    assert load(path, FEATURES).reading == "value: none; label: output 'label'; scores: none; not read: probabilities"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"classes": ["no", "yes", "maybe"]}, "lists 3 names; the model has 2 classes: late, on_time"),
        ({"classes": ["no", "yes"]}, "the model's own classes are late, on_time"),
        ({"positive": "lte"}, "`positive: lte` is not one of the classes: late, on_time"),
        ({"outputs": {"probabilites": "scores"}}, "has no output 'probabilites' .did you mean 'probabilities'"),
        ({"inputs": {"x": ["wind", "slack"]}}, "has no input 'x'"),
        ({"features": ["wind", "slak"]}, "needs the feature 'slak', which the captures do not have"),
        ({"missing": {"wnd": "0"}}, "'wnd', which is not a feature of the model .did you mean 'wind'"),
        ({"missing": {"wind": "none"}}, "the default of 'wind' is 'none', which is not float32"),
    ],
    ids=str,
)
def test_names_that_the_model_does_not_know_are_refused(tmp_path: Path, said: dict[str, Any], reason: str) -> None:
    path = exported(tmp_path / "m.onnx", LogisticRegression(), LATE, zipmap=False)
    write_sidecar(path, **({"features": ["wind", "slack"]} | said))
    with pytest.raises(ConfigurationError, match=reason):
        load(path, FEATURES)
