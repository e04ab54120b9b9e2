"""Features as services hold them: the types of their classes, and the objects that pass them to the hook."""

import dataclasses
import enum
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any, Literal, NewType

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pydantic
import pytest
from tests.support.binding import bound

from gnomon_consumer.feature_schemas import compare
from gnomon_consumer.joiner.pairs.feature_layout import stored_type
from gnomon_consumer.joiner.postgres.feature_columns import FeatureColumns
from gnomon_consumer.scorer.worker.columns import columns
from gnomon_consumer.scorer.worker.models.base import ModelInput, check_fit
from gnomon_producer.binding import FeatureBinder
from gnomon_producer.composing import _allowed
from gnomon_producer.encoding import live_encoder
from gnomon_producer.errors import Dropped
from gnomon_schemas.columnar import ColumnarCodec
from gnomon_schemas.errors import SchemaError
from gnomon_schemas.features import FeatureSchema

UserId = NewType("UserId", int)


class Port(str, enum.Enum):  # noqa: UP042 - as services wrote it before StrEnum
    ZRH = "ZRH"
    AKL = "AKL"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Plan(enum.Enum):
    FREE = "free"
    GOLD = "gold-plus"


@dataclass
class Address:
    city: str
    floor: int | None = None


@dataclass
class Everything:
    price: Decimal
    at: datetime
    day: date
    opens: time
    customer: uuid.UUID
    words: list[str]
    flags: list[bool]
    counts: dict[str, int]
    home: Address
    work: Address | None
    ratio: int | float
    level: Level
    plan: Plan
    origin: Port
    destination: Port | None
    user: UserId
    path: Sequence[float]
    pair: tuple[float, float]
    stars: Literal[1, 2, 3]
    embedding: npt.NDArray[np.float64]
    narrow: np.float32
    rate: Annotated[float, "documented"]


CUSTOMER = uuid.UUID(int=7)
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
GIVEN = Everything(
    price=Decimal("12.50"), at=NOON.astimezone(timezone(timedelta(hours=13))), day=date(2026, 1, 2), opens=time(8, 30),
    customer=CUSTOMER, words=["a", "b"], flags=[True], counts={"x": 1}, home=Address("Zürich", 3), work=None, ratio=1,
    level=Level.HIGH, plan=Plan.GOLD, origin=Port.ZRH, destination=Port.AKL, user=UserId(5), path=[1, 2.5],
    pair=(0.5, 1.5), stars=2, embedding=np.array([0.1]), narrow=np.float32(0.5), rate=0.25,
)  # fmt: skip
WRITTEN = {
    "price": 12.5, "at": 1_767_355_200_000_000, "day": 20_455, "opens": 30_600_000_000, "customer": str(CUSTOMER),
    "words": ["a", "b"], "flags": [True], "counts": {"x": 1}, "home_city": "Zürich", "home_floor": 3, "work_city": None,
    "work_floor": None, "ratio": 1.0, "level": 2, "plan": "gold-plus", "origin": "ZRH", "destination": "AKL", "user": 5,
    "path": [1.0, 2.5], "pair": [0.5, 1.5], "stars": 2, "embedding": [0.1], "narrow": 0.5, "rate": 0.25,
}  # fmt: skip
TYPES = {
    "price": "double", "at": "timestamp-micros", "day": "date", "opens": "time-micros", "customer": "uuid",
    "words": "array of string", "flags": "array of boolean", "counts": "map of long", "home.city": "string",
    "home.floor": "long", "work.city": "string", "work.floor": "long", "ratio": "double", "level": "long",
    "plan": "string", "origin": "enum", "destination": "enum", "user": "long", "path": "array of double",
    "pair": "array of double", "stars": "long", "embedding": "array of double", "narrow": "float", "rate": "double",
}  # fmt: skip


def captured(schema: FeatureSchema, given: Any) -> pa.RecordBatch:
    """Return the features of one capture as the scorer and the joiner decode them."""
    binder = FeatureBinder(schema, listed_only=False, encoder_checks=True)
    encode = live_encoder(schema, "p", ("m", "1"), 1.0, schema.live.fingerprint)
    message = encode(0, 1, "r", None, {}, None, binder.bind(given), None, None, None, None)
    decoded = ColumnarCodec(schema.live).decode([message])
    assert decoded.errors == {}
    return decoded.batch.column("features")


def test_every_type_reaches_the_record_as_what_it_is() -> None:
    schema = FeatureSchema.of(Everything)
    assert {feature.name: feature.written for feature in schema.features} == TYPES
    assert [feature.name for feature in schema.features if feature.nullable] == [
        "home.floor", "work.city", "work.floor", "destination",
    ]  # fmt: skip
    record = captured(schema, GIVEN)
    assert {name: _plain(record.field(name)[0].as_py()) for name in WRITTEN} == WRITTEN


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, list) and value and isinstance(value[0], tuple) else value


def test_models_and_pairs_see_dotted_names() -> None:
    schema = FeatureSchema.of(Everything)
    batch = columns(captured(schema, GIVEN), schema.features)
    assert list(batch) == list(TYPES)
    assert batch["home.city"].values[0] == "Zürich"
    assert batch["counts"].values[0] == {"x": 1}
    assert batch["at"].values[0] == WRITTEN["at"]


class _Recorded:
    """A connection that answers the layout's statements without a database."""

    def __init__(self) -> None:
        self.inserted: list[tuple[Any, ...]] = []

    def transaction(self) -> "_Recorded":
        return self

    def __enter__(self) -> "_Recorded":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def execute(self, statement: bytes, values: Sequence[Any]) -> "_Recorded":
        if statement.startswith(b"insert"):
            self.inserted.append(tuple(values))
        return self

    def fetchall(self) -> list[tuple[Any, ...]]:
        return []


def test_pairs_hold_them_with_their_types() -> None:
    schema = FeatureSchema.of(Everything)
    recorded: Any = _Recorded()
    layout = FeatureColumns(1).layout(recorded, schema.live)
    columns_of = {name: (kind, type_) for _, name, kind, _, type_ in recorded.inserted}
    assert columns_of["at"] == ("numeric", "timestamp-micros")
    assert columns_of["day"] == ("numeric", "date")
    assert columns_of["customer"] == ("text", "uuid")
    assert columns_of["words"] == ("text", "array")
    assert columns_of["home.city"] == ("text", "string")
    record = captured(schema, GIVEN)
    texts = dict(zip((name for name in layout.textual if name), layout.texts(record)[0].as_py(), strict=True))
    assert texts["words"] == '["a", "b"]'
    assert texts["counts"] == '{"x": 1}'
    assert texts["customer"] == str(CUSTOMER)
    numbers = dict(zip((name for name in layout.numeric if name), layout.numbers(record)[0].as_py(), strict=True))
    assert (numbers["at"], numbers["day"], numbers["price"]) == (WRITTEN["at"], WRITTEN["day"], 12.5)


def test_milliseconds_and_microseconds_stand_in_one_unit() -> None:
    of = {
        unit: FeatureSchema.of({"at": {"type": "long", "logicalType": f"timestamp-{unit}"}})
        for unit in ("millis", "micros")
    }
    assert of["millis"].live.fingerprint != of["micros"].live.fingerprint
    found = set()
    for schema in of.values():
        recorded: Any = _Recorded()
        layout = FeatureColumns(1).layout(recorded, schema.live)
        found.add((stored_type(schema.features[0]), layout.numbers(captured(schema, {"at": NOON}))[0].as_py()[0]))
    assert found == {("timestamp-micros", float(NOON.timestamp() * 1e6))}


@pytest.mark.parametrize(("shape", "part"), [("array", "items"), ("map", "values")])
def test_units_of_times_in_arrays_and_maps_are_not_interchangeable(shape: str, part: str) -> None:
    millis, micros, plain = (
        FeatureSchema.of({"seen": {"type": shape, part: kind}})
        for kind in (
            {"type": "long", "logicalType": "timestamp-millis"},
            {"type": "long", "logicalType": "timestamp-micros"},
            "long",
        )
    )
    assert len({one.live.fingerprint for one in (millis, micros, plain)}) == 3
    for old, new in ((millis, micros), (micros, millis), (plain, millis)):
        told = compare(old, new)
        assert not told.backward
        assert not told.forward
        assert "the same number means a different time" in " ".join(told.backward_reasons)
    assert compare(millis, millis).backward


NESTED = {
    "type": "record", "name": "Visit", "fields": [
        {"name": "home", "type": {"type": "record", "name": "Place", "fields": [{"name": "city", "type": "string"}]}},
        {"name": "work", "type": ["null", "Place"], "default": None},
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    "given",
    [
        {"home": {"city": "Bern"}, "work": None},
        {"home": {"city": "Bern"}},
        {"home.city": "Bern"},
        {"home_city": "Bern", "work_city": None},
        {"home": Address("Bern"), "work.city": None},
        {"home": pydantic.create_model("Place", city=str)(city="Bern")},
    ],
)
def test_a_record_within_is_given_nested_or_flat(given: Mapping[str, Any]) -> None:
    schema = FeatureSchema.of(NESTED)
    assert bound(schema, given, listed_only=True) == {"home.city": "Bern", "work.city": None}


def test_what_a_record_within_has_too_much_or_too_little_is_named() -> None:
    schema = FeatureSchema.of(NESTED)
    for given, named in (
        ({"home": {"city": "Bern", "zip": 3000}}, "'home.zip'"),
        ({"home": {}}, "'home.city'"),
        ({"home": None}, "'home.city'"),
        ({"home": {"city": 3}}, "'home.city'"),
        ({"home": {"city": "Bern"}, "play": {"city": "Thun"}}, "'play'"),
    ):
        with pytest.raises(Dropped, match=named):
            bound(schema, given)


def test_names_that_avro_does_not_allow_are_mapped() -> None:
    schema = FeatureSchema.of({"unit price": "double", "größe": "int", "unit_price": "double", "a.b": "int"})
    assert [one.name for one in schema.features] == ["unit price", "größe", "unit_price", "a.b"]
    assert len({one.field for one in schema.features}) == 4
    assert bound(schema, {"unit price": 1.0, "größe": 2, "unit_price": 3.0, "a.b": 4}) == {
        "unit price": 1.0, "größe": 2, "unit_price": 3.0, "a.b": 4,
    }  # fmt: skip
    written = FeatureSchema.of(
        {
            "type": "record",
            "name": "F",
            "fields": [{"name": "price", "type": "double", "aliases": ["unit price", "cost"]}],
        }
    )
    for name in ("unit price", "price", "cost"):
        assert bound(written, {name: 1.0}) == {"unit price": 1.0}
    with pytest.raises(SchemaError, match=r'unit price.*"aliases"'):
        FeatureSchema.of({"type": "record", "name": "F", "fields": [{"name": "unit price", "type": "double"}]})


def test_a_feature_that_is_given_twice_is_refused() -> None:
    schema = FeatureSchema.of({"unit price": "double"})
    with pytest.raises(Dropped, match="'unit_price' is not in the schema"):
        bound(schema, {"unit price": 1.0, "unit_price": 2.0})
    with pytest.raises(SchemaError, match="two features have the name 'b'"):
        FeatureSchema.of(
            {
                "type": "record",
                "name": "F",
                "fields": [{"name": "a", "type": "int", "aliases": ["b"]}, {"name": "b", "type": "int"}],
            }
        )


@pytest.mark.parametrize(
    ("kind", "given", "written"),
    [
        ("long", 5.0, 5),
        ("long", np.float64(5), 5),
        ("long", np.int8(5), 5),
        ("long", Decimal("5.00"), 5),
        ("long", Level.HIGH, 2),
        ("int", np.uint16(5), 5),
        ("double", Decimal("0.1"), 0.1),
        ("double", np.float32(0.5), 0.5),
        ("double", 3, 3.0),
        (["null", "double"], pd.NA, None),
        (["null", "long"], float("nan"), None),
        (["null", "long"], np.float64("nan"), None),
        (["null", "string"], pd.NA, None),
        (["null", "boolean"], None, None),
        ("boolean", np.True_, True),
        ("string", np.str_("x"), "x"),
        ("string", Port.ZRH, "ZRH"),
        ({"type": "enum", "name": "E", "symbols": ["ZRH"]}, Port.ZRH, "ZRH"),
        ({"type": "array", "items": "string"}, np.array(["a"]), ("a",)),
        ({"type": "array", "items": "long"}, pd.Series([1, 2]), (1, 2)),
        ({"type": "array", "items": "long"}, [2**60 + 1], (2**60 + 1,)),
        ({"type": "int", "logicalType": "date"}, pd.Timestamp("2026-01-02"), 20_455),
        ({"type": "long", "logicalType": "local-timestamp-millis"}, NOON.replace(tzinfo=None), 1_767_355_200_000),
        ({"type": "long", "logicalType": "timestamp-millis"}, pd.Timestamp(NOON), 1_767_355_200_000),
        (["null", {"type": "long", "logicalType": "timestamp-micros"}], pd.NaT, None),
    ],
)  # fmt: skip
def test_values_are_taken_for_what_they_are(kind: Any, given: Any, written: Any) -> None:
    assert bound(FeatureSchema.of({"a": kind}), {"a": given}) == {"a": written}


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("long", 5.5),
        ("long", 2.0**60),
        ("long", float("nan")),
        ("long", np.timedelta64(5, "ns")),
        ("long", "5"),
        ("long", True),
        ("double", Decimal("0.12345678901234567891")),
        ("double", pd.NA),
        ("double", None),
        ("float", 1e39),
        ("float", Decimal("1e39")),
        ("string", b"x"),
        ("string", 5),
        ("string", CUSTOMER),
        ({"type": "array", "items": "string"}, "abc"),
        ({"type": "array", "items": "string"}, [1]),
        ({"type": "array", "items": "double"}, [None]),
        ({"type": "map", "values": "double"}, {"a": "b"}),
        ({"type": "map", "values": "double"}, {1: 2.0}),
        ({"type": "map", "values": "double"}, [("a", 1.0)]),
        ({"type": "int", "logicalType": "date"}, NOON),
        ({"type": "int", "logicalType": "date"}, "2026-01-02"),
        ({"type": "long", "logicalType": "timestamp-micros"}, NOON.replace(tzinfo=None)),
        ({"type": "long", "logicalType": "local-timestamp-micros"}, NOON),
        ({"type": "long", "logicalType": "timestamp-micros"}, np.datetime64("2026-01-02")),
        ({"type": "long", "logicalType": "time-micros"}, time(8, tzinfo=UTC)),
    ],
)
def test_what_is_something_else_is_refused_by_name(kind: Any, given: Any) -> None:
    with pytest.raises(Dropped, match="feature 'a'"):
        bound(FeatureSchema.of({"a": kind}), {"a": given})


def test_listed_features_of_nested_classes_and_shared_enums() -> None:
    schema = FeatureSchema.of(Everything)
    kept = _allowed(schema, ("home", "destination", "at"))
    assert [one.name for one in kept.features] == ["at", "home.city", "home.floor", "destination"]
    assert kept.features[-1].symbols == ("ZRH", "AKL"), "its Enum was defined in a field that is not listed"
    given = dataclasses.asdict(GIVEN)
    assert bound(kept, given, listed_only=True)["home.city"] == "Zürich"
    assert captured(kept, {"at": NOON, "home": GIVEN.home, "destination": None}).field("home_floor")[0].as_py() == 3


@pytest.mark.parametrize(
    "hint", [complex, object, dict[str, str], list[list[int]], set[int], timedelta, Any, int | str]
)
def test_a_type_that_no_feature_has_is_refused_by_name(hint: Any) -> None:
    source = dataclasses.make_dataclass("Request", [("amount", float), ("other", hint)])
    with pytest.raises(SchemaError, match="'other'"):
        FeatureSchema.of(source)


def test_a_model_may_know_a_feature_by_an_alias() -> None:
    field = {"name": "unit_price", "type": "double", "aliases": ["unit price", "cost"]}
    schema = FeatureSchema.of({"type": "record", "name": "F", "fields": [field]})
    record = captured(schema, {"unit price": 2.5})
    for name in ("unit price", "cost", "unit_price"):
        check_fit([ModelInput(name, "float", (name,))], schema.features)
        assert {
            key: list(column.values) for key, column in columns(record, schema.features, frozenset({name})).items()
        } == {name: [2.5]}
    assert list(columns(record, schema.features)) == ["unit price"]


class Checked(pydantic.BaseModel):
    at: pydantic.AwareDatetime
    local: pydantic.NaiveDatetime
    born: pydantic.PastDate
    count: pydantic.PositiveInt | None


def test_types_that_pydantic_checks_itself() -> None:
    assert [one.written for one in FeatureSchema.of(Checked).features] == [
        "timestamp-micros", "local-timestamp-micros", "date", "long",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["", 1, None])
def test_a_name_that_is_no_text_is_refused(name: Any) -> None:
    with pytest.raises(SchemaError, match="the feature name"):
        FeatureSchema.of({name: "double"})


def test_thousands_of_features_are_written_and_read() -> None:
    schema = FeatureSchema.of({f"feature {at}": "double" for at in range(5000)})
    record = captured(schema, {f"feature {at}": float(at) for at in range(5000)})
    assert record.field(schema.features[-1].field)[0].as_py() == 4999.0
    with pytest.raises(SchemaError, match=r"with 20000 features has .* bytes as published"):
        FeatureSchema.of({f"{'a long name of a feature ' * 2}{at}": "double" for at in range(20_000)})
