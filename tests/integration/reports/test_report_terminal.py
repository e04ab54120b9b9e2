"""Every report for a new user: a table that fits the terminal, JSON and CSV with the same rows, hints."""

import csv
import io
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import psycopg
import pytest
from rich.console import Console
from tests.support.command import Command
from tests.support.report_database import ROLLUP, START, Database, sample

from gnomon_consumer.reports import REPORTS, Answer, Question, ask
from gnomon_consumer.reports.hints import hint
from gnomon_consumer.reports.numbers import number, with_interval
from gnomon_consumer.reports.query import LIVE_VERSION
from gnomon_consumer.reports.terminal import as_csv, as_json, table
from gnomon_schemas.errors import ConfigurationError


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    """A challenger with a name as long as the demo's, and a control called control."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        made = Database(connection)
        made.add_stream(horizons=["1 day"])
        drawn = sample(np.random.default_rng(3), n=150)
        rows = [{**row, "request_id": f"20130412-DL{at}-EWR-ATL-1030"} for at, row in enumerate(drawn.rows())]
        for name, role in (("gradient-boosting", "challenger"), ("control", "control")):
            made.add_deployment(name, role)
            made.add_pairs(rows, name)
        labels = [{**label, "request_id": row["request_id"]} for label, row in zip(drawn.labels(), rows, strict=True)]
        made.add_labels(labels, START + timedelta(days=40))
        made.connection.execute(ROLLUP)
        yield made


def shown(answer: Answer, width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(table(answer))
    return console.export_text().splitlines()


def test_every_report_fits_and_gives_its_rows_back(db: Database) -> None:
    for name in REPORTS:
        answer = ask(db.connection, name, Question("s"))
        for width in (80, 120):
            lines = shown(answer, width)
            assert len(lines) > 1, name
            assert max(map(len, lines)) <= width, name
            assert not any("…" in line and not any(c.isdigit() for c in line) for line in lines), (name, width, lines)
            assert "control · control" not in "\n".join(lines)
        read = json.loads(as_json(answer))
        assert json.loads(as_json(answer, pretty=True)) == read
        assert as_json(answer, pretty=True).startswith('{\n  "report": ')
        assert read["report"] == name
        assert [set(row) for row in read["rows"]] == [set(answer.columns)] * len(answer.rows)
        written = list(csv.DictReader(io.StringIO(as_csv(answer))))
        assert len(written) == len(answer.rows)
        for row, from_json, from_csv in zip(answer.rows, read["rows"], written, strict=True):
            for key, value in row.items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    assert from_json[key] == value
                    assert float(from_csv[key]) == value
                elif isinstance(value, str):
                    assert from_json[key] == from_csv[key] == value
                elif value is None:
                    assert (from_json[key], from_csv[key]) == (None, "")


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (-0.00000001, "number", "0.0000"), (94.0, "figure", "94"), (33.37259, "figure", "33.37"),
        (4983.0, "figure", "4,983"), (timedelta(days=7), "span", "7 d"), (timedelta(hours=6), "span", "6 h"),
        (timedelta(days=2, hours=12), "span", "2 d 12 h"), (timedelta(0), "span", "0 h"),
        (timedelta(minutes=90), "span", "1:30:00"), (0.999999, "share", "99.9999%"), (1, "share", "100.00%"),
    ],
)  # fmt: skip
def test_numbers_read_well(value: Any, kind: str, text: str) -> None:
    assert number(value, kind) == text


@pytest.mark.parametrize(
    ("numbers", "kind", "said"),
    [
        ((0.8349, 0.782, 0.8791), "share", ("83.5%", "78.2…87.9")),
        ((0.99996, 0.99, 1.0), "share", ("99.996%", "99.00…100.00")),
        ((-0.009, -0.0179, -0.0001), "number", ("-0.0090", "-0.0179…-0.0001")),
        ((-1e-9, -2e-9, 1e-9), "number", ("0.0000", "0.0000…0.0000")),
        ((1234.5, 1200.0, 1269.0), "number", ("1,234", "1,200…1,269")),
        ((4450.0, 620.0, 10_590.0), "µs", ("4.45 ms", "0.62…10.59 ms")),
        ((3.0e-5, 2.9e-5, 3.1e-5), "short", ("0.000030", "0.000029…0.000031")),
    ],
)  # fmt: skip
def test_a_number_has_the_digits_that_its_interval_bears(
    numbers: tuple[float, float, float], kind: str, said: tuple[str, str]
) -> None:
    assert with_interval(*numbers, kind) == said


@pytest.mark.parametrize("name", ["quality", "labels", "predictions", "producers"])
def test_long_names_fold_and_no_number_is_cut(db: Database, name: str) -> None:
    db.connection.execute("update gnomon.deployments set name = repeat('long-name-', 6) where role = 'challenger'")
    assert "…" not in " ".join(line for line in shown(ask(db.connection, name, Question("s")), 80) if "%" in line)


def test_what_is_not_there_names_what_is_or_what_brings_it(db: Database) -> None:
    def remark(name: str, stream: str = "s", **asked: Any) -> str | None:
        question = Question(stream, **asked)
        return hint(db.connection, question, list(ask(db.connection, name, question).rows))

    later = START + timedelta(days=300)
    captured = "nothing in this period; the captures are of 2013-04-01 00:00 to 2013-04-07 00:00 UTC"
    assert remark("agreement") is None
    assert remark("errors", "nowhere") == "no stream nowhere; there is s"
    assert remark("errors", deployment="new") == "no deployment new on s; there are control, gradient-boosting"
    for name in ("agreement", "latency", "coverage", "ledger", "quality", "segments", "timeline", "predictions"):
        assert remark(name, since=later) == captured, name
    assert remark("quality", extra={"horizon": "2 days"}) == "no such horizon; there is 1 d"
    db.connection.execute("delete from gnomon.labels")
    for name in ("label_delay", "quality"):
        assert "`gnomon labels load FILE`" in str(remark(name)), name
    db.connection.execute("insert into gnomon.streams (name) values ('bare')")
    for name in REPORTS:
        assert "`gnomon score` and `gnomon join`" in str(remark(name, "bare")), name


def test_the_remark_goes_to_standard_error(command: Command, db: Database, database_url: str) -> None:
    environment = {"GNOMON_DATABASE_URL": database_url, "GNOMON_STREAM": "nowhere"}
    ended = command("report", "errors", "--format", "json", env=environment)
    assert (ended.returncode, ended.stderr.strip()) == (0, "no stream nowhere; there is s")
    assert json.loads(ended.stdout)["rows"][0]["status"] == "unknown stream"
    (command.cwd / "a.csv").write_text("request_id,x\n1,2\n")
    refused = command("report", "skew", "a.csv", env=environment)
    assert (refused.returncode, refused.stderr.strip()) == (2, "gnomon: no stream nowhere; there is s")


@pytest.mark.parametrize(
    ("name", "asked", "words"),
    [
        ("agreement", {"segment": {"orgin": "JFK"}}, "the segment orgin; there is origin"),
        ("agreement", {"segment": {"origin": "JFX"}}, "origin = JFX; there are JFK, LGA"),
        ("segments", {"extra": {"key": "orgin"}}, "the segment orgin; there is origin"),
        ("quality", {"extra": {"slice": "segment:orgin"}}, "the segment orgin; there is origin"),
        ("agreement", {"segment": {"origin": "JFK"}}, None),
        ("quality", {"extra": {"slice": "segment:origin"}}, None),
    ],
)  # fmt: skip
def test_a_misspelt_segment_says_what_there_is(db: Database, name: str, asked: Any, words: str | None) -> None:
    question = Question("s", **asked)
    said = hint(db.connection, question, list(ask(db.connection, name, question).rows))
    assert said == (None if words is None else f"none of the newest requests has {words}")


def test_a_version_that_was_never_live_says_which_were(db: Database) -> None:
    for version, words in (("9", "version 9 of the live model answered none of the newest requests; there is 1"),
                           ("1", None)):  # fmt: skip
        question = Question("s", segment={LIVE_VERSION: version})
        assert hint(db.connection, question, list(ask(db.connection, "agreement", question).rows)) == words


@pytest.mark.parametrize(
    ("name", "slice_", "words"),
    [
        ("quality", "weekdy", "report quality has no slice weekdy; there are all, stratum, hour, weekday, day"),
        ("time_of_day", "segment:origin", "report time-of-day has no slice segment:origin; there are hour, weekday"),
        ("coverage", "", "report coverage has no slice ; there are limit, all"),
        ("quality", "segment:", "report quality has no slice segment:; there are all"),
    ],
)
def test_a_misspelt_slice_is_refused(db: Database, name: str, slice_: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        ask(db.connection, name, Question("s", extra={"slice": slice_}))
    assert str(refused.value).startswith(words)


def test_labels_that_fit_no_answer_are_not_called_missing(db: Database) -> None:
    """A challenger that returns no list of items, on a stream whose labels have arrived."""
    db.add_deployment("listless")
    db.add_pairs(
        [{"request_id": f"k{at}", "live_items": ["x", "y"], "live_scores": [0.1, 0.9]} for at in range(20)], "listless"
    )
    db.add_labels(
        [{"request_id": f"k{at}", "observed_at": START, "relevance": [1.0, 0.0], "items": ["x", "y"]}
         for at in range(20)],
        START + timedelta(days=40),
    )  # fmt: skip
    rows = ask(db.connection, "quality", Question("s", deployment="listless")).rows
    assert {row["status"].partition(",")[0] for row in rows} == {"labels have come"}


def test_what_holds_for_every_one_of_many_deployments_is_said_once(db: Database) -> None:
    other = Database(db.connection, "many")
    other.add_stream()
    for name in ("one", "two", "three"):
        other.add_deployment(name)
    lines = shown(ask(db.connection, "ledger", Question("many")), 80)
    assert [line.strip() for line in lines if "no window" in line] == ["every deployment: no window in this period"]
