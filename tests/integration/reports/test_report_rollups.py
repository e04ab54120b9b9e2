"""The joiner's rollups, and the reports over them, equal the results from the pairs themselves, on random pairs."""

import math
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg.types.json import Jsonb
from tests.support.report_database import START, Database, roll_up, sample

from gnomon_consumer.database.connections import engine_for
from gnomon_consumer.joiner.pairs.rollup import COUNTS, SUMS
from gnomon_consumer.reports import Question, ask
from gnomon_migrations import runner

Row = dict[str, Any]
TOLERANCE = 0.05
ZONE = "Europe/Zurich"


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        made = Database(connection)
        made.add_stream(value_tolerance=TOLERANCE)
        made.add_deployment()
        yield made


def random_pairs(rng: np.random.Generator, n: int) -> list[Row]:
    """Return labels, values, lists, none of them or a mixture; NaN and infinity; failures that also have an answer."""
    rows = []
    for i in range(n):
        kind = rng.choice(["label", "value", "items", "mixed", "nothing"], p=[0.4, 0.3, 0.1, 0.15, 0.05])
        row: Row = {
            "request_id": f"r{i}",
            "event_time": START + timedelta(seconds=int(rng.integers(0, 4 * 86400))),
            "cluster": [None, "a", "b", "c"][rng.integers(4)],
            "stratum": str(rng.choice(["", "JFK", "LGA"])),
            "segments": Jsonb({"origin": str(rng.choice(["JFK", "LGA"]))}),
            "inclusion_probability": float(rng.choice([1.0, 0.5, 0.05])),
            "capture_probability": float(rng.choice([1.0, 0.25])),
            "live_error_kind": str(rng.choice(["exception", "timeout"])) if rng.random() < 0.1 else None,
            "outcome": str(rng.choice(["scored", "failed", "timed_out"], p=[0.8, 0.1, 0.1])),
        }
        for side in ("live", "shadow"):
            has = {
                "label": (True, True, False),
                "value": (False, True, False),
                "items": (False, False, True),
                "nothing": (False, False, False),
                "mixed": tuple((rng.random(3) < 0.5).tolist()),
            }[str(kind)]
            value = float(
                rng.choice([rng.random(), 0.5, math.nan, math.inf, -math.inf], p=[0.7, 0.15, 0.07, 0.05, 0.03])
            )
            row[f"{side}_label"] = str(rng.choice(["on_time", "late"])) if has[0] else None
            row[f"{side}_value"] = value if has[1] else None
            row[f"{side}_items"] = [str(item) for item in rng.permutation(["x", "y"])] if has[2] else None
        rows.append(row)
    return rows


@pytest.mark.parametrize("seed", range(6))
def test_long_periods_read_what_the_pairs_say(db: Database, seed: int) -> None:
    rows = random_pairs(np.random.default_rng(seed), 300)
    db.add_pairs(rows)
    roll_up(db, rows, TOLERANCE)
    for unit in ("all", "day", "hour"):
        for row in ask(db.connection, "timeline", Question("s", time_zone=ZONE, extra={"unit": unit})).rows[:6]:
            inside = {} if unit == "all" else {"since": row["at"], "until": row["at"] + timedelta(**{f"{unit}s": 1})}
            check_against_the_pairs(db, row, Question("s", time_zone=ZONE, **inside))
    (whole,) = ask(db.connection, "timeline", Question("s", time_zone=ZONE, extra={"unit": "all"})).rows
    for unit in ("hour", "weekday", "day"):
        parts = ask(db.connection, "coverage", Question("s", time_zone=ZONE, extra={"slice": unit})).rows
        for name in ("seen", "sampled", "scored", "failed", "timed_out"):
            assert sum(part[name] for part in parts) == whole[name]


def check_against_the_pairs(db: Database, row: Row, question: Question) -> None:
    """Estimates, effective n and the errors by row and day of one row of the timeline, computed from the pairs."""
    (agreement,) = ask(db.connection, "agreement", question).rows
    errors = {(e["metric"], e["side"]): e for e in ask(db.connection, "errors", question).rows}
    assert row["sampled"] == errors["error", "live"]["n"] == row["scored"] + row["failed"] + row["timed_out"]
    assert row["n_effective"] == pytest.approx(errors["error", "live"]["n_effective"])
    for ours, exact, error in (
        ("agreement", {**agreement, "rate": agreement["agreement"]}, "agreement_se"),
        ("error_rate", errors["error", "shadow"], "error_rate_se"),
        ("live_error_rate", errors["error", "live"], None),
        ("mean_difference", {"rate": agreement["mean_difference"]}, None),
    ):
        assert row[ours] == (None if exact["rate"] is None else pytest.approx(exact["rate"], abs=1e-12)), ours
        if error is not None and exact["rate"] is not None:
            by_row = exact["se_row"] if exact["n"] > 1 else None
            if by_row is not None:  # the timeline has no number of rows, hence no factor for few rows
                by_row *= ((exact["n"] - 1) / exact["n"]) ** 0.5
                assert row[error] == pytest.approx(max(by_row, exact["se_day"] or 0.0), abs=1e-9), error


def both_ways(db: Database, name: str, **narrowed: Any) -> tuple[list[Row], list[Row]]:
    """Return the rows of a report from the rollups, and from the pairs."""
    asked = [
        ask(db.connection, name, Question("s", **narrowed, extra={"exact": exact})).rows for exact in ("no", "yes")
    ]
    return list(asked[0]), list(asked[1])


# Columns that the rollups cannot have (the clusters), and columns computed from them.
BY_CLUSTER = {"interval_by", "se_cluster", "standard_error", "low", "high", "kappa_se", "kappa_low", "kappa_high",
              "mean_difference_se", "mean_absolute_difference_se", "mean_difference_low", "mean_difference_high",
              "mean_absolute_difference_low", "mean_absolute_difference_high",
              "se_period", "period_low", "period_high", "kappa_se_period", "kappa_period_low", "kappa_period_high",
              "status"}  # fmt: skip
PERIOD = {name for name in BY_CLUSTER if "period" in name}


def same(rolled: list[Row], exact: list[Row], apart: set[str]) -> None:
    """Compare every column of every row, floats except for rounding (a variance of 0 leaves the root of it)."""
    assert len(rolled) == len(exact)
    for one, other in zip(rolled, exact, strict=True):
        for name in one.keys() - apart:
            expected = pytest.approx(other[name], rel=1e-9, abs=1e-7) if isinstance(other[name], float) else other[name]
            assert one[name] == expected, (name, one)


@pytest.mark.parametrize("seed", range(6))
def test_what_the_rollups_say_is_what_the_pairs_say(db: Database, seed: int) -> None:
    rows = random_pairs(np.random.default_rng(100 + seed), 400)
    db.add_pairs(rows)
    roll_up(db, rows, TOLERANCE)
    for period in ({}, {"since": START + timedelta(hours=30), "until": START + timedelta(hours=67)}):
        for name in ("agreement", "confusion", "errors"):
            same(*both_ways(db, name, **period, **({} if name == "confusion" else {"time_zone": ZONE})), BY_CLUSTER)


def test_without_clusters_the_intervals_are_the_same(db: Database) -> None:
    rows = [{**row, "cluster": None} for row in random_pairs(np.random.default_rng(7), 400)]
    db.add_pairs(rows)
    roll_up(db, rows, TOLERANCE)
    for name in ("agreement", "errors"):
        rolled, exact = both_ways(db, name)
        assert {row["interval_by"] for row in rolled} == {"rows, days"}
        assert {row["interval_by"] for row in exact} == {"clusters, days"}
        same(rolled, exact, {"interval_by", "se_cluster", "status"} | PERIOD)


def test_of_one_cell_the_error_of_the_period_is_that_of_its_rows(db: Database) -> None:
    """Except for the factor n/(n-1), which sums by hour cannot know for each cell."""
    s = sample(np.random.default_rng(9), 200)
    rows = [{**row, "inclusion_probability": 0.25} for row in s.rows()]
    db.add_pairs(rows)
    roll_up(db, rows)
    (rolled,), (exact,) = both_ways(db, "agreement")
    for name in ("se_period", "kappa_se_period"):
        assert rolled[name] == pytest.approx(exact[name] * (199 / 200) ** 0.5, rel=1e-9)
    for one, other in zip(*both_ways(db, "errors"), strict=True):
        assert one["se_period"] == pytest.approx((other["se_period"] or 0) * (199 / 200) ** 0.5, rel=1e-9)


def test_size_bids_which_way_and_a_reader_may_overrule_it(db: Database) -> None:
    rows = sample(np.random.default_rng(3), 60).rows()
    db.add_pairs(rows)
    roll_up(db, rows, TOLERANCE)

    def way(**question: Any) -> str:
        return str(ask(db.connection, "agreement", Question("s", **question)).rows[0]["interval_by"])

    assert way() == "clusters, days"
    assert way(extra={"exact": "no"}) == "rows, days"
    db.connection.execute("update gnomon.rollups set sampled = 100000")
    assert way() == "rows, days"
    assert way(extra={"exact": "yes"}) == "clusters, days"
    # Questions that rollups cannot answer: a segment, a part of an hour. One day is not many pairs.
    assert way(segment={"origin": "JFK"}) == "clusters, days"
    assert way(since=START + timedelta(minutes=30)) == "clusters, days"
    assert way(since=START, until=START + timedelta(hours=8)) == "clusters"


def test_no_number_is_made_of_nothing(db: Database) -> None:
    for name in ("agreement", "confusion", "errors"):
        rolled, exact = both_ways(db, name)
        assert rolled == exact
        assert {row["status"] for row in rolled} <= {
            "no pair in this period", "no pair with two labels in this period"}  # fmt: skip


def test_the_upgrade_adds_up_the_pairs_that_are_there(db: Database, database_url: str) -> None:
    rows = random_pairs(np.random.default_rng(8), 300)
    db.add_pairs(rows)
    roll_up(db, rows, TOLERANCE)
    numbers = f"select hour, stratum, {', '.join((*COUNTS, *SUMS))} from gnomon.rollups order by 1, 2"
    labels = "select * from gnomon.rollup_labels order by 1, 2, 3, 4"
    before = [db.connection.execute(statement).fetchall() for statement in (numbers, labels)]
    # The tables as revision 0004 left them.
    new = [name for name in (*COUNTS, *SUMS) if name == "valued" or name.startswith(("both_failed", "squared_weight"))]
    db.connection.execute("drop schema report_v1, gnomon_estimators cascade")
    later = ("events", "promotion_intents", "promotions", "verdicts", "plans", "rollup_labels", "cohort_latencies")
    db.connection.execute("drop function gnomon.refuse_change() cascade")
    db.connection.execute(f"drop table {', '.join(f'gnomon.{name}' for name in later)} cascade")
    for table, columns in (
        ("pairs", ["probe_probability"]),
        ("cells", ["probed", "probe_probability"]),
        ("windows", ["probe_approximate"]),
        ("streams", ["relative_tolerance", "task", "positive_class", "negative_class", "classes", "time_zone"]),
    ):
        db.connection.execute(f"alter table gnomon.{table} {', '.join(f'drop column {name}' for name in columns)}")
    kept = ("report", "se_period", "period_low", "period_high")
    db.connection.execute(f"alter table gnomon.cohort_estimates {', '.join(f'drop column {name}' for name in kept)}")
    db.connection.execute(f"alter table gnomon.rollups {', '.join(f'drop column {name}' for name in new)}")
    db.connection.execute("update gnomon.alembic_version set version_num = '0004'")
    assert runner.upgrade(engine_for(database_url))
    for statement, rows_before in zip((numbers, labels), before, strict=True):
        after = db.connection.execute(statement).fetchall()
        assert len(after) == len(rows_before) > 10
        for one, other in zip(after, rows_before, strict=True):
            assert one == tuple(pytest.approx(x, abs=1e-9) if isinstance(x, float) else x for x in other)
