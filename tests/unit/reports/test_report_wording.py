"""Numbers that the one-file report calls equal."""

from typing import Any

import pytest

from gnomon_consumer.reports import wording


def entry(metric: str, size: float, difference: float, half: float) -> dict[str, Any]:
    said = {"estimate": difference, "low": difference - half, "high": difference + half, "standard_error": half / 2}
    return {"metric": metric, "live": {"estimate": size}, "shadow": {"estimate": size + difference}, "difference": said}


@pytest.mark.parametrize(
    ("metric", "size", "difference", "half", "equal"),
    [
        ("brier", 0.18, 1e-8, 1e-8, True),
        ("brier", 0.18, 1e-6, 0.0, False),  # rounding of the same model gives less
        ("brier", 0.18, 0.0, 1e-3, False),  # equal by chance: rows differ, so the error is not 0
        ("rmse", 2000.0, 1e-4, 1e-4, True),  # relative to its size
        ("auc", 0.67, -1e-6, 2e-6, True),  # one pair of 650 positives and 1,500 negatives swapped places
        ("auc", 0.67, -2e-5, 0.0, False),
    ],
)
def test_what_rounding_explains_is_equal(
    metric: str, size: float, difference: float, half: float, *, equal: bool
) -> None:
    one = entry(metric, size, difference, half)
    assert wording.is_equal(one) is equal
    assert (wording.difference(one)[0] == wording.EQUAL) is equal


def test_what_cannot_be_told_is_not_equal() -> None:
    one = entry("auc", 0.67, 0.0, 0.0)
    one["difference"]["standard_error"] = None
    assert not wording.is_equal(one)


def test_what_differs_nowhere_is_equal_without_an_interval() -> None:
    one = entry("auc", 0.67, 0.0, 0.0)
    one["difference"] |= {"low": None, "high": None}
    assert wording.is_equal(one)
