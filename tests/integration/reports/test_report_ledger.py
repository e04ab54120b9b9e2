"""The ledger and coverage reports, and the command that prints every report."""

import csv
import io
import json
import uuid
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from tests.support.command import Command
from tests.support.report_database import START, Database, sample

from gnomon_consumer.reports import REPORTS, Question, ask


def window(db: Database, partition: int, start: int, end: int, **changes: Any) -> None:
    """Return a window in which every capture was sampled and scored, with changes to its one cell."""
    n = end - start
    cell = {"seen": n, "sampled": n, "scored": n, "failed": 0, "timed_out": 0, "dead_lettered": 0}
    cell |= {key: value for key, value in changes.items() if key in cell}
    joined = {f"joined_{name}": cell[name] for name in ("seen", "scored", "failed", "timed_out", "dead_lettered")}
    joined |= {"joined_orphaned": 0}
    joined |= {key: value for key, value in changes.items() if key in joined}
    key = {"deployment_id": db.deployments["new"], "source_partition": partition, "start_offset": start}
    gap = {"gap_reason": changes.get("gap_reason"), "gap_lost": changes.get("gap_lost", 0)}
    db.add(
        "windows",
        [
            {
                **key,
                **gap,
                "end_offset": end,
                "window_id": uuid.uuid4(),
                "tick_id": uuid.uuid4(),
                "first_captured_at": START + timedelta(hours=start // 100),
                "opened_at": START,
                "sealed_at": START,
                "close_reason": "time",
                "lag_s": 0.0,
                "seed": "0",
                "policy": "p",
                "seen": cell["seen"],
                "joined_seen": joined["joined_seen"],
                "shadow_offset": end,
                "limited_by": changes.get("limited_by"),
            }
        ],
    )
    if n and not gap["gap_lost"]:
        db.add("cells", [{**key, "stratum": changes.get("stratum", ""), "draw_probability": 1.0, **cell, **joined}])


def ledger(db: Database, **question: Any) -> dict[str, Any]:
    return dict(ask(db.connection, "ledger", Question("s", **question)).rows[0])


def test_a_closed_ledger_counts_every_capture_once(db: Database) -> None:
    window(db, 0, 0, 100, sampled=40, scored=30, failed=4, timed_out=3, dead_lettered=2, joined_orphaned=1)
    window(db, 0, 100, 200)
    window(db, 1, 0, 50)
    row = ledger(db)
    buckets = ("sampled_out", "scored", "failed", "timed_out", "dead_lettered", "orphaned")
    assert [row[name] for name in buckets] == [60, 180, 4, 3, 2, 1]
    assert sum(row[name] for name in buckets) == row["seen"] == 250
    assert (row["balanced"], row["status"], row["windows"], row["unaccounted"]) == (True, "ok", 3, 0)
    assert ledger(db, since=START + timedelta(minutes=30))["seen"] == 100


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        ({"joined_scored": 99}, {"unaccounted": 1}),
        ({"joined_seen": 98}, {"miscounted": 2}),
        ({"start": 103, "seen": 97, "sampled": 97, "scored": 97}, {"holes": 3}),
        ({"start": 95}, {"overlaps": 5}),
    ],
)
def test_a_ledger_that_does_not_close_says_so(db: Database, fault: dict[str, int], found: dict[str, int]) -> None:
    fault = dict(fault)
    window(db, 0, 0, 100)
    window(db, 0, fault.pop("start", 100), 200, **fault)
    row = ledger(db)
    assert {name: row[name] for name in found} == found
    assert (row["balanced"], row["status"]) == (False, "the ledger does not close")


def test_a_gap_is_counted_and_lowers_coverage(db: Database) -> None:
    window(db, 0, 0, 80)
    window(db, 0, 80, 100, seen=0, gap_reason="truncated", gap_lost=20)
    row = ledger(db)
    assert (row["gaps"], row["lost"], row["balanced"]) == (1, 20, True)
    coverage = ask(db.connection, "coverage", Question("s")).rows[0]
    assert (coverage["seen"], coverage["lost"], coverage["coverage"]) == (80, 20, 0.8)


def test_what_producers_lost_lowers_coverage(db: Database) -> None:
    """Within the period it counts in full; for a run that reaches beyond it, the row only reports it."""
    at = START
    window(db, 0, 0, 100, dead_lettered=10, scored=90)
    assert ask(db.connection, "coverage", Question("s")).rows[0]["coverage"] == 0.9
    runs = {1: (at, 6, 20), 2: (at - timedelta(days=2), 4, 9)}  # missing inside, offered after the last one received
    for number, (first, missing, tail) in runs.items():
        identity = uuid.UUID(int=number)
        db.add("producer_tallies", [{
            "deployment_id": db.deployments["new"], "source_partition": 0, "producer_id": identity,
            "received": 100 - missing, "lowest_sequence": 0, "highest_sequence": 99, "first_captured_at": first,
            "last_captured_at": at + timedelta(minutes=1),
        }])  # fmt: skip
        db.add("producer_reports", [{
            "stream_id": db.stream_id, "producer_id": identity, "service": "x", "host": "h", "pid": number,
            "started_at": first, "reported_at": at, "offered": 100 + tail, "delivered": 90, "closed": True,
        }])  # fmt: skip
    whole = ask(db.connection, "coverage", Question("s")).rows[0]
    assert (whole["unreceived"], whole["undated"], whole["status"]) == (39, 0, "ok")
    assert whole["coverage"] == pytest.approx(1 - (10 + 39) / (100 + 39))
    period = ask(db.connection, "coverage", Question("s", since=at - timedelta(hours=1))).rows[0]
    assert (period["unreceived"], period["undated"], period["coverage"]) == (26, 13, 1 - 36 / 126)
    assert period["status"] == "producers lost captures, when is not known"
    later = ask(db.connection, "coverage", Question("s", until=at - timedelta(days=9))).rows[0]
    assert (later["unreceived"], later["coverage"]) == (None, None)
    for row in ask(db.connection, "coverage", Question("s", extra={"slice": "stratum"})).rows:
        assert row["unreceived"] is None


def test_coverage_by_stratum_and_segment(db: Database) -> None:
    window(db, 0, 0, 100, stratum="JFK", sampled=25, scored=25)
    window(db, 0, 100, 200, stratum="LGA")
    rows = ask(db.connection, "coverage", Question("s", extra={"slice": "stratum"})).rows
    assert [(row["value"], row["sampling_fraction"], row["coverage"]) for row in rows] == [
        ("JFK", 0.25, 1),
        ("LGA", 1, 1),
    ]
    s = sample(np.random.default_rng(0), 60)
    db.add_pairs(s.rows())
    rows = ask(db.connection, "coverage", Question("s", extra={"slice": "segment:origin"})).rows
    assert {row["value"]: row["sampled"] for row in rows} == {"JFK": 40, "LGA": 20}
    assert sum(row["weight"] for row in rows) == pytest.approx(s.weight.sum())


def test_coverage_says_why_not_all_was_sampled(db: Database) -> None:
    window(db, 0, 0, 100, sampled=0, scored=0, limited_by="breaker")
    window(db, 0, 100, 200, sampled=30, scored=30, limited_by="budget")
    window(db, 1, 0, 50, sampled=10, scored=10, limited_by="budget")
    window(db, 1, 50, 60)
    rows = ask(db.connection, "coverage", Question("s", extra={"slice": "limit"})).rows
    assert {row["value"]: (row["seen"], row["sampled"]) for row in rows} == {
        "(none)": (10, 10),
        "breaker": (100, 0),
        "budget": (150, 40),
    }


def test_the_command_prints_every_report(db: Database, database_url: str, command: Command) -> None:
    s = sample(np.random.default_rng(1))
    db.add_pairs(s.rows())
    window(db, 0, 0, 400)
    environment = {"GNOMON_DATABASE_URL": database_url, "GNOMON_STREAM": "s", "COLUMNS": "100"}
    for form in ("table", "json", "csv"):
        done = command("report", "agreement", "--format", form, env=environment)
        assert (done.returncode, done.stderr) == (0, "")
        if form == "json":
            (row,) = json.loads(done.stdout)["rows"]
        elif form == "csv":
            (line,) = csv.DictReader(io.StringIO(done.stdout))
            assert float(line["agreement"]) == row["agreement"]
        else:
            assert max(map(len, done.stdout.splitlines())) <= 100
            assert "kappa" in done.stdout
    assert command("report", "ledger", "--stream", "nowhere", env=environment).stdout.count("unknown stream") == 1


def test_wrong_questions_are_usage_errors(database_url: str, command: Command) -> None:
    environment = {"GNOMON_DATABASE_URL": database_url, "GNOMON_STREAM": "s"}
    for arguments, said in (
        (("agreement", "--since", "yesterday"), "is not a valid time"),
        (("agreement", "--segment", "origin"), "not key=value"),
        (("agreement", "--time-zone", "Mars/Base"), 'time zone "Mars/Base" not recognized'),
    ):
        done = command("report", *arguments, env=environment)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
        assert said in done.stderr
    gone = command("report", "ledger", env=environment | {"GNOMON_DATABASE_URL": "postgresql://127.0.0.1:1/x"})
    assert (gone.returncode, len(gone.stderr.splitlines())) == (3, 1)


def test_every_report_answers_with_a_row(db: Database) -> None:
    for name in REPORTS:
        for stream in ("s", "nowhere"):
            rows = ask(db.connection, name, Question(stream)).rows
            assert rows, name
            assert all(row["status"] != "ok" for row in rows), name
