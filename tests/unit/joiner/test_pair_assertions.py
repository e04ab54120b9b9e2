"""A scorer's claims about a window are compared with its own rows when the window is joined."""

import uuid
from typing import Any

import pytest
from tests.support.logs import cell, row, seal

from gnomon_consumer.joiner.merge.assertions import contradictions
from gnomon_consumer.joiner.merge.shadow_records import outcomes
from gnomon_schemas.records import SamplingWindow, from_dict

W = str(uuid.UUID(int=1))


def found(rows: list[dict[str, Any]], cells: list[dict[str, Any]]) -> list[str]:
    return contradictions(from_dict(SamplingWindow, seal(0, 0, 10, cells, W)), outcomes(rows))


def rows_of(count: int, probability: float, stratum: str | None = None) -> list[dict[str, Any]]:
    return [row(0, at, f"r{at}", W, inclusion_probability=probability, stratum=stratum) for at in range(count)]


def test_rows_that_weigh_what_their_cell_says_are_fine() -> None:
    a, b = rows_of(3, 3 / 7, "a"), rows_of(1, 1 / 3)
    assert found(a + b, [cell(a, 7, "a"), cell(b, 3)]) == []


def test_an_empty_window_is_fine() -> None:
    assert found([], []) == found([], [cell([], 5)]) == []


@pytest.mark.parametrize("probability", [1e-9, 3 / 7 + 1e-6, 1.0, 3 / 8])
def test_another_weight_is_named(probability: float) -> None:
    rows = rows_of(3, probability)
    (text,) = found(rows, [cell(rows, 7)])
    assert f"have probability {probability}" in text


def test_one_row_of_another_weight_is_named() -> None:
    rows = rows_of(2, 3 / 7) + rows_of(1, 0.5)
    (text,) = found(rows, [cell(rows, 7)])
    assert text.startswith("1 rows")


def test_a_count_that_differs_and_rows_of_no_cell_are_named() -> None:
    rows = rows_of(3, 3 / 7)
    assert found(rows[:2], [cell(rows, 7)]) == ["cell '' has 2 rows and says 3"]
    assert found(rows_of(2, 1.0, "x"), []) == ["2 rows of cell 'x', which the window does not have"]
