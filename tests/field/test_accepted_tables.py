"""The tables of docs/inputs.md and docs/models.md say what the code accepts: each row is tried, each type has a row."""

import array
import dataclasses
import enum
import re
import uuid
from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pytest
from tests.support.binding import bound
from tests.support.servers.shared import ROOT

from gnomon_consumer.joiner.pairs.feature_layout import kind_of
from gnomon_consumer.labels import files, values
from gnomon_consumer.scorer.worker import models
from gnomon_consumer.scorer.worker.columns import columns
from gnomon_consumer.scorer.worker.models import onnx, protocol, sidecar
from gnomon_producer.errors import Dropped
from gnomon_schemas import drawing
from gnomon_schemas.arrow import arrow_schema, bare
from gnomon_schemas.errors import SchemaError
from gnomon_schemas.features import LOGICAL, FeatureSchema
from gnomon_schemas.texts import NotTextError, text_of


def table(page: str, first_cell: str) -> list[list[str]]:
    """Return the rows of the table whose first heading is this, in a page of the docs, as cells."""
    lines = (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith(f"| {first_cell} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return rows


class Level(enum.IntEnum):
    LOW = 1


class Five(enum.IntEnum):
    FIVE = 5


class Letter(enum.Enum):
    B = "B"


class Plan(enum.Enum):
    FREE = "free"
    GOLD = "gold-plus"


class Port(enum.Enum):
    ZRH = "ZRH"


@dataclasses.dataclass
class Address:
    city: str


NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
US = 1_767_355_200_000_000
ID = uuid.UUID(int=7)
Tried = tuple[Any, Any, str, Any]
"""A type as Python or Avro, a value, what carries it, and the value that a model gets."""


def logical(name: str) -> dict[str, str]:
    return {"type": LOGICAL[name], "logicalType": name}


TYPES: dict[str, list[Tried]] = {
    "`bool`, `numpy.bool_`": [
        (bool, True, "boolean", True),
        (np.bool_, np.True_, "boolean", True),
        ("boolean", False, "boolean", False),
    ],
    "`int`, `IntEnum`, `Literal[1, 2]`, `numpy.int64`, `numpy.uint32`": [
        (int, 2**53 + 1, "long", 2**53 + 1),
        (Level, Level.LOW, "long", 1),
        (Literal[1, 2], 2, "long", 2),
        (np.int64, np.int64(5), "long", 5),
        (np.uint32, np.uint32(2**32 - 1), "long", 2**32 - 1),
        ("long", 5.0, "long", 5),
    ],
    "`numpy.int32` and smaller": [
        *((kind, kind(7), "int", 7) for kind in (np.int8, np.int16, np.int32, np.uint8, np.uint16)),
        ("int", 7, "int", 7),
    ],
    "`float`, `int | float`, `numpy.float64`": [
        (float, 0.1, "double", 0.1),
        (int | float, 3, "double", 3.0),
        (np.float64, 0.1, "double", 0.1),
        ("double", 1, "double", 1.0),
        (["int", "double"], 2, "double", 2.0),
        (["long", "float"], 2, "double", 2.0),
    ],
    "`numpy.float32`, `numpy.float16`": [
        (np.float32, 0.5, "float", 0.5),
        (np.float16, np.float16(0.5), "float", 0.5),
        ("float", 0.5, "float", 0.5),
    ],
    "`Decimal`": [(Decimal, Decimal("12.50"), "double", 12.5), ("double", Decimal("12.5"), "double", 12.5)],
    "`str`, `numpy.str_`, an Enum or Literal whose texts are not Avro names": [
        (str, "ü", "string", "ü"),
        (np.str_, np.str_("a"), "string", "a"),
        (Plan, Plan.GOLD, "string", "gold-plus"),
        (Literal["a-b", "c"], "a-b", "string", "a-b"),
        ("string", "x", "string", "x"),
    ],
    "Enum or Literal of texts": [
        (Port, Port.ZRH, "enum", "ZRH"),
        (Literal["a", "b"], "b", "enum", "b"),
        ({"type": "enum", "name": "E", "symbols": ["A", "B"]}, "B", "enum", "B"),
    ],
    "`datetime` with a time zone": [
        (datetime, NOON, "timestamp-micros", US),
        (logical("timestamp-micros"), NOON, "timestamp-micros", US),
        (logical("timestamp-millis"), NOON, "timestamp-millis", US // 1000),
    ],
    "`datetime` without one (`.avsc` only)": [
        (logical("local-timestamp-micros"), NOON.replace(tzinfo=None), "local-timestamp-micros", US),
        (logical("local-timestamp-millis"), NOON.replace(tzinfo=None), "local-timestamp-millis", US // 1000),
    ],
    "`date`": [(date, date(2026, 1, 2), "date", 20_455), (logical("date"), date(2026, 1, 2), "date", 20_455)],
    "`time`": [
        (time, time(8, 30), "time-micros", 30_600_000_000),
        (logical("time-micros"), time(8, 30), "time-micros", 30_600_000_000),
        (logical("time-millis"), time(8, 30), "time-millis", 30_600_000),
    ],
    "`UUID`": [(uuid.UUID, ID, "uuid", str(ID)), (logical("uuid"), ID, "uuid", str(ID))],
    "`list[X]`, `tuple[X, …]`, `Sequence[X]`, `NDArray` of bool, number, text": [
        (list[float], [0.5], "array of double", [0.5]),
        (tuple[int, ...], (1, 2), "array of long", [1, 2]),
        (Sequence[str], ["a"], "array of string", ["a"]),
        (list[bool], [True], "array of boolean", [True]),
        (npt.NDArray[np.float64], np.array([0.5]), "array of double", [0.5]),
        ({"type": "array", "items": "int"}, [1], "array of int", [1]),
        ({"type": "array", "items": "float"}, [0.5], "array of float", [0.5]),
    ],
    "`dict[str, number]`": [
        (dict[str, int], {"x": 1}, "map of long", {"x": 1}),
        (dict[str, float], {"x": 0.5}, "map of double", {"x": 0.5}),
        *(
            ({"type": "map", "values": one}, {"x": 1}, f"map of {one}", {"x": 1})
            for one in ("int", "long", "float", "double")
        ),
    ],
    "a nested class (dataclass, TypedDict, NamedTuple, pydantic, attrs, msgspec)": [
        (Address, Address("Zürich"), "string", "Zürich"),
        (
            {"type": "record", "name": "R", "fields": [{"name": "city", "type": "string"}]},
            {"city": "Bern"},
            "string",
            "Bern",
        ),
    ],
    "`X | None`, `NotRequired[X]` of a TypedDict": [
        (str | None, "a", "string", "a"),
        (["null", "string"], "a", "string", "a"),
        (["string", "null"], "a", "string", "a"),
    ],
    "`None`": [(type(None), None, "null", None), ("null", None, "null", None)],
}
GETS = {"boolean": "b", "integer": "i", "number": "f", "text": "O", "list": "bifO", "mapping (callable models)": "O"}
STORED = {
    "0 or 1": "numeric",
    "number": "numeric",
    "microseconds": "numeric",
    "days": "numeric",
    "text": "text",
    "JSON": "text",
}


def schema_of(kind: Any) -> FeatureSchema:
    if isinstance(kind, str | dict | list):
        return FeatureSchema.of({"x": kind})
    return FeatureSchema.of(dataclasses.make_dataclass("Given", [("x", kind)]))


@pytest.mark.parametrize("row", table("inputs.md", "Python"), ids=lambda row: row[0])
def test_each_type_of_features(row: list[str]) -> None:
    python, avro, gets, stored = row
    for kind, value, written, given_to_model in TYPES[python]:
        schema = schema_of(kind)
        (feature,) = schema.features
        assert feature.written == written
        nested = "record" in avro
        if not nested and "null" not in avro:
            assert written.split(" of ")[0] in avro or (isinstance(kind, list) and "union" in avro), written
        fields = dict.fromkeys([feature.field], *bound(schema, {"x": value}).values())
        as_captured = arrow_schema(bare(schema.live.json)).field("features").type
        column = columns(pa.array([fields], as_captured), schema.features)[feature.name]
        wanted = GETS.get(gets)
        assert wanted is None or column.values.dtype.kind in wanted, (kind, column.values.dtype)
        got = (
            column.values[0].tolist()
            if column.values.ndim > 1 or hasattr(column.values[0], "tolist")
            else column.values[0]
        )
        if written == "null":
            assert column.missing is None or column.missing[0]
        elif isinstance(given_to_model, dict):
            assert dict(got) == given_to_model
        else:
            assert got == given_to_model
        kept = next((place for words, place in STORED.items() if stored.startswith(words)), None)
        assert kept is None or kind_of(feature) == kept


def test_each_type_of_the_code_has_a_row() -> None:
    rows = table("inputs.md", "Python")
    assert [row[0] for row in rows] == list(TYPES)
    python, avro = " ".join(row[0] for row in rows), " ".join(row[1] for row in rows)
    for kind in drawing._TYPES:
        assert f"`{getattr(kind, '__name__', kind)}`".replace("NoneType", "None") in python, kind
    smaller = {"int8", "int16", "uint8", "uint16"}  # "and smaller"
    for name in drawing._NUMPY.keys() - smaller - {"bool"}:
        assert f"`numpy.{name}`" in python, name
    for name in drawing._SEQUENCES - {"MutableSequence"}:
        assert f"`{name}[X" in python, name
    kinds = {"boolean", "int", "long", "float", "double", "string", "enum", "array", "map", "record", "null"}
    for name in kinds | LOGICAL.keys():
        assert f"`{name}`" in avro, name


REFUSED: dict[str, list[Any]] = {
    "`bytes`": ["bytes", bytes],
    "`fixed`": [{"type": "fixed", "name": "X", "size": 2}],
    "`decimal`": [{"type": "bytes", "logicalType": "decimal", "precision": 4}],
    "unions of other types": [["int", "string"], ["null", "int", "string"], int | str],
    "arrays of arrays or of nulls": [
        {"type": "array", "items": {"type": "array", "items": "int"}},
        {"type": "array", "items": "null"},
        {"type": "array", "items": ["null", "int"]},
        list[list[int]],
        list[int | None],
    ],
    "maps of texts": [{"type": "map", "values": "string"}, dict[str, str]],
    "sets": [set[str], frozenset[int]],
}


def test_types_that_are_refused() -> None:
    page = " ".join((ROOT / "docs/inputs.md").read_text(encoding="utf-8").split())
    sentence = page[page.index("Gnomon refuses these types") :].partition(". ")[0]
    for words, kinds in REFUSED.items():
        assert words in sentence
        for kind in kinds:
            with pytest.raises(SchemaError, match="'x'"):
                schema_of(kind)


GIVEN: dict[tuple[str, str], list[tuple[Any, Any, Any]]] = {
    ("no key, `None`, `pandas.NA`, `NaT`", "a nullable feature"): [
        (["null", "double"], one, None) for one in (None, pd.NA, pd.NaT)
    ],
    ("NaN", "a `float` or `double`"): [("double", float("nan"), "NaN"), (["null", "float"], np.float32("nan"), "NaN")],
    ("NaN", "any other nullable feature"): [
        (["null", one], float("nan"), None) for one in ("string", "long", "boolean")
    ],
    ('`5.0`, `numpy.int8(5)`, `Decimal("5")`, an `IntEnum` member', "a `long`"): [
        ("long", one, 5) for one in (5.0, np.int8(5), Decimal(5), Five.FIVE)
    ]
    + [("long", one, Dropped) for one in (5.5, 2.0**53 + 2)],
    ("an Enum member", "an `enum` or `string`"): [
        ("string", Plan.GOLD, "gold-plus"),
        (TYPES["Enum or Literal of texts"][2][0], Letter.B, "B"),
    ],
    ("NumPy scalars and arrays, `array.array`, a pandas Series", "numbers, texts, lists"): [
        ("double", np.float32(0.5), 0.5),
        ("string", np.str_("a"), "a"),
        ({"type": "array", "items": "double"}, np.array([0.5]), [0.5]),
        ({"type": "array", "items": "double"}, array.array("d", [0.5]), [0.5]),
        ({"type": "array", "items": "long"}, pd.Series([1]), [1]),
    ],
    ("text, bytes, boolean", "a number"): [("double", one, Dropped) for one in ("1", b"1", True)],
    ("a `datetime` without a time zone", "a `timestamp`"): [
        (logical("timestamp-micros"), NOON.replace(tzinfo=None), Dropped)
    ],
}


@pytest.mark.parametrize("row", table("inputs.md", "given")[:8], ids=lambda row: row[0])
def test_each_row_of_what_is_given(row: list[str]) -> None:
    for kind, value, becomes in GIVEN[row[0], row[1]]:
        schema = schema_of(kind)
        if becomes is Dropped:
            assert "refused" in row[2]
            with pytest.raises(Dropped, match="x"):
                bound(schema, {"x": value})
            continue
        (found,) = bound(schema, {"x": value}).values()
        assert (
            (found != found) if becomes == "NaN" else (list(found) if isinstance(becomes, list) else found) == becomes
        )
    assert len(table("inputs.md", "given")) == len(GIVEN)


TEXTS: dict[str, list[tuple[Any, Any]]] = {
    "text": [("a", "a"), ("007", "007"), (np.str_("ü"), "ü")],
    "bytes": [(b"a", "a"), (np.bytes_(b"a"), "a"), (bytearray(b"a"), "a")],
    "an Enum member": [(Plan.GOLD, "gold-plus"), (Level.LOW, "1"), (Port.ZRH, "ZRH")],
    "array, list or tuple of one value": [
        (np.array(["a"]), "a"),
        (np.array("a"), "a"),
        (np.array(3), "3"),
        (["a"], "a"),
        (("a",), "a"),
        ([[7]], "7"),
        (pd.Series(["a"]), "a"),
    ],
    "integer, whole float or Decimal": [
        (1.0, "1"),
        (10**30, str(10**30)),
        (Decimal("5.00"), "5"),
        (np.int8(3), "3"),
        (np.float32(2), "2"),
        (-0.0, "0"),
        (np.uint64(2**64 - 1), str(2**64 - 1)),
    ],
    "other float or Decimal": [
        (0.1, "0.1"),
        (np.float32(0.1), "0.1"),
        (Decimal("1.10"), "1.1"),
        (np.float16(0.5), "0.5"),
    ],
    "boolean": [(True, "True"), (np.False_, "False")],
    "date, time, datetime": [
        (date(2026, 1, 2), "2026-01-02"),
        (time(8, 30), "08:30:00"),
        (NOON, "2026-01-02T12:00:00+00:00"),
        (pd.Timestamp("2026-01-02"), "2026-01-02T00:00:00"),
    ],
    "UUID, IP address, ObjectId and other types with their own text form": [(ID, str(ID)), (Path("a/b"), "a/b")],
    "several values, an empty list, mapping, set, NaN, NaT, infinity, float beyond 2^53, any other object": [
        (one, NotTextError)
        for one in (
            ["a", "b"],
            [],
            np.array([1, 2]),
            {"a": 1},
            {1},
            float("nan"),
            np.float32("nan"),
            pd.NaT,
            pd.NA,
            np.datetime64("NaT"),
            float("inf"),
            Decimal("inf"),
            2.0**60,
            object(),
            1j,
            b"\xff",
            "\ud800",
        )
    ],
}


def texts_table() -> list[list[str]]:
    page = (ROOT / "docs/inputs.md").read_text(encoding="utf-8")
    lines = page[page.index("| given | text |") :].splitlines()[2:]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[: lines.index("")]]


def test_each_row_of_texts() -> None:
    rows = texts_table()
    assert [row[0] for row in rows if "`None`" not in row[0]] == list(TEXTS)
    for given, becomes in rows:
        for value, text in TEXTS.get(given, []):
            if text is NotTextError:
                assert "the error names the field" in becomes
                with pytest.raises(NotTextError, match="segment"):
                    text_of("segment", value)
            else:
                assert text_of("segment", value) == text, given


LABELS: dict[str, tuple[list[Any], list[Any]]] = {
    "`request_id`": (["a", 7.0, b"a"], ["", None, ["a", "b"]]),
    "`value`": ([1, 0.5, "0.5", "", float("nan"), None], [float("inf"), "x", "1e999"]),
    "`label`": (["a", 1.0, True, "", None], [["a", "b"], {}]),
    "`relevance`": ([[0.5, 1], None], [[None], [float("inf")], "x", {}]),
    "`items`": ([None], [["a"], [None], {}]),
    "`source`": (["a", None, ""], [["a", "b"]]),
    "`observed_at` (required in a file), `occurred_at`": (
        ["2026-01-02", "2026-01-02T03:04:05+01:00", date(2026, 1, 2), NOON, US],
        [US // 1000, US // 10**6, "x", True],
    ),
}


def test_each_row_of_labels() -> None:
    rows = table("inputs.md", "field")
    assert [row[0] for row in rows] == list(LABELS)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row[0])} == set(files.FIELDS)
    for row in rows:
        taken, refused = LABELS[row[0]]
        for name in re.findall(r"`(\w+)`", row[0]):
            for value in (*taken, *refused):
                given = {"request_id": "r", "observed_at": "2026-01-02", "value": 1.0, "label": "a", name: value}
                label = files._label(Path("f"), 1, given, dict(zip(given, given, strict=True)), "f", values.Formats())
                wrong = isinstance(label, files.RowError)
                assert wrong == any(value is one for one in refused), (name, value, label)


def test_the_tables_of_models() -> None:
    keys = [re.match(r"`(\w+)", name) for row in table("models.md", "key") for name in row[0].split(", ")]
    assert {key[1] for key in keys if key} == set(sidecar._READERS)
    page = (ROOT / "docs/models.md").read_text(encoding="utf-8")
    for word in (*sidecar.ROLES, *sidecar.TASKS):
        assert re.search(rf"[`,: ]{word}[`,]", page), word
    forms = " ".join(row[0] for row in table("models.md", "`--model`"))
    assert {"onnx", "native", "callable", "server"} == set(get_args(models.ModelKind))
    for form in (
        "FILE.onnx",
        "`MLmodel`",
        "module:factory",
        "http://",
        *(f"`{one}:FILE`" for one in models._LIBRARIES),
    ):
        assert form in forms
    assert {row[0] for row in table("models.md", "role")} == set(sidecar.ROLES)


def test_each_type_of_a_models_input_has_a_row() -> None:
    named = " ".join(row[0] for row in table("models.md", "input"))
    for declared in onnx._DTYPES:
        name = declared.removeprefix("tensor(").removesuffix(")")
        ranged = {"int16": "int8", "int32": "int8", "uint16": "uint8", "uint32": "uint8"}.get(
            name, name
        )  # `int8` … `int64`
        assert f"`{ranged}`" in named, declared
    same = {np.dtype(one) for one in onnx._DTYPES.values()}
    assert {np.dtype(one) for one in protocol._DTYPES.values()} == same, "a server's types are those of the table too"
