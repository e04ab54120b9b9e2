"""A label, an id or a segment has the same text in the hook, in a model's answer and in a file."""

import enum
import math
import uuid
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon_producer.errors import Dropped
from gnomon_producer.predictions import prediction_fields
from gnomon_schemas.texts import NotTextError, single, text_of

texts = st.text(st.characters(codec="utf-8"), max_size=20)
longs = st.integers(-(2**63), 2**63 - 1)
SAFE = 2**53


def carriers(value: Any) -> list[Any]:
    """Return the same value in all types that callers use."""
    return [
        value,
        [value],
        (value,),
        [[value]],
        np.array([value], dtype=object),
        np.array(value, dtype=object),
        pd.Series([value], dtype=object),
        pd.Index([value], dtype=object),
        enum.Enum("Held", {"MEMBER": value}).MEMBER,  # type: ignore[attr-defined]  # made here
    ]


@given(texts)
def test_a_text_is_itself_in_every_carrier(text: str) -> None:
    arrays = [np.array([text], dtype=object), pa.scalar(text), pa.array([text])]
    for held in [*carriers(text), *arrays, text.encode(), bytearray(text.encode()), memoryview(text.encode())]:
        assert text_of("label", held) == text


@given(longs)
def test_an_integer_is_its_digits_in_every_carrier(number: int) -> None:
    for held in [*carriers(number), np.int64(number), np.array([number]), pd.Series([number]), pa.scalar(number)]:
        assert text_of("label", held) == str(number)
    assert text_of("label", Decimal(number)) == str(number)


@given(st.integers(-SAFE, SAFE))
def test_a_whole_float_is_the_integer_that_it_stands_for(number: int) -> None:
    for held in [
        *carriers(float(number)),
        np.float64(number),
        np.array([number], dtype=float),
        pd.Series([float(number)]),
    ]:
        assert text_of("label", held) == str(number)


@given(st.floats())
def test_a_float_gives_its_number_back_or_is_refused(number: float) -> None:
    if not math.isfinite(number) or (number.is_integer() and abs(number) > SAFE):
        for held in carriers(number):
            with pytest.raises(NotTextError, match=r"^label: "):
                text_of("label", held)
    else:
        for held in carriers(number):
            assert float(text_of("label", held)) == number


@given(st.floats(width=32, allow_nan=False, allow_infinity=False).filter(lambda x: not x.is_integer()))
def test_a_narrow_float_is_written_as_it_is_read(number: float) -> None:
    narrow = np.float32(number)
    assert np.float32(text_of("segment", narrow)) == narrow
    assert len(text_of("segment", narrow)) <= len(repr(float(narrow)))
    assert text_of("segment", narrow) == repr(float(text_of("segment", narrow)))


@given(st.booleans())
def test_a_truth_is_the_same_of_python_and_numpy(truth: bool) -> None:
    for held in [*carriers(truth), np.bool_(truth), np.array([truth]), pd.Series([truth])]:
        assert text_of("label", held) == str(truth)


class Empty(enum.Enum):
    NOTHING = None


SEVERAL: list[Any] = [
    [], [1, 2], ("late", 0.7), np.array([]), np.array([1, 2]), np.eye(2), pd.Series(["a", "b"]), {}, {"a": 1}, {"late"},
    frozenset({1}), range(1), iter(["late"]), pd.DataFrame({"a": [1]}), pa.array(["a", "b"]),
]  # fmt: skip
MISSING: list[Any] = [
    None, float("nan"), np.float32("nan"), pd.NaT, pd.NA, np.datetime64("NaT"), np.timedelta64("NaT"), Decimal("NaN"),
    [None], np.array([np.nan]), pd.Series([pd.NA]), Empty.NOTHING, pa.scalar(None),
]  # fmt: skip
OTHERS: list[Any] = [
    object(), len, int, ValueError("late"), 1j, np.timedelta64(3, "s"), float("inf"), -math.inf, np.inf,
    Decimal("Infinity"), 2.0**60, b"\xff", "\ud800", lambda: "late",
]  # fmt: skip


@pytest.mark.parametrize("value", SEVERAL + MISSING + OTHERS, ids=lambda value: type(value).__name__)
def test_what_no_single_text_stands_for_is_refused_by_the_name_of_its_field(value: Any) -> None:
    with pytest.raises(NotTextError, match=r"^stratum 'plan': "):
        text_of("stratum 'plan'", value)
    if value is not None and not isinstance(value, str):  # the hook leaves texts to its encoder
        with pytest.raises(Dropped, match=r"^label: "):
            prediction_fields(value=0.5, label=value)
        with pytest.raises(Dropped, match=r"^items: "):
            prediction_fields(scores=[0.5], items=[value])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(json_values)
def test_whatever_json_holds_is_a_text_or_refused_by_name(value: Any) -> None:
    try:
        text = text_of("label", value)
    except NotTextError as refusal:
        text, refused = None, str(refusal)
    if text is None:
        assert refused.startswith("label: ")
        return
    held = single("label", value)
    assert isinstance(held, str | bool | int | float)
    assert text == (
        held if isinstance(held, str) else str(held) if isinstance(held, bool) or held != held // 1 else str(int(held))
    )


def test_times_and_ids_are_written_by_their_standard_form() -> None:
    noon = datetime(2026, 1, 2, 12, tzinfo=UTC)
    assert text_of("x", noon) == text_of("x", pd.Timestamp(noon)) == "2026-01-02T12:00:00+00:00"
    assert text_of("x", date(2026, 1, 2)) == "2026-01-02"
    assert text_of("x", uuid.UUID(int=5)) == "00000000-0000-0000-0000-000000000005"
    assert text_of("x", Decimal("1.50")) == "1.5"


def test_a_list_that_holds_itself_ends() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(NotTextError):
        text_of("label", endless)
