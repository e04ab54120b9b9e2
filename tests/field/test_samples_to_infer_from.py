"""`gnomon schemas infer` on users' files, and `gnomon schemas check` on changes that Avro's own check misses."""

import gzip
import json
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from gnomon_consumer.feature_schemas import compare, infer
from gnomon_schemas.errors import ConfigurationError, SchemaError
from gnomon_schemas.features import FeatureSchema


def inferred(path: Path) -> dict[str, Any]:
    record = infer(path, "F")
    assert FeatureSchema.of(json.loads(json.dumps(record))).record == record, "what it writes can be read"
    return {feature.name: feature.written for feature in FeatureSchema.of(record).features}


@pytest.mark.parametrize(
    ("name", "content", "types"),
    [
        ("ids.csv", b"account\n18446744073709551615\n1\n", {"account": "string"}),
        ("ids.csv", b"account\n-9223372036854775809\n", {"account": "string"}),
        ("zip.csv", b"zip,n\n01234,1\n8001,2\n", {"zip": "string", "n": "long"}),
        ("ids.jsonl", b'{"account": 9223372036854775808}\n{"account": 1}\n', {"account": "string"}),
        ("hex.csv", b"code\n0x1F\n0x2A\n", {"code": "string"}),
        ("times.jsonl", b'{"at": "2026-01-02"}\n', {"at": "string"}),
        ("large.jsonl", b'{"x": 1e300}\n{"x": 1}\n', {"x": "double"}),
        ("index.csv", b",a\n0,1.5\n1,2\n", {"a": "double"}),
        ("semi.csv", b"a;b\n1;x\n", {"a": "long", "b": "string"}),
        ("packed.csv.gz", gzip.compress(b"a,b\n1,2.5\n", mtime=0), {"a": "long", "b": "double"}),
        ("names.csv", b"unit price,gr\xc3\xb6\xc3\x9fe\n1.5,2\n", {"unit price": "double", "größe": "long"}),
        ("times.csv", b"d,t\n2020-01-01,2020-01-01T10:00:00Z\n", {"d": "date", "t": "timestamp-micros"}),
        ("nested.jsonl", b'{"home": {"city": "x", "no 1": 2}, "words": ["a"]}\n',
         {"home.city": "string", "home.no 1": "long", "words": "array of string"}),
    ],
)  # fmt: skip
def test_a_column_is_what_it_means(name: str, content: bytes, types: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert inferred(tmp_path / name) == types


def test_types_that_parquet_has(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "account": [1, 2],
            "kind": pd.Categorical(["x", "y"]),
            "at": pd.to_datetime(["2020", "2021"]),
            "count": np.array([1, 2], dtype="uint64"),
            "day": [date(2020, 1, 1)] * 2,
            "visits": pd.array([1, None], dtype="Int64"),
        }
    ).set_index("account")
    frame.to_parquet(tmp_path / "frame.parquet")
    assert inferred(tmp_path / "frame.parquet") == {
        "kind": "string", "at": "local-timestamp-micros", "count": "long", "day": "date", "visits": "long",
    }  # fmt: skip
    table = {
        "embedding": pa.array([[1.0, 2.0]], pa.list_(pa.float32(), 2)),
        "counts": pa.array([[("a", 1.0)]], pa.map_(pa.string(), pa.float64())),
        "price": pa.array([Decimal("1.5")]),
        "half": pa.array([np.float16(1)], pa.float16()),
        "times": pa.array([[datetime(2020, 1, 1)]]),  # noqa: DTZ001 - a column without a zone
    }
    parquet.write_table(pa.table(table), tmp_path / "table.parquet")
    assert inferred(tmp_path / "table.parquet") == {
        "embedding": "array of float", "counts": "map of double", "price": "double", "half": "float",
        "times": "array of local-timestamp-micros",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"hash": pa.array([2**64 - 1], pa.uint64())}, "'hash' is of type uint64"),
        ({"raw": pa.array([b"x"])}, "'raw' is of type binary"),
        ({"nothing": pa.nulls(1)}, "'nothing' has no value"),
        ({"lasts": pa.array([1], pa.duration("s"))}, "'lasts' is of type duration"),
    ],
)
def test_a_column_that_no_feature_can_be_is_named(columns: dict[str, pa.Array], words: str, tmp_path: Path) -> None:
    parquet.write_table(pa.table(columns), tmp_path / "sample.parquet")
    with pytest.raises(ConfigurationError, match=words):
        infer(tmp_path / "sample.parquet", "F")


@pytest.mark.parametrize("name", ["twice.csv", "twice.parquet"])
def test_a_column_that_is_there_twice(name: str, tmp_path: Path) -> None:
    (tmp_path / "twice.csv").write_text("a,b,a\n1,2,3\n")
    parquet.write_table(pa.Table.from_arrays([pa.array([1])] * 2, names=["a", "a"]), tmp_path / "twice.parquet")
    with pytest.raises(ConfigurationError, match="two columns named 'a'"):
        infer(tmp_path / name, "F")


def stamp(unit: str) -> dict[str, Any]:
    return {"type": "long", "logicalType": f"timestamp-{unit}"}


def plan(*symbols: str) -> FeatureSchema:
    return FeatureSchema.of(
        {"plan": {"type": "enum", "name": "Plan", "symbols": list(symbols)}, "next": ["null", "Plan"]}
    )


def test_check_names_what_differs() -> None:
    found = compare(plan("free"), plan("free", "gold"))
    assert found.backward
    assert found.forward_reasons == (
        "plan: the old version does not know the symbol 'gold'",
        "next: the old version does not know the symbol 'gold'",
    )
    for kinds in ((stamp("millis"), stamp("micros")), (["null", stamp("micros")], ["null", stamp("millis")]),
                  ("long", stamp("micros"))):  # fmt: skip
        found = compare(*(FeatureSchema.of({"at": kind}) for kind in kinds))
        assert (found.backward, found.forward) == (False, False)
        assert "at: " in found.backward_reasons[0]


def test_check_says_what_becomes_of_models() -> None:
    old = FeatureSchema.of({"price": "double"})
    added = compare(old, FeatureSchema.of({"price": "double", "visits": ["null", "long"]}))
    assert added.backward
    (line,) = added.models
    assert line.startswith("visits: captures of the old version do not have it")
    field = {"name": "unit_price", "type": "double", "aliases": ["price"]}
    renamed = compare(old, FeatureSchema.of({"type": "record", "name": "F", "fields": [field]}))
    assert renamed.backward, "the reader's alias is used"
    assert [line.partition(":")[0] for line in renamed.models] == ["unit_price"], "a model that asks for price goes on"


@pytest.mark.parametrize("name", ["ids.csv", "ids.parquet", "ids.jsonl"])
def test_ids_that_pandas_made_floats_of_are_refused(name: str, tmp_path: Path) -> None:
    """A missing value makes floats of a column, and 12345678901234567 becomes 1.2345678901234568e+16."""
    frame = pd.DataFrame({"id": [12345678901234567, None], "v": [1.5, 2.5]})
    path = tmp_path / name
    if name.endswith("parquet"):
        frame.to_parquet(path)
    elif name.endswith("csv"):
        frame.to_csv(path, index=False)
    else:
        path.write_text('{"id": 1.2345678901234568e+16, "v": 1.5}\n{"id": null, "v": 2.5}\n')
    with pytest.raises(SchemaError, match="column 'id' holds whole numbers beyond 2\\^53 as floats"):
        infer(path, "F")


def test_decimals_of_a_database_that_are_ids_are_no_doubles(tmp_path: Path) -> None:
    wide = pa.decimal128(38, 0)
    table = pa.table({
        "small": pa.array([Decimal(7), None], wide),
        "large": pa.array([Decimal(12345678901234567890), Decimal(1)], wide),
        "price": pa.array([Decimal("1.10"), Decimal(2)], pa.decimal128(9, 2)),
    })  # fmt: skip
    parquet.write_table(table, tmp_path / "ids.parquet")
    kinds = {field["name"]: field["type"] for field in infer(tmp_path / "ids.parquet", "F")["fields"]}
    assert kinds == {"small": ["null", "long"], "large": "string", "price": "double"}
