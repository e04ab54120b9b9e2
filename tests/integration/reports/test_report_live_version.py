"""The live model is redeployed while a challenger runs: reports of pairs can be restricted to one of its versions."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from psycopg.types.json import Jsonb
from tests.support.command import Ended
from tests.support.report_database import START, Database, roll_up, sample

from gnomon_consumer.reports import REPORTS, Question, ask

HORIZON = timedelta(days=1)


@pytest.fixture
def two_versions(db: Database) -> Database:
    """Insert pairs: the first half of the requests answered by version 1, the second by version 2."""
    s = sample(np.random.default_rng(5), 200)
    order = sorted(range(len(s.event_time)), key=lambda at: s.event_time[at])
    version = {at: "1" if place < 100 else "2" for place, at in enumerate(order)}
    db.connection.execute("update gnomon.streams set horizons = %s", [[HORIZON]])
    rows = [{**row, "live_model_version": version[at]} for at, row in enumerate(s.rows())]
    db.add_pairs(rows)
    roll_up(db, rows)
    db.add_labels(s.labels(), START + timedelta(days=60))
    return db


@pytest.mark.parametrize("name", ["agreement", "errors", "latency", "quality", "confusion", "labels", "predictions"])
def test_a_report_of_one_version_is_that_of_its_pairs(two_versions: Database, name: str) -> None:
    db = two_versions
    both = ask(db.connection, name, Question("s")).rows
    narrowed = ask(db.connection, name, Question("s", segment={"@live_version": "2"})).rows
    db.connection.execute("delete from gnomon.pairs where live_model_version = '1'")
    alone = ask(db.connection, name, Question("s")).rows
    assert len(narrowed) == len(alone)
    for one, other in zip(narrowed, alone, strict=True):  # floats are added in another order
        assert one == {
            key: pytest.approx(value, rel=1e-9, abs=1e-12) if isinstance(value, float) else value
            for key, value in other.items()
        }
    assert narrowed != both


def test_with_a_segment_both_hold(two_versions: Database) -> None:
    def rows(segment: dict[str, str]) -> int:
        found = ask(two_versions.connection, "agreement", Question("s", segment=segment)).rows
        return int(found[0]["n"])

    parts = [rows({"@live_version": version, "origin": "JFK"}) for version in "12"]
    assert sum(parts) == rows({"origin": "JFK"})
    assert all(0 < part < rows({"@live_version": "1"}) for part in parts)
    assert rows({"@live_version": "3"}) == 0


def test_slices_and_keys_by_version(two_versions: Database) -> None:
    connection = two_versions.connection
    for slice_ in ("live_version", "segment:@live_version"):
        quality = ask(connection, "quality", Question("s", extra={"slice": slice_})).rows
        assert {row["value"] for row in quality} == {"1", "2"}
        coverage = ask(connection, "coverage", Question("s", extra={"slice": slice_})).rows
        assert [row["value"] for row in coverage] == ["1", "2"]
    keys = {row["key"] for row in ask(connection, "segments", Question("s")).rows}
    assert keys == {"origin", "@live_version"}  # shown without a request, if there are several
    connection.execute("update gnomon.pairs set live_model_version = '2'")
    assert {row["key"] for row in ask(connection, "segments", Question("s")).rows} == {"origin"}


def test_the_option_stands_where_segments_do(
    command: Callable[..., Ended], two_versions: Database, database_url: str
) -> None:
    ended = command(
        "report", "agreement", "--stream", "s", "--database-url", database_url, "--live-version", "2", "--format", "csv"
    )
    assert ended.returncode == 0
    assert ended.stdout.splitlines()[1].split(",")[3] == "100"
    for report in REPORTS.values():
        shown = command("report", report.name.replace("_", "-"), "--help").stdout
        assert ("--live-version" in shown) == ("segment" in report.arguments), report.name


def test_several_versions_are_one_remark_with_the_way_out(
    command: Callable[..., Ended], two_versions: Database, database_url: str
) -> None:
    end = two_versions.connection.execute("select min(event_time) from gnomon.pairs where live_model_version = '2'")
    until = end.fetchone()
    assert until is not None

    def asked(*arguments: str) -> str:
        ended = command("report", *arguments, "--stream", "s", "--database-url", database_url)
        assert ended.returncode == 0
        return ended.stderr

    remark = "2 versions of the live model answered in this period: 1, 2."
    for name in ("agreement", "quality", "latency"):
        assert asked(name).count(remark) == 1, name
    assert "--live-version 2" in asked("agreement")
    assert "versions" not in asked("agreement", "--live-version", "1")
    assert "versions" not in asked("agreement", "--until", until[0].isoformat())
    assert "versions" not in asked("quality", "--slice", "live_version")
    assert "versions" not in asked("coverage")


def test_names_from_a_service_do_not_control_the_terminal(
    command: Callable[..., Ended], two_versions: Database, database_url: str, tmp_path: Path
) -> None:
    hostile = "2\x1b[2J; rm"
    two_versions.connection.execute(
        "update gnomon.pairs set live_model_version = %s where live_model_version = '2'", [hostile]
    )
    two_versions.connection.execute("update gnomon.pairs set segments = %s", [Jsonb({"origin": "J\x1bK"})])
    for arguments in (
        ("agreement",),
        ("agreement", "--live-version", "3"),
        ("agreement", "--segment", "origin=X"),
        ("html", "--segment", "origin=X", "--output", str(tmp_path / "page.html")),
    ):
        ended = command("report", *arguments, "--stream", "s", "--database-url", database_url)
        assert ended.returncode == 0
        assert "\\x1b" in ended.stderr, arguments
        assert "\x1b" not in ended.stderr, arguments
    said = command("report", "agreement", "--stream", "s", "--database-url", database_url).stderr
    assert "--live-version '2\\x1b[2J; rm'" in said
    command("report", "html", "--output", str(tmp_path / "page.html"), "--stream", "s", "--database-url", database_url)
    assert "\x1b" not in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_key_of_the_service_is_no_version(db: Database) -> None:
    """A segment that the service itself calls live_version is an ordinary segment."""
    db.add_pairs(
        [{"segments": Jsonb({"live_version": name}), "live_label": "a", "shadow_label": "a"} for name in "xyy"]
    )
    found: Any = ask(db.connection, "agreement", Question("s", segment={"live_version": "y"})).rows
    assert found[0]["n"] == 2
