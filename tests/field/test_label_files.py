"""Label files as warehouses, spreadsheets and pandas write them."""

import bz2
import gzip
import json
import random
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gnomon_consumer.labels.files import RowError, read_labels
from gnomon_consumer.labels.store import LabelStore
from gnomon_consumer.labels.values import Formats, number
from gnomon_schemas.codec import Record
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.texts import NotTextError

DAY = datetime(2026, 1, 2, tzinfo=UTC)
DAY_US = int(DAY.timestamp()) * 1_000_000


def read(path: Path, formats: Formats | None = None, **options: Any) -> list[Record]:
    """Return the labels of a file without errors."""
    found = []
    for _, label in read_labels(path, options.pop("columns", {}), path.name, formats, **options):
        assert not isinstance(label, RowError), str(label)
        found.append(label)
    return found


def faults(path: Path, formats: Formats | None = None) -> list[str]:
    return [str(label) for _, label in read_labels(path, {}, path.name, formats) if isinstance(label, RowError)]


CSV = b"request_id,value,observed_at\na,1,2026-01-02\nb,0.5,2026-01-02T00:00:00Z\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.csv", CSV),
        ("labels.csv.gz", gzip.compress(CSV, mtime=0)),
        ("labels.csv", gzip.compress(CSV, mtime=0)),
        ("labels.csv.bz2", bz2.compress(CSV)),
        ("labels.csv", b"\xef\xbb\xbf" + CSV),
        ("labels.csv", CSV.replace(b",", b";")),
        ("labels.csv", CSV.replace(b",", b"\t")),
        ("labels.csv", CSV.replace(b"\n", b"\r\n")),
        ("labels.csv", b'"request_id";"value";"observed_at"\n"a";"1";"2026-01-02"\n"b";"0.5";"2026-01-02"\n'),
    ],
)
def test_a_csv_file_however_it_is_packed(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    found = read(tmp_path / name)
    assert [(label["request_id"], label["value"], label["observed_at"]) for label in found] == [
        ("a", 1.0, DAY_US),
        ("b", 0.5, DAY_US),
    ]


def test_json_lines_may_be_compressed(tmp_path: Path) -> None:
    lines = "".join(json.dumps({"request_id": n, "label": "x", "observed_at": "2026-01-02"}) + "\n" for n in range(3))
    (tmp_path / "labels.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    assert [label["request_id"] for label in read(tmp_path / "labels.jsonl.gz")] == ["0", "1", "2"]


def test_a_truncated_archive_is_said(tmp_path: Path) -> None:
    many = b"".join(b"%d,1,2026-01-02\n" % random.Random(n).randrange(10**12) for n in range(20_000))
    whole = gzip.compress(b"request_id,value,observed_at\n" + many)
    (tmp_path / "labels.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigurationError, match=r"labels\.csv\.gz"):
        read(tmp_path / "labels.csv.gz")


def test_a_german_spreadsheet(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("request_id;value;observed_at\na;1.234,5;02.01.2026\n")
    assert "give --date-format" in faults(path, Formats(decimal_comma=True))[0]
    assert "--decimal-comma" in faults(path, Formats("%d.%m.%Y"))[0]
    (found,) = read(path, Formats("%d.%m.%Y", decimal_comma=True))
    assert (found["value"], found["observed_at"]) == (1234.5, DAY_US)


@pytest.mark.parametrize("wrong", ["dd.mm.yyyy", "%Y-%m", "%Q", "%H:%M"])
def test_a_date_format_without_a_day_is_refused(wrong: str) -> None:
    with pytest.raises(ConfigurationError, match="--date-format"):
        Formats(wrong)


def test_ids_and_classes_that_pandas_made_floats_of(tmp_path: Path) -> None:
    frame = pd.DataFrame({"request_id": [1.0, 2.0, 3.0], "label": [1.0, None, 0.0], "value": [None, 0.5, None]})
    frame["observed_at"] = "2026-01-02"
    frame.to_csv(tmp_path / "labels.csv", index=False)
    frame.to_parquet(tmp_path / "labels.parquet")
    frame.to_json(tmp_path / "labels.jsonl", orient="records", lines=True)
    for name in ("labels.csv", "labels.parquet", "labels.jsonl"):
        found = read(tmp_path / name)
        assert [(one["request_id"], one["label"]) for one in found] == [("1", "1"), ("2", None), ("3", "0")], name


def test_versions_and_codes_are_no_floats(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("request_id,label,observed_at\n007,1.10,2026-01-02\n1.0,2.0,2026-01-02\n")
    found = read(tmp_path / "labels.csv")
    assert [(one["request_id"], one["label"]) for one in found] == [("007", "1.10"), ("1.0", "2.0")]


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"value": float("inf")}, "value"),
        ({"value": "-Infinity"}, "infinite"),
        ({"value": "yes"}, "'yes' is not a number"),
        ({"label": ["late"], "value": None, "items": 3}, "items"),
        ({"label": ["late", "early"]}, "label: one value is expected"),
        ({"label": {"late": 0.5}}, "label: a text is expected, not dict"),
        ({"request_id": ["a", "b"]}, "request_id"),
        ({"request_id": 2.0**60}, "request_id: a float beyond"),
        ({"relevance": [1.0, None], "items": ["a", "b"]}, "relevance: an item of the list is missing"),
        ({"relevance": [1.0], "items": ["a", "b"]}, "2 items and 1 relevances"),
        ({"items": ["a"]}, "1 items and 0 relevances"),
        ({"relevance": [float("inf")]}, "relevance"),
        ({"value": None}, "neither value nor label nor relevance"),
        ({"value": float("nan")}, "neither value nor label nor relevance"),
        ({"observed_at": 1_795_885_071_597}, "1795885071597 looks like milliseconds"),
        ({"observed_at": 1_795_885_071}, "looks like seconds"),
        ({"occurred_at": 1_795_885_071_597_000_000}, "looks like nanoseconds"),
        ({"occurred_at": "1795885071597"}, "looks like milliseconds"),
        ({"occurred_at": "20260102"}, "--date-format %Y%m%d"),
        ({"occurred_at": True}, "is not a time"),
        ({"occurred_at": 0}, "is not a time"),
        ({"observed_at": None}, "it has no observed_at"),
    ],
)
def test_a_row_that_is_no_label_says_why(cells: dict[str, Any], words: str, tmp_path: Path) -> None:
    row = {"request_id": "a", "value": 1.0, "observed_at": "2026-01-02"} | cells
    (tmp_path / "labels.jsonl").write_text(json.dumps(row))
    (fault,) = faults(tmp_path / "labels.jsonl")
    assert words in fault
    assert "row 1" in fault


def test_times_of_every_type_that_parquet_has(tmp_path: Path) -> None:
    moments = {
        "ns": pa.array([DAY_US * 1000 + 1], pa.timestamp("ns", "UTC")),
        "us": pa.array([DAY_US], pa.timestamp("us")),
        "ms": pa.array([DAY_US // 1000], pa.timestamp("ms", "Europe/Zurich")),
        "day": pa.array([date(2026, 1, 2)]),
        "integer": pa.array([DAY_US]),
        "text": pa.array(["2026-01-02T01:00:00+01:00"]),
    }
    for name, times in moments.items():
        pq.write_table(pa.table({"request_id": ["a"], "value": [1], "observed_at": times}), tmp_path / "labels.parquet")
        assert read(tmp_path / "labels.parquet")[0]["observed_at"] == DAY_US, name


def test_a_column_that_is_there_twice(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("request_id,value,value,observed_at\na,1,2,2026-01-02\n")
    with pytest.raises(ConfigurationError, match="two columns are named 'value'"):
        read(tmp_path / "labels.csv")


def test_a_damaged_file_is_refused_by_an_error_of_ours(tmp_path: Path) -> None:
    """Bytes and cells of good files are changed; the result is labels, errors of rows, or one error."""
    draw, unnamed = random.Random(7), 0
    row = {
        "request_id": "a",
        "value": 1.0,
        "label": "x",
        "relevance": [0.5],
        "items": ["i"],
        "observed_at": "2026-01-02",
    }
    junk: list[Any] = [
        None,
        True,
        -1,
        1e400,
        2**70,
        "",
        "\0",
        "nan",
        "[",
        [],
        {},
        [[1]],
        "1;2",
        "\ud800",
        "2026-13-45",
        "9" * 40,
    ]
    table = pa.table({"request_id": ["a", "b"], "value": [1.0, 2.0], "observed_at": [DAY, DAY]})
    pq.write_table(table, tmp_path / "good.parquet")
    contents = [CSV, CSV.replace(b",", b";"), gzip.compress(CSV), (tmp_path / "good.parquet").read_bytes()]
    for attempt in range(4000):
        if attempt % 2:
            changed = row | {name: draw.choice(junk) for name in draw.sample(sorted(row), draw.randint(1, 3))}
            path = tmp_path / "labels.jsonl"
            path.write_bytes(json.dumps(changed).encode())
        else:
            content = bytearray(draw.choice(contents))
            for _ in range(draw.randint(1, 4)):
                content[draw.randrange(len(content))] = draw.choice([0, 10, 34, 44, 59, 255, draw.randrange(256)])
            path = tmp_path / ("labels.parquet" if content[:3] == b"PAR" else "labels.csv")
            path.write_bytes(content)
        try:
            for _, label in read_labels(path, {}, "fuzz"):
                if not isinstance(label, RowError):
                    assert label["request_id"]
                    assert label["observed_at"] is not None
        except ConfigurationError as refusal:
            unnamed += path.name not in str(refusal)
    assert not unnamed, "a refusal names the file"


@pytest.fixture
def store(database_url: str) -> Iterator[LabelStore]:
    with psycopg.connect(database_url) as connection:
        yield LabelStore(connection, "s")


def stored(database_url: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(database_url) as connection:
        return connection.execute(
            "select request_id, extract(microsecond from observed_at)::int, value, label from gnomon.labels"
            " order by 1, 2"
        ).fetchall()


def label(request_id: str, value: float | None = None, text: str | None = None, at: int = DAY_US) -> Record:
    return {
        "request_id": request_id, "value": value, "label": text, "relevance": None, "items": None,
        "occurred_at": None, "observed_at": at, "source": "test",
    }  # fmt: skip


def test_conflicts_are_counted_and_kept_as_versions(store: LabelStore, database_url: str) -> None:
    labels = [label("a", 1.0), label("a", 0.0), label("a", 1.0), label("b", 1.0), label("a", 2.0), label("b", text="x")]
    for conflicts, new in ((3, 5), (0, 0)):
        result = store.load(labels, "f", "0", 0, None)
        assert (result.received, result.stored, result.conflicts) == (6, new, conflicts)
    assert store.load([label("a", 0.0)], "f", "1", 0, None).stored == 0, "known as a conflict"
    result = store.load([label("a", 3.0), label("c", 1.0)], "f", "2", 0, None)
    assert (result.stored, result.conflicts, result.duplicates) == (2, 1, 0)
    assert stored(database_url) == [
        ("a", 0, 1.0, None),
        ("a", 1, 0.0, None),
        ("a", 2, 2.0, None),
        ("a", 3, 3.0, None),
        ("b", 0, 1.0, None),
        ("b", 1, None, "x"),
        ("c", 0, 1.0, None),
    ]


def test_a_nul_is_stored_as_the_replacement_character(store: LabelStore, database_url: str) -> None:
    assert store.load([label("a\0b", text="x\0")], "f", "0", 0, None).stored == 1
    assert stored(database_url) == [("a\ufffdb", 0, None, "x\ufffd")]


def test_a_text_is_one_value_in_files_too(tmp_path: Path) -> None:
    (tmp_path / "labels.jsonl").write_text('{"request_id": ["a"], "label": [1.0], "observed_at": "2026-01-02"}\n')
    (found,) = read(tmp_path / "labels.jsonl")
    assert (found["request_id"], found["label"]) == ("a", "1")
    assert issubclass(NotTextError, ValueError)


@pytest.mark.parametrize(("cell", "value"), [("0,5", 0.5), ("1.234,5", 1234.5), ("1.234.567", 1234567.0), ("-3", -3.0)])
def test_numbers_with_a_decimal_comma(cell: str, value: float) -> None:
    assert number("value", cell, Formats(decimal_comma=True)) == value


@pytest.mark.parametrize("cell", ["0.5", "1.5e3", "12.34", "1.23,4", "1,234.5"])
def test_a_decimal_point_next_to_a_decimal_comma_is_refused(cell: str) -> None:
    """Without the points it would be a number ten or a hundred times as large."""
    with pytest.raises(ValueError, match="a point that is not a thousands separator"):
        number("value", cell, Formats(decimal_comma=True))


def test_a_key_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.jsonl").write_text('{"request_id": "a", "value": 1, "value": 2, "observed_at": "2026-01-02"}')
    with pytest.raises(ConfigurationError, match="line 1: not JSON: the key 'value' occurs twice"):
        read(tmp_path / "labels.jsonl")
