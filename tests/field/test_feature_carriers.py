"""Objects that hold features: rows of many libraries, classes, mappings."""

from collections import namedtuple
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, NotRequired, TypedDict, TypeVar

import attrs
import pandas as pd
import pydantic
import pytest
from tests.support.binding import bound

from gnomon_producer.errors import Dropped
from gnomon_schemas.features import FeatureSchema

T = TypeVar("T")


class Row(NamedTuple):
    amount: float
    city: str | None


@attrs.define
class WithAttrs:
    amount: float
    city: str | None = None


@attrs.frozen(slots=False)
class WithAttrsAndDict:
    amount: float
    city: str | None = None


Pair = namedtuple("Pair", ["city", "amount"])


class Slots:
    __slots__ = ("amount", "city")

    def __init__(self) -> None:
        self.amount = 1.5


class Computed:
    _cache = None

    def __init__(self) -> None:
        self._seen = 0
        self.city = None

    @property
    def amount(self) -> float:
        return 1.5


class Struct:
    """A class that looks like msgspec.Struct."""

    __struct_fields__ = ("amount", "city")
    amount: float
    city: str | None

    def __init__(self) -> None:
        self.amount, self.city = 1.5, None


class Partial(TypedDict):
    amount: float
    city: NotRequired[str]


class Model(pydantic.BaseModel):
    amount: float
    city: str | None = None


FRAME = pd.DataFrame({"amount": [1.5], "city": [None]})


CARRIERS: list[Any] = [
    Row(1.5, None), Pair(None, 1.5), WithAttrs(1.5), WithAttrsAndDict(1.5), Slots(),
    Computed(), Struct(), Model(amount=1.5), {"amount": 1.5}, {"amount": 1.5, "city": None}, FRAME.iloc[0],
    next(FRAME.itertuples(index=False)), FRAME, pd.Series({"amount": 1.5, "city": float("nan")}, dtype=object),
    pd.Series({"amount": 1.5, "city": pd.NA}, dtype=object),
]  # fmt: skip


@pytest.mark.parametrize("carrier", CARRIERS, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("listed_only", [False, True])
def test_what_carries_features(carrier: Any, listed_only: bool) -> None:
    schema = FeatureSchema.of({"amount": "double", "city": ["null", "string"]})
    assert bound(schema, carrier, listed_only=listed_only) == {"amount": 1.5, "city": None}


@pytest.mark.parametrize("source", [Row, WithAttrs, WithAttrsAndDict, Struct, Partial, Model])
def test_a_schema_is_drawn_from_what_carries_them(source: type) -> None:
    schema = FeatureSchema.of(source)
    assert [(one.name, one.kind, one.nullable) for one in schema.features] == [
        ("amount", "double", False),
        ("city", "string", True),
    ]


def test_several_rows_are_not_one() -> None:
    schema = FeatureSchema.of({"amount": "double"})
    with pytest.raises(Dropped, match="one row of features is expected, not 2"):
        bound(schema, pd.DataFrame({"amount": [1.0, 2.0]}))


@dataclass
class Box(Generic[T]):
    amount: T


@dataclass
class Order(Box[float]):
    visits: int


def test_generic_classes_are_what_they_were_made_for() -> None:
    assert [one.kind for one in FeatureSchema.of(Box[int]).features] == ["long"]
    assert [one.kind for one in FeatureSchema.of(Order).features] == ["double", "long"]
