"""What a live service gives as its prediction or as the truth: it is recorded as what it means, or dropped by name."""

import enum
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from gnomon_producer.errors import Dropped
from gnomon_producer.predictions import label_fields, prediction_fields, prediction_of_result


class Decision(enum.Enum):
    REVIEW = "review"


@pytest.mark.parametrize(
    ("result", "value", "label"),
    [
        (0.3, 0.3, None), (np.array([0.3]), 0.3, None), (Decimal("0.3"), 0.3, None), (1, 1.0, None),
        (np.float32(0.5), 0.5, None), ("late", None, "late"), (b"late", None, "late"),
        (Decision.REVIEW, None, "review"), (["late"], None, "late"),
        (True, None, "True"), (np.False_, None, "False"), (np.array([True]), None, "True"),
    ],
)  # fmt: skip
def test_the_result_of_a_function(result: Any, value: float | None, label: str | None) -> None:
    found = prediction_of_result(result)
    assert found is not None
    assert found[:2] == (value, label)


@pytest.mark.parametrize("given", [{"scores": [0.1, 0.2, 0.7], "items": ["a", "b"]}, {"scores": [], "items": ["a"]}])
def test_scores_for_other_items_are_dropped(given: dict[str, Any]) -> None:
    with pytest.raises(Dropped, match="scores or relevances are given for"):
        prediction_fields(**given)


def test_relevances_for_other_items_are_dropped() -> None:
    with pytest.raises(Dropped, match="2 scores or relevances are given for 1 items"):
        label_fields(None, None, [1, 2], ["a"])


def test_an_empty_class_is_no_class() -> None:
    assert label_fields(1, "", None, None)["label"] is None
    with pytest.raises(Dropped, match="neither value nor label nor relevance"):
        label_fields(None, " ", None, None)
