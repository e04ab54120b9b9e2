"""Files of XGBoost and LightGBM, native and through the ONNX converters, answer as the library itself."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.live_stream import write_sidecar
from tests.support.model_runners import load, outcomes

from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.features import FeatureSchema
from gnomon_schemas.records import Prediction

xgboost: Any = pytest.importorskip("xgboost", reason="a test dependency, left out of a light environment")
lightgbm: Any = pytest.importorskip("lightgbm", reason="a test dependency, left out of a light environment")

FEATURES = FeatureSchema.of({"wind": ["null", "double"], "slack": "double", "seats": "long"})
X = np.random.default_rng(2).normal(size=(300, 3)).astype(np.float32)
X[:, 2] = np.round(10 * X[:, 2])
BINARY = (X[:, 0] + X[:, 1] > 0).astype(int)
THREE = np.digitize(X[:, 0], [-0.5, 0.5])
NUMBER = 2.0 * X[:, 0] + X[:, 1]
ROWS: list[dict[str, Any]] = [{"wind": float(a), "slack": float(b), "seats": int(c)} for a, b, c in X[:6]]
NAMES = ["wind", "slack", "seats"]
OBJECTIVES = {
    "xgboost": ("binary:logistic", "multi:softmax", "multi:softprob", "reg:squarederror", "count:poisson"),
    "lightgbm": ("binary", "multiclass", "regression", "poisson"),
}


def target(objective: str) -> Any:
    if objective.startswith("binary"):
        return BINARY
    return THREE if objective.startswith("multi") else np.abs(NUMBER)


def trained(library: str, objective: str, folder: Path, names: list[str] | None = NAMES) -> tuple[str, Any]:
    """Return the location of a model file, and the library's own predictions of the first rows."""
    classes = {"num_class": 3} if objective.startswith("multi") else {}
    if library == "xgboost":
        data = xgboost.DMatrix(X, label=target(objective), feature_names=names)
        booster = xgboost.train({"objective": objective, "max_depth": 3, **classes}, data, 5)
        path = folder / "model.ubj"
        booster.save_model(path)
        return f"xgboost:{path}", booster.predict(xgboost.DMatrix(X[:6], feature_names=names))
    sets = lightgbm.Dataset(X, label=target(objective), feature_name=names or "auto")
    booster = lightgbm.train({"objective": objective, "verbosity": -1, **classes}, sets, 5)
    path = folder / "model.txt"
    booster.save_model(path)
    return f"lightgbm:{path}", booster.predict(X[:6])


@pytest.mark.parametrize(
    ("library", "objective"), [(library, one) for library, several in OBJECTIVES.items() for one in several]
)
def test_native_files(tmp_path: Path, library: str, objective: str) -> None:
    location, expected = trained(library, objective, tmp_path)
    runner = load(location, FEATURES)
    found = outcomes(runner, ROWS, FEATURES)
    for row, one in enumerate(found):
        assert isinstance(one, Prediction)
        if objective == "multi:softmax":
            assert one.label == str(int(expected[row]))
            assert one.scores is not None
            assert sum(one.scores) == pytest.approx(1.0, abs=1e-5)
        elif objective.startswith("multi"):
            assert one.scores == pytest.approx(expected[row].tolist(), abs=1e-6)
            assert (one.items, one.value) == (["0", "1", "2"], None)
        else:
            assert one.value == pytest.approx(float(expected[row]), abs=1e-6)
            assert one.label == (str(int(expected[row] > 0.5)) if objective.startswith("binary") else None)


@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
def test_features_are_bound_by_name_and_classes_named_by_a_sidecar(tmp_path: Path, library: str) -> None:
    location, expected = trained(library, OBJECTIVES[library][0], tmp_path)
    turned = FeatureSchema.of({"seats": "long", "slack": "double", "wind": ["null", "double"], "other": "string"})
    write_sidecar(Path(location.partition(":")[2]), classes=["on_time", "late"], positive="late")
    runner = load(location, turned)
    assert "value: the probability of 'late'" in runner.reading
    found = outcomes(runner, [row | {"other": "x"} for row in ROWS], turned)
    assert [one.value for one in found if isinstance(one, Prediction)] == pytest.approx(expected.tolist(), abs=1e-6)
    assert {one.label for one in found if isinstance(one, Prediction)} <= {"on_time", "late"}
    with pytest.raises(ConfigurationError, match="needs the feature 'wind', which the captures do not have"):
        load(location, FeatureSchema.of({"slack": "double", "seats": "long"}))


@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
def test_a_file_without_names_needs_their_order(tmp_path: Path, library: str) -> None:
    location, expected = trained(library, OBJECTIVES[library][0], tmp_path, None)
    with pytest.raises(ConfigurationError, match="does not name its features: list them under `features`"):
        load(location, FEATURES)
    write_sidecar(Path(location.partition(":")[2]), features=NAMES)
    found = outcomes(load(location, FEATURES), ROWS, FEATURES)
    assert [one.value for one in found if isinstance(one, Prediction)] == pytest.approx(expected.tolist(), abs=1e-6)


@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
def test_a_missing_number_is_the_boosters_own_missing(tmp_path: Path, library: str) -> None:
    location, _ = trained(library, OBJECTIVES[library][0], tmp_path)
    runner = load(location, FEATURES)
    alone = outcomes(runner, [ROWS[0] | {"wind": None}], FEATURES)
    assert isinstance(alone[0], Prediction)
    assert outcomes(runner, [ROWS[1], ROWS[0] | {"wind": None}], FEATURES)[1] == alone[0]


@pytest.mark.parametrize("library", ["xgboost", "lightgbm", "catboost"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, library: str) -> None:
    (tmp_path / "m.ubj").write_bytes(b"\x80\x04 not a model")
    with pytest.raises(ConfigurationError, match=f"{library} cannot load it|is not installed here"):
        load(f"{library}:{tmp_path / 'm.ubj'}", FEATURES)
    with pytest.raises(ConfigurationError, match="not an ONNX file; say `xgboost:"):
        load(tmp_path / "m.ubj", FEATURES)
    with pytest.raises(ConfigurationError, match="no such file"):
        load(f"{library}:{tmp_path / 'absent'}", FEATURES)


@pytest.mark.parametrize("zipmap", [True, False])
@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
def test_classifiers_through_the_onnx_converters(tmp_path: Path, library: str, zipmap: bool) -> None:
    onnxmltools: Any = pytest.importorskip("onnxmltools", reason="a test dependency, left out of a light environment")
    types: Any = pytest.importorskip("onnxmltools.convert.common.data_types", reason="comes with onnxmltools")
    kind = xgboost.XGBClassifier if library == "xgboost" else lightgbm.LGBMClassifier
    model = kind(n_estimators=5, max_depth=3).fit(X, BINARY)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        convert = onnxmltools.convert_xgboost if library == "xgboost" else onnxmltools.convert_lightgbm
        options = {} if library == "xgboost" else {"zipmap": zipmap}
        onnx = convert(model, initial_types=[("x", types.FloatTensorType([None, 3]))], target_opset=15, **options)
        expected = model.predict_proba(X[:6])
    path = tmp_path / "m.onnx"
    path.write_bytes(onnx.SerializeToString())
    write_sidecar(path, features=NAMES)
    for one, scores in zip(outcomes(load(path, FEATURES), ROWS, FEATURES), expected.tolist(), strict=True):
        assert isinstance(one, Prediction), one
        assert one.scores == pytest.approx(scores, abs=1e-4)
        assert (one.label, one.items) == (str(int(scores[1] > 0.5)), ["0", "1"])
        assert one.value == pytest.approx(scores[1], abs=1e-4)


@pytest.mark.parametrize(
    ("objective", "said", "reason"),
    [
        (
            "reg:squarederror",
            {"classes": ["no", "yes"]},
            "says `classes`, but this booster predicts numbers.*there are: batch",
        ),
        ("reg:squarederror", {"positive": "yes"}, "says `positive`, but this booster predicts numbers"),
        (
            "binary:logistic",
            {"outputs": {"p": "value"}},
            "says `outputs`, but this booster has one input and one answer",
        ),
        ("binary:logistic", {"inputs": {"x": NAMES}}, "says `inputs`, but this booster"),
        ("binary:logistic", {"task": "regression"}, "`task: regression`, but its objective is one of classification"),
        ("reg:squarederror", {"task": "ranking"}, "`task: ranking`, but its objective is one of regression"),
        ("binary:logistic", {"missing": {"wnd": 0}}, "'wnd', which is not a feature of the model.*did you mean 'wind'"),
        ("binary:logistic", {"clases": ["no", "yes"]}, "unknown key 'clases'"),
    ],
    ids=str,
)
def test_what_a_sidecar_says_and_no_booster_has_is_refused(
    tmp_path: Path, objective: str, said: dict[str, Any], reason: str
) -> None:
    location, _ = trained("xgboost", objective, tmp_path)
    (tmp_path / "model.yaml").write_text(json.dumps(said))
    with pytest.raises(ConfigurationError, match=reason):
        load(location, FEATURES)


def test_a_default_for_null_and_a_limit_of_rows_count_for_boosters_too(tmp_path: Path) -> None:
    location, _ = trained("xgboost", "reg:squarederror", tmp_path)
    at_zero = outcomes(load(location, FEATURES), [ROWS[0] | {"wind": 0.0}], FEATURES)
    (tmp_path / "model.yaml").write_text(json.dumps({"missing": {"wind": 0}, "batch": 2, "task": "regression"}))
    found = outcomes(load(location, FEATURES), [*ROWS[1:4], ROWS[0] | {"wind": None}], FEATURES)
    assert found[3:] == at_zero


def test_a_training_that_was_stopped_early_predicts_with_its_best_round_or_is_refused(tmp_path: Path) -> None:
    noise = np.random.default_rng(5).normal(size=300)
    model = xgboost.XGBRegressor(n_estimators=60, max_depth=6, early_stopping_rounds=8)
    model.fit(X[:200], noise[:200], eval_set=[(X[200:], noise[200:])], verbose=False)
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    (tmp_path / "model.yaml").write_text(json.dumps({"features": NAMES}))
    model.save_model(tmp_path / "model.ubj")
    found = outcomes(load(f"xgboost:{tmp_path / 'model.ubj'}", FEATURES), ROWS, FEATURES)
    expected = model.predict(X[:6]).tolist()
    assert [one.value for one in found if isinstance(one, Prediction)] == pytest.approx(expected, abs=1e-6)
    model.get_booster().save_model(tmp_path / "model.ubj")
    with pytest.raises(ConfigurationError, match="nothing says which rounds predict"):
        load(f"xgboost:{tmp_path / 'model.ubj'}", FEATURES)


def test_an_objective_that_answers_classes_is_no_value(tmp_path: Path) -> None:
    location, _ = trained("xgboost", "binary:hinge", tmp_path)
    with pytest.raises(ConfigurationError, match="binary:hinge answers a class, not a number"):
        load(location, FEATURES)


def test_a_sidecar_cannot_rename_what_the_file_names(tmp_path: Path) -> None:
    location, _ = trained("xgboost", "reg:squarederror", tmp_path)
    (tmp_path / "model.yaml").write_text(json.dumps({"features": ["a", "b", "c"]}))
    with pytest.raises(ConfigurationError, match="the model's features are wind, slack, seats"):
        load(location, FEATURES)


def test_the_largest_whole_number_is_a_number_to_a_booster(tmp_path: Path) -> None:
    location, _ = trained("lightgbm", "regression", tmp_path)
    found = outcomes(load(location, FEATURES), [ROWS[0], ROWS[1] | {"seats": 2**62}], FEATURES)
    assert isinstance(found[0], Prediction)
    assert isinstance(found[1], Prediction)


CATBOOST_NUMBERS = ("RMSE", "MAE", "Poisson", "Tweedie:variance_power=1.5")
CATBOOST_LOSSES = (*CATBOOST_NUMBERS, "Logloss", "CrossEntropy", "MultiClass", "MultiClassOneVsAll")


@pytest.mark.parametrize("words", [False, True], ids=["numbers", "words"])
@pytest.mark.parametrize("loss", CATBOOST_LOSSES)
def test_catboosts_native_files(tmp_path: Path, loss: str, words: bool) -> None:
    catboost: Any = pytest.importorskip("catboost", reason="100 MB, so no dependency of the tests")
    several, decides = loss.startswith("Multi"), loss not in CATBOOST_NUMBERS
    wanted: Any = (THREE if several else BINARY) if decides else np.abs(NUMBER)
    if decides and words and loss != "CrossEntropy":
        wanted = np.array(["no", "perhaps", "yes"])[wanted if several else 2 * wanted]
    model = catboost.CatBoost({"loss_function": loss, "iterations": 5, "depth": 3, "verbose": False, "thread_count": 1,
                               "allow_writing_files": False})  # fmt: skip
    model.fit(catboost.Pool(X, wanted, feature_names=NAMES))
    model.save_model(str(tmp_path / "m.cbm"))
    turned = FeatureSchema.of({"seats": "long", "slack": "double", "wind": ["null", "double"]})
    found = outcomes(load(f"catboost:{tmp_path / 'm.cbm'}", turned), ROWS, turned)
    if not decides:
        expected = catboost.CatBoostRegressor().load_model(tmp_path / "m.cbm").predict(X[:6])
        assert [one.value for one in found if isinstance(one, Prediction)] == pytest.approx(expected.tolist(), abs=1e-9)
        return
    expected = model.predict(X[:6], prediction_type="Probability")
    names = [str(one) for one in model.classes_] or ["0", "1"]
    for one, scores in zip(found, expected.tolist(), strict=True):
        assert isinstance(one, Prediction), one
        assert one.scores == pytest.approx(scores, abs=1e-9)
        assert (one.items, one.label) == (names, names[int(np.argmax(scores))])
        assert one.value == (None if several else pytest.approx(scores[1], abs=1e-9))


@pytest.mark.parametrize("loss", ["MultiRMSE", "RMSEWithUncertainty"])
def test_several_numbers_of_catboost_are_refused(tmp_path: Path, loss: str) -> None:
    catboost: Any = pytest.importorskip("catboost", reason="100 MB, so no dependency of the tests")
    model = catboost.CatBoost({"loss_function": loss, "iterations": 2, "verbose": False, "allow_writing_files": False})
    model.fit(catboost.Pool(X, np.stack([NUMBER, NUMBER], axis=1) if loss == "MultiRMSE" else NUMBER))
    model.save_model(str(tmp_path / "m.cbm"))
    with pytest.raises(ConfigurationError, match=f"{loss} answers several numbers for a row"):
        load(f"catboost:{tmp_path / 'm.cbm'}", FEATURES)


def test_catboosts_categories_are_refused(tmp_path: Path) -> None:
    catboost: Any = pytest.importorskip("catboost", reason="100 MB, so no dependency of the tests")
    model = catboost.CatBoost(
        {"loss_function": "RMSE", "iterations": 2, "verbose": False, "allow_writing_files": False}
    )
    model.fit(catboost.Pool([["a", 1.0], ["b", 2.0], ["a", 3.0]], [1.0, 2.0, 3.0], cat_features=[0]))
    model.save_model(str(tmp_path / "m.cbm"))
    with pytest.raises(ConfigurationError, match="categories or texts: encode them"):
        load(f"catboost:{tmp_path / 'm.cbm'}", FEATURES)
