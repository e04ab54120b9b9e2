"""A feature record is derived from a service's existing class; an error names a field that does not fit."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, TypedDict

import pydantic
import pytest

from gnomon_producer.binding import FeatureBinder
from gnomon_schemas.errors import SchemaError
from gnomon_schemas.features import FeatureSchema


class Channel(StrEnum):
    WEB = "web"
    APP = "app"


@dataclass
class AsDataclass:
    amount: float
    visits: int
    new: bool
    country: str | None
    plan: Literal["free", "gold"]
    channel: Channel | None
    history: list[float]
    days: Annotated[tuple[int, ...], "documented"]
    limit: ClassVar[int] = 3
    note: str = field(default="")


@dataclass(slots=True)
class WithSlots:
    amount: float
    country: str | None = None


class AsTypedDict(TypedDict):
    amount: float
    country: str | None


class Wider(AsTypedDict):
    visits: int


class AsModel(pydantic.BaseModel):
    amount: float
    country: str | None = None
    _private: int = 1


def test_every_type_that_a_feature_may_have() -> None:
    record = FeatureSchema.of(AsDataclass).record
    assert record["name"] == "AsDataclass"
    assert {entry["name"]: entry["type"] for entry in record["fields"]} == {
        "amount": "double",
        "visits": "long",
        "new": "boolean",
        "country": ["null", "string"],
        "plan": {"type": "enum", "name": "plan_enum", "symbols": ["free", "gold"]},
        "channel": ["null", {"type": "enum", "name": "Channel", "symbols": ["web", "app"]}],
        "history": {"type": "array", "items": "double"},
        "days": {"type": "array", "items": "long"},
        "note": "string",
    }


@pytest.mark.parametrize(
    ("source", "instance"),
    [
        (WithSlots, WithSlots(1.0)),
        (AsTypedDict, AsTypedDict(amount=1.0, country=None)),
        (AsModel, AsModel(amount=1.0)),
    ],
)
def test_instances_of_the_class_are_features(source: type, instance: Any) -> None:
    schema = FeatureSchema.of(source)
    assert [feature.name for feature in schema.features] == ["amount", "country"]
    assert FeatureBinder(schema, listed_only=False).bind(instance) == (1.0, None)


def test_a_typed_dict_inherits() -> None:
    assert [feature.name for feature in FeatureSchema.of(Wider).features] == ["amount", "country", "visits"]


def test_an_enum_member_is_its_value() -> None:
    given = AsDataclass(1.0, 2, True, None, "gold", Channel.APP, [1.0], (1, 2))
    bound = FeatureBinder(FeatureSchema.of(AsDataclass), listed_only=False).bind(given)
    assert bound == (1.0, 2, True, None, "gold", "app", (1.0,), (1, 2), "")
    assert type(bound[5]) is str


@dataclass
class Unfit:
    amount: dict[str, str]


@dataclass
class Ambiguous:
    amount: int | str


@dataclass
class Within:
    amount: complex


@pytest.mark.parametrize("source", [Unfit, Ambiguous, Within])
def test_the_field_that_has_no_type_is_named(source: type) -> None:
    with pytest.raises(SchemaError, match="'amount'"):
        FeatureSchema.of(source)


def test_a_class_of_another_kind_is_refused() -> None:
    with pytest.raises(SchemaError, match="is not a dataclass"):
        FeatureSchema.of(object)
