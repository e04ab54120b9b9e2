"""Python models answer with what their libraries return: each kind gives the library's numbers, or a clear refusal."""

import array
import collections
import datetime
import decimal
import enum
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse as sparse
import statsmodels.api as sm
from tests.support.model_runners import outcomes

from gnomon_consumer.scorer.worker.models.batches import fitting
from gnomon_consumer.scorer.worker.models.callable import CallableRunner
from gnomon_consumer.scorer.worker.models.python_answers import read_answer
from gnomon_schemas.features import FeatureSchema
from gnomon_schemas.records import Failure, Prediction

FEATURES = FeatureSchema.of({"a": "double", "b": "double"})
VALUES = [0.5, -1.25, 3.0]
ROWS = len(VALUES)
ARRAY = np.array(VALUES)
LABELS = ["y", "n", "y"]


class Class(enum.Enum):
    NO = "n"
    YES = "y"


@pytest.mark.parametrize(
    "answer",
    [
        ARRAY.reshape(-1, 1), np.matrix(ARRAY).T, tuple(VALUES), collections.deque(VALUES), array.array("d", VALUES),
        pd.Series(VALUES), pd.Series(VALUES, index=["x", "y", "z"]), pd.Series(VALUES, index=[4, 7, 9]),
        pd.DataFrame({"p": VALUES}), pd.DataFrame({"value": VALUES, "label": LABELS}), pd.array(VALUES, "Float64"),
        sparse.csr_matrix(ARRAY.reshape(-1, 1)), sparse.coo_array(ARRAY.reshape(-1, 1)), pa.array(VALUES),
        pa.chunked_array([VALUES]), ARRAY.astype(object), ARRAY.astype(np.longdouble), ARRAY.astype(np.float16),
        [[one] for one in VALUES], [np.array([one]) for one in VALUES], [decimal.Decimal(str(one)) for one in VALUES],
        [Fraction(one) for one in VALUES], {"value": VALUES}, np.ma.masked_array(ARRAY, mask=False),
    ],
    ids=lambda answer: type(answer).__name__,
)  # fmt: skip
def test_values(answer: Any) -> None:
    found = read_answer(answer, ROWS)
    assert found.value is not None
    assert found.value.tolist() == VALUES


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((one for one in VALUES), "its answer is generator; an array or list of 3 is needed"),
        (set(VALUES), "its answer is set"), (None, "its answer is NoneType"), (0.5, "its answer is float"),
        ("abc", "its answer is str"), (b"abc", "its answer is bytes"), (bytearray(3), "its answer is bytearray"),
        (ARRAY > 0, "holds booleans"), ([True, 0.5, 0.7], "holds bool"), ([True, False, True], "holds booleans"),
        (["0.5", 1.0, 2.0], "holds str"), (ARRAY.astype(str), "is str"), (ARRAY.astype(complex), "is complex128"),
        (np.array(["2020-01-01"] * 3, "M8[s]"), "is datetime64"), ([datetime.date(2020, 1, 1)] * 3, "holds date"),
        (np.stack([ARRAY, ARRAY], 1), r"of the shape \[3, 2\]"), (ARRAY.reshape(1, -1), r"the shape \[1, 3\]"),
        ((ARRAY, LABELS), "2 rows for 3 captures"), ([{"value": 1.0}] * 3, "holds dict"), ({}, "none of value, label"),
        (pd.Series(VALUES, index=[2, 0, 1]), "an index in another order than the captures"),
        (pd.DataFrame({"value": VALUES}).sort_values("value"), "an index in another order than the captures"),
        (np.array([(one,) for one in VALUES], [("p", "f8")]), "is void64"),
    ],
)  # fmt: skip
def test_what_is_no_value_is_refused(answer: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_answer(answer, ROWS)


@pytest.mark.parametrize(
    "answer",
    [np.ma.masked_array(ARRAY, mask=[False, True, False]), pd.array([0.5, None, 3.0], "Float64"),
     pa.array([0.5, None, 3.0]),
     [0.5, None, 3.0], [0.5, pd.NA, 3.0], [0.5, decimal.Decimal("nan"), 3.0], [0.5, 10**400, 3.0]],
)  # fmt: skip
def test_a_missing_value_fails_its_row_alone(answer: Any) -> None:
    found = [read_answer(answer, ROWS).prediction(row) for row in range(ROWS)]
    assert [isinstance(one, Failure) for one in found] == [False, True, False]


@pytest.mark.parametrize(
    "labels",
    [pd.Series(LABELS), pd.Categorical(LABELS), np.array(LABELS, object).reshape(-1, 1), pa.array(LABELS),
     pd.array(LABELS, "string"), np.array(LABELS, "S1"), [Class(one) for one in LABELS],
     np.array(LABELS, np.dtypes.StringDType()), [np.array([one]) for one in LABELS]],
)  # fmt: skip
def test_labels(labels: Any) -> None:
    assert list(read_answer({"label": labels}, ROWS).label or ()) == LABELS


def test_a_masked_label_fails_its_row() -> None:
    found = read_answer({"label": np.ma.masked_array([1, 2, 3], mask=[False, True, False])}, ROWS)
    assert [found.label[0] if found.label else None, list(found.failures)] == ["1", [1]]


SCORES = np.stack([ARRAY, -ARRAY], 1)


@pytest.mark.parametrize(
    ("scores", "items"),
    [
        (SCORES, ["y", "n"]), (SCORES.tolist(), np.array(["y", "n"])), (np.matrix(SCORES), pd.Index(["y", "n"])),
        (sparse.csr_matrix(SCORES), [Class.YES, Class.NO]), (pd.DataFrame(SCORES, columns=["y", "n"]), None),
        (pd.DataFrame(SCORES, columns=["y", "n"]), ["y", "n"]), (pd.DataFrame(SCORES), ["y", "n"]),
        ([pd.Series(row) for row in SCORES], pa.array(["y", "n"])), (SCORES, [["y", "n"]] * ROWS),
        (SCORES, [("y", "n")] * ROWS), (SCORES, np.array([["y", "n"]] * ROWS)),
    ],
)  # fmt: skip
def test_scores(scores: Any, items: Any) -> None:
    answer = {"scores": scores} | ({} if items is None else {"items": items})
    found = [read_answer(answer, ROWS).prediction(row) for row in range(ROWS)]
    assert found == [Prediction(scores=row, items=["y", "n"]) for row in SCORES.tolist()]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"scores": [[True, False]] * 3}, "holds bool"), ({"scores": [["0.1", "0.2"]] * 3}, "holds str"),
        ({"scores": [{0.1, 0.2}] * 3}, "has set for a capture"), ({"scores": ARRAY}, "has float"),
        ({"scores": SCORES, "items": ["y", "y"]}, "the same class or item twice"),
        ({"scores": pd.DataFrame(SCORES, columns=["n", "y"]), "items": ["y", "n"]}, "not the columns of `scores`: n"),
        ({"scores": SCORES, "items": {"y", "n"}}, "`items` is set"),
        ({"scores": SCORES, "items": [None, "y"]}, "item: None"),
        ({"scores": pd.DataFrame(SCORES, index=[2, 1, 0])}, "in another order"),
    ],
)  # fmt: skip
def test_what_are_no_scores_is_refused(answer: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_answer(answer, ROWS)


@pytest.mark.parametrize("number", [1.0, decimal.Decimal(1), datetime.date(2020, 1, 1), 1])
def test_items_of_any_kind_that_has_a_text(number: Any) -> None:
    found = read_answer({"scores": SCORES[:2, :1], "items": [number]}, 2).prediction(0)
    assert isinstance(found, Prediction)
    assert found.items in (["1"], ["2020-01-01"])


def test_a_model_of_statsmodels(tmp_path: Path) -> None:
    """Its `predict` gives a series with the index of the frame that it got."""
    draw = np.random.default_rng(0)
    data = pd.DataFrame(draw.normal(size=(80, 2)), columns=["a", "b"])
    fitted = sm.GLM(data["a"] > data["b"] + draw.normal(size=80), sm.add_constant(data), sm.families.Binomial()).fit()

    def predict(columns: dict[str, Any]) -> Any:
        return fitted.predict(sm.add_constant(pd.DataFrame(columns), has_constant="add"))

    runner = fitting(CallableRunner(predict, "stats:make", FEATURES.features), FEATURES.features)
    rows = [{"a": float(a), "b": float(b)} for a, b in data.head(5).to_numpy()]
    expected = fitted.predict(sm.add_constant(data).head(5)).tolist()
    assert [one.value for one in outcomes(runner, rows, FEATURES) if isinstance(one, Prediction)] == pytest.approx(
        expected
    )
    for row, value in zip(rows, expected, strict=True):
        (one,) = outcomes(runner, [row], FEATURES)
        assert isinstance(one, Prediction)
        assert one.value == pytest.approx(value)
