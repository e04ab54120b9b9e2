"""`gnomon report skew`: a wrong but plausible column shows, by the amount that NumPy computes; drift sees nothing."""

import csv
import io
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet
import pytest
from numpy.typing import NDArray
from psycopg.types.json import Jsonb
from tests.support.command import Command
from tests.support.estimators import reach, small
from tests.support.report_database import START, Database, to_ten_digits

from gnomon_consumer.reference.build import store
from gnomon_consumer.reference.profile import profile
from gnomon_consumer.reports import Question, ask
from gnomon_consumer.reports.files import read_table
from gnomon_consumer.reports.skew import StoredFeature, chosen
from gnomon_schemas.errors import ConfigurationError

ROWS = 600
FEATURES = (("balance", "numeric", 1), ("age", "numeric", 2), ("branch", "text", 1), ("note", "text", 2))


class Bank:
    """Weighted, clustered pairs of a bank whose live service sent the previous customer's `balance`."""

    def __init__(self) -> None:
        random = np.random.default_rng(7)
        self.balance = random.lognormal(7, 1, ROWS).round(2)
        self.sent = np.roll(self.balance, 1)
        self.age = random.integers(18, 90, ROWS).astype(float)
        self.branch = random.choice(["Zürich, HB", "Basel", 'Genève "Cornavin"'], ROWS)
        self.weight = 1 / random.choice([1.0, 0.5, 0.1], ROWS)
        self.cluster = random.integers(0, 80, ROWS)
        self.day = random.integers(0, 5, ROWS)

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "request_id": f"r{i}", "event_time": START + timedelta(days=int(self.day[i]), minutes=i),
                "cluster": f"c{self.cluster[i]}", "inclusion_probability": float(1 / self.weight[i]),
                "segments": Jsonb({"half": "first" if i < ROWS / 2 else "second"}),
                "features_numeric": [float(self.sent[i]), float(self.age[i])],
                "features_text": [str(self.branch[i]), None],
            }
            for i in range(ROWS)
        ]  # fmt: skip

    def recomputed(self) -> pa.Table:
        """Return a batch job's values; the last ten pairs are missing, and three requests were never sampled."""
        kept = ROWS - 10
        return pa.table({
            "request_id": [*(f"r{i}" for i in range(kept)), "x1", "x2", "x3"],
            "balance": [*self.balance[:kept], 1.0, 2.0, None],
            "age": [*self.age[:kept], 30.0, 31.0, 32.0],
            "branch": [*self.branch[:kept], "Basel", "Basel", None],
        })  # fmt: skip


@pytest.fixture
def bank() -> Bank:
    return Bank()


@pytest.fixture
def db(database_url: str, bank: Bank) -> Iterator[Database]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        made = Database(connection)
        made.add_stream()
        made.add_deployment()
        made.add("feature_columns", [
            {"stream_id": made.stream_id, "name": name, "kind": kind, "position": position, "avro_type": "x"}
            for name, kind, position in FEATURES
        ])  # fmt: skip
        made.add_pairs(bank.rows())
        yield made


def skew(command: Command, url: str, file: str, *options: str) -> dict[str, dict[str, Any]]:
    environment = {"GNOMON_DATABASE_URL": url, "GNOMON_STREAM": "s"}
    ended = command("report", "skew", file, "--format", "json", *options, env=environment)
    assert ended.returncode == 0, ended.stderr
    return {row["feature"]: row for row in json.loads(ended.stdout)["rows"]}


def mean_and_errors(y: NDArray[np.float64], w: Any, cluster: Any, day: Any) -> tuple[float, float, float, float]:
    """Return the Hájek mean, and its linearised standard errors by row, cluster and day."""
    mean = float(np.average(y, weights=w))
    r = w * (y - mean) / w.sum()
    sums = (np.array([r[group == one].sum() for one in np.unique(group)]) for group in (cluster, day))
    by_row, by_cluster, by_day = (float(np.sqrt(small(each**2))) for each in (r, *sums))
    return mean, by_row, by_cluster, by_day


def together(by_row: float, by_cluster: float, by_day: float) -> float:
    """Return the error of clusters and days; effects of a cluster within a day are unknown here, rows replace them."""
    squares = by_cluster**2, by_day**2, by_cluster**2 + by_day**2 - by_row**2
    return float(max(squares) ** 0.5)


def test_a_shifted_column_shows_here_and_nowhere_else(
    command: Command, db: Database, database_url: str, bank: Bank
) -> None:
    frozen = [profile("balance", "numeric", bank.balance.tolist(), bank.weight)]
    store(db.connection, "s", "training", "test", {"": frozen})
    drift = {row["feature"]: row for row in ask(db.connection, "drift", Question("s")).rows}
    assert drift["balance"]["status"] == "ok"

    pyarrow.parquet.write_table(bank.recomputed(), command.cwd / "batch.parquet")
    found = skew(command, database_url, "batch.parquet")
    assert list(found) == ["balance", "age", "branch"]  # the worst first
    row, kept = found["balance"], slice(0, ROWS - 10)
    w, cluster, day = bank.weight[kept], bank.cluster[kept], bank.day[kept]
    difference = (bank.balance - bank.sent)[kept]
    differs = np.abs(difference) > 1e-6 * np.maximum(1, np.maximum(bank.balance, bank.sent)[kept])
    mean, *errors = mean_and_errors(differs.astype(float), w, cluster, day)
    assert row["mismatch"] == pytest.approx(mean)
    assert row["mismatch"] > 0.99
    assert [row["se_row"], row["se_cluster"], row["se_day"]] == pytest.approx(errors, abs=1e-12)
    assert row["standard_error"] == pytest.approx(together(*errors), abs=1e-12)
    assert row["low"] < row["mismatch"] <= row["high"]
    for name, y in (("size", np.abs(difference)), ("shift", difference)):
        mean, *parts = mean_and_errors(y[differs], w[differs], cluster[differs], day[differs])
        error = together(*parts)
        clusters, days = len(np.unique(cluster[differs])), len(np.unique(day[differs]))
        two_way = max(parts[1] ** 2 + parts[2] ** 2 - parts[0] ** 2, 0) ** 0.5
        half = max(reach(clusters - 1) * parts[1], reach(days - 1) * parts[2], reach(min(clusters, days) - 1) * two_way)
        assert (row[name], row[f"{name}_se"]) == (pytest.approx(mean), pytest.approx(error))
        assert (row[f"{name}_low"], row[f"{name}_high"]) == (
            pytest.approx(mean - half), pytest.approx(mean + half)
        )  # fmt: skip
    furthest = int(np.abs(difference).argmax())
    assert (row["example"], row["largest"]) == (f"r{furthest}", pytest.approx(abs(difference[furthest])))
    assert (float(row["example_live"]), float(row["example_file"])) == (bank.sent[furthest], bank.balance[furthest])
    assert (row["n"], row["only_live"], row["only_file"]) == (ROWS - 10, 10, 3)
    for same in (found["age"], found["branch"]):
        assert (same["mismatch"], same["size"], same["example"], same["status"]) == (0, None, None, "ok")
        assert 0 < same["high"] < 0.05  # nothing differed, which is not certainty


def test_every_format_gives_the_same_rows_and_a_table_counts_who_met_nobody(
    command: Command, db: Database, database_url: str, bank: Bank
) -> None:
    table = bank.recomputed()
    pyarrow.parquet.write_table(table, command.cwd / "batch.parquet")
    pyarrow.csv.write_csv(table, command.cwd / "batch.csv")
    lines = "".join(json.dumps(row) + "\n" for row in table.to_pylist())
    (command.cwd / "batch.jsonl").write_text(lines, encoding="utf-8")
    options = ("--segment", "half=first", "--since", "2013-04-02")
    expected = skew(command, database_url, "batch.parquet", *options)
    assert 0 < expected["age"]["n"] < ROWS / 2
    for file in ("batch.csv", "batch.jsonl"):
        assert to_ten_digits(skew(command, database_url, file, *options)) == to_ten_digits(expected)
    environment = {"GNOMON_DATABASE_URL": database_url, "GNOMON_STREAM": "s"}
    shown = command("report", "skew", "batch.csv", env=environment).stdout
    assert "10 pairs are not in the file; 3 rows of the file have no pair" in shown
    assert "balance" in shown
    rows = command("report", "skew", "batch.csv", "--format", "csv", env=environment).stdout
    assert [row["feature"] for row in csv.DictReader(io.StringIO(rows))] == ["balance", "age", "branch"]


def test_missing_nan_and_huge_values_and_the_tolerance(command: Command, db: Database, database_url: str) -> None:
    live = [1.0, None, float("nan"), float("inf"), 1e308, 100.0, float("nan")]
    file = [1.0, 2.0, float("nan"), float("inf"), -1e308, 100.5, None]
    db.connection.execute("delete from gnomon.pairs")
    db.add_pairs([
        {"request_id": str(i).zfill(3), "features_numeric": [value, 0.0], "features_text": ["", None]}
        for i, value in enumerate(live)
    ])  # fmt: skip
    pyarrow.parquet.write_table(
        pa.table({"request_id": [str(i).zfill(3) for i in range(7)], "balance": file, "branch": [None] * 7}),
        command.cwd / "f.parquet",
    )
    found = skew(command, database_url, "f.parquet")
    balance = found["balance"]
    assert balance["mismatch"] == pytest.approx(4 / 7)  # missing, huge, 100.5, missing
    assert (balance["size"], balance["largest"], balance["example"]) == (0.5, 0.5, "005")
    assert found["branch"]["mismatch"] == 0  # an empty text is a missing one
    close = skew(command, database_url, "f.parquet", "--tolerance", "0.01", "--feature", "balance")
    assert (list(close), close["balance"]["mismatch"]) == (["balance"], pytest.approx(3 / 7))
    # Leading zeros of an identifier survive CSV.
    (command.cwd / "f.csv").write_text("request_id,balance\n000,1\n001,\n")
    assert skew(command, database_url, "f.csv")["balance"]["n"] == 2
    nobody = (command.cwd / "g.csv").write_text("request_id,balance\nnobody,1\n")
    assert nobody
    row = skew(command, database_url, "g.csv")["balance"]
    assert (row["n"], row["mismatch"], row["only_live"], row["only_file"]) == (0, None, 7, 1)
    assert row["status"] == "no request of the file is among the pairs"
    empty = skew(command, database_url, "g.csv", "--since", "2014-01-01")["balance"]
    assert (empty["status"], empty["only_live"], empty["only_file"]) == ("no pair in this period", 0, 1)


COLUMNS = {name: StoredFeature(kind, position) for name, kind, position in FEATURES}


@pytest.mark.parametrize(
    ("name", "content", "wanted", "words"),
    [
        ("missing.csv", None, (), "No such file"),
        ("a.csv", "id,balance\n1,2\n", (), "has no column request_id, only id, balance"),
        (
            "a.csv",
            "request_id,salary\n1,2\n",
            (),
            "salary is not a feature of the stream (it has balance, age, branch, ",
        ),
        ("a.csv", "request_id,balance\n1,2\n", ("age",), "has no column age"),
        ("a.csv", "request_id\n1\n", (), "no column other than request_id"),
        ("a.csv", "request_id,balance\n1,much\n", (), "balance holds string, but the stream's feature is a number"),
        ("a.jsonl", '{"request_id": "1", "branch": 7}\n', (), "branch holds int64, but the stream's feature is text"),
        ("a.jsonl", '{"request_id": 1.5, "balance": 7}\n', (), "request_id holds double, not text"),
        ("a.jsonl", '{"request_id": null, "balance": 7}\n{"request_id": "1"}\n', (), "1 rows have no request_id"),
        ("a.csv", "request_id,balance\n1,2\n2,3\n1,4\n", (), "request_id 1 occurs in more than one row"),
        ("a.parquet", "request_id", (), "Parquet"),
    ],
)
def test_what_cannot_be_compared_is_named(
    tmp_path: Path, name: str, content: str | None, wanted: tuple[str, ...], words: str
) -> None:
    file = tmp_path / name
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigurationError, match=re.escape(words)) as refused:
        chosen(read_table(file, ["request_id", "branch"]), COLUMNS, wanted, str(file))
    assert str(refused.value).startswith(str(file))


def test_a_bad_file_ends_with_status_2_and_one_line(command: Command, db: Database, database_url: str) -> None:
    (command.cwd / "a.csv").write_text("request_id,salary\n1,2\n")
    ended = command("report", "skew", "a.csv", "--stream", "s", env={"GNOMON_DATABASE_URL": database_url})
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        "gnomon: a.csv: salary is not a feature of the stream (it has age, balance, branch, note);"
        " --feature NAME compares some of the columns\n"
    )
