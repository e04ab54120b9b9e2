"""Timeline, producers, resources and feature state, by hand and against the pairs they sum."""

import json
import uuid
from datetime import timedelta
from typing import Any

import numpy as np
import psycopg
import pytest
from benchmarks.harness import traffic
from tests.support.command import Command
from tests.support.report_database import ROLLUP, START, Database, sample

from gnomon_consumer.reports import REPORTS, Question, ask


def rows(db: Database, name: str, **question: Any) -> list[dict[str, Any]]:
    return list(ask(db.connection, name, Question("s", **question)).rows)


UNSAID = (
    "drift",
    "skew",
    "error_kinds",
    "feature_state",
    "feature_health",
    "resources",
    "heterogeneity",
)  # none of it was filled in


def test_the_timeline_agrees_with_the_pairs(db: Database) -> None:
    s = sample(np.random.default_rng(2))
    db.add_pairs(s.rows())
    db.connection.execute(ROLLUP)
    (whole,) = rows(db, "timeline", extra={"unit": "all"})
    (exact,) = rows(db, "agreement")
    assert whole["agreement"] == pytest.approx(exact["agreement"])
    assert whole["agreement_se"] == pytest.approx(max(exact["se_row"], exact["se_day"]))
    days = rows(db, "timeline")
    agrees = (s.live > 0.5) == (s.shadow > 0.5)
    for number, row in enumerate(days):
        inside = s.day == number
        assert row["at"] == START + timedelta(days=number)
        assert row["seen"] == inside.sum()
        assert row["agreement"] == pytest.approx(np.average(agrees[inside], weights=s.weight[inside]))
        assert row["agreement_low"] <= row["agreement"] <= row["agreement_high"]
        (exact,) = rows(db, "agreement", since=row["at"], until=row["at"] + timedelta(days=1))
        few = (exact["n"] / (exact["n"] - 1)) ** 0.5  # the timeline has no number of rows
        assert row["agreement_se"] * few == pytest.approx(exact["se_row"])
    hours = rows(db, "coverage", extra={"slice": "hour"})
    assert sum(row["seen"] for row in hours) == 400


def test_producers_say_what_is_missing(db: Database) -> None:
    runs = {"clean": (100, 100, True), "lossy": (100, 90, True), "killed": (100, 95, False), "silent": None}
    for number, (name, run) in enumerate(runs.items()):
        identity = uuid.UUID(int=number)
        received, highest = (run[1], 99) if run else (7, 6)
        db.add(
            "producer_tallies",
            [
                {
                    "deployment_id": db.deployments["new"],
                    "source_partition": 0,
                    "producer_id": identity,
                    "received": received,
                    "lowest_sequence": 0,
                    "highest_sequence": highest,
                    "first_captured_at": START,
                    "last_captured_at": START,
                }
            ],
        )
        if run:
            db.add(
                "producer_reports",
                [
                    {
                        "stream_id": db.stream_id,
                        "producer_id": identity,
                        "service": name,
                        "host": "h",
                        "pid": 1,
                        "started_at": START + timedelta(seconds=number),
                        "reported_at": START,
                        "offered": run[0],
                        "delivered": run[1],
                        "closed": run[2],
                    }
                ],
            )
    found = {row["service"]: row for row in rows(db, "producers")}
    assert {name: row["status"] for name, row in found.items()} == {
        "clean": "ok",
        "lossy": "captures were lost",
        "killed": "unclean: not closed, its tail is unknown",
        None: "received, but it never reported",
    }
    assert (found["lossy"]["missing"], found["lossy"]["tail"], found["killed"]["tail"]) == (10, 0, None)


def test_feature_state_shows_another_dictionary_and_a_cold_cache(db: Database) -> None:
    state = {
        "live_feature_version": "7",
        "live_cache_hits": 9,
        "live_cache_misses": 1,
        "live_label": "a",
        "shadow_label": "a",
    }
    db.add_pairs(
        [{**state, "shadow_feature_version": "7", "shadow_cache_hits": 9, "shadow_cache_misses": 1}] * 3
        + [{**state, "shadow_feature_version": "6", "shadow_cache_hits": 1, "shadow_cache_misses": 9}]
    )
    same, other = rows(db, "feature_state")
    assert (same["share"], same["live_hit_ratio"], same["shadow_hit_ratio"], same["status"]) == (0.75, 0.9, 0.9, "ok")
    assert (other["share"], other["shadow_hit_ratio"]) == (0.25, 0.1)
    assert other["status"] == "the two sides read different feature dictionaries"


def test_predictions_and_the_bounds_on_them(db: Database, database_url: str, command: Command) -> None:
    s = sample(np.random.default_rng(9), 200)
    broken = s.rows()[0] | {
        "inclusion_probability": 1.0,
        "shadow_value": float("nan"),
        "shadow_label": None,
        "live_value": 0.5,
        "live_label": None,
    }
    db.add_pairs([*s.rows(), broken])
    found = {(row["side"], row["label"]): row for row in rows(db, "predictions")}
    whole, late = found["shadow", None], found["shadow", "late"]
    assert (whole["lowest"], whole["highest"], whole["not_finite"]) == (s.shadow.min(), s.shadow.max(), 1)
    assert whole["mean"] == pytest.approx(np.average(s.shadow, weights=s.weight))
    assert late["share"] == pytest.approx(np.sum(s.weight * (s.shadow > 0.5)) / (s.weight.sum() + 1))
    assert late["share_low"] < late["share"] < late["share_high"]
    environment = {"GNOMON_DATABASE_URL": database_url, "GNOMON_STREAM": "s"}

    def check(*bounds: str, **more: str) -> tuple[int, list[dict[str, Any]], str]:
        arguments = [part for bound in bounds for part in ("--bound", bound)]
        done = command("report", "check", "--json", *arguments, env=environment | more)
        return done.returncode, json.loads(done.stdout or "[]"), done.stderr

    kept = ["predictions.highest[side=shadow,label=] <= 1", "agreement.n >= 200", "predictions.share[label=late] > 0.1"]
    status, findings, _ = check(GNOMON_REPORT__BOUNDS=json.dumps(kept))
    assert (status, len(findings)) == (0, 4)
    status, findings, _ = check("agreement.agreement >= 0.99", "quality.estimate[metric=auc,side=live] > -1")
    assert (status, [finding["state"] for finding in findings]) == (1, ["broken", "unknown"])
    status, _, error = check()
    assert (status, error.count("no bound given")) == (2, 1)


def speaks(row: dict[str, Any]) -> bool:
    """Return whether a row has its numbers, whatever its interval is based on."""
    return row["status"] == "ok" or "interval" in row["status"]


def test_every_report_speaks_of_real_rows_too(db: Database) -> None:
    s = sample(np.random.default_rng(4), 120)
    db.add_pairs(s.rows())
    db.add_labels(s.labels(), START + timedelta(days=40))
    db.connection.execute(ROLLUP)
    spoken = {name for name in REPORTS if any(speaks(row) for row in rows(db, name))}
    # The test created no ledger, no producers, no features, and only one deployment.
    assert set(REPORTS) - spoken <= {
        "coverage", "ledger", "producers", "resources", "feature_state", "error_kinds", "contrast", "drift",
        "feature_health", "skew", "reference",
    }  # fmt: skip


def test_readers_need_no_grant_on_the_tables(db: Database, database_url: str) -> None:
    """Views and functions answer a role without access to the tables."""
    db.add_pairs(sample(np.random.default_rng(6), 30).rows())
    role = f"reader_{uuid.uuid4().hex[:8]}"
    db.connection.execute(f"create role {role}")
    try:
        for schema in ("report_v1", "gnomon_estimators"):
            db.connection.execute(f"grant usage on schema {schema} to {role}")
            db.connection.execute(f"grant select on all tables in schema {schema} to {role}")
            db.connection.execute(f"grant execute on all functions in schema {schema} to {role}")
        db.connection.execute(f"set role {role}")
        for name in REPORTS:
            assert rows(db, name), name
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            db.connection.execute("select from gnomon.pairs")
    finally:
        db.connection.execute("reset role")
        db.connection.execute(f"drop owned by {role}")
        db.connection.execute(f"drop role {role}")


def test_a_day_is_found_by_index(database_url: str) -> None:
    """Sixty days with statistics: every report on one of them reads through indexes, including labels.

    The server's own counts of scans prove it, also for functions that are planned separately. The classes are declared:
    otherwise precision takes the name of the positive one from up to 100,000 labels, which is a scan too.
    """
    with psycopg.connect(database_url) as connection:
        if connection.info.server_version < 150_000:
            pytest.skip("PostgreSQL before 15 does not count scans at once")
    end = traffic.fill(database_url, 30_000)
    since = end - timedelta(days=3)
    day = Question(traffic.STREAM, since=since, until=since + timedelta(days=1))
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("update gnomon.streams set positive_class = 'yes', negative_class = 'no'")

        def scans(kind: str) -> dict[str, int]:
            connection.execute("select pg_stat_force_next_flush()")
            connection.execute("select pg_stat_clear_snapshot()")
            found = connection.execute(
                f"select relname, {kind} from pg_stat_user_tables where relname ~ '^pairs_' or relname = 'labels'"
            )
            return {name: int(count or 0) for name, count in found}

        whole, by_index = scans("seq_scan"), scans("idx_scan")
        for name, report in REPORTS.items():
            if "since" in report.arguments:
                assert any(speaks(row) for row in ask(connection, name, day).rows) or name in UNSAID, name
                assert scans("seq_scan") == whole, name
        used = {table for table, count in scans("idx_scan").items() if count > by_index[table]}
        assert {f"pairs_{since:%Y_%m}", "labels"} <= used


def test_workers_share_the_scans_of_the_exact_estimates(db: Database) -> None:
    """If the planner finds parallel workers worthwhile, every report of many pairs uses some.

    The server's own count of workers proves it, also for functions that are planned separately.
    """
    if db.connection.info.server_version < 180_000:
        pytest.skip("PostgreSQL before 18 does not count workers")
    s = sample(np.random.default_rng(31), 300)
    db.add_pairs(s.rows())
    db.add_labels(s.labels(), START + timedelta(days=40))
    db.connection.execute("analyze gnomon.pairs, gnomon.labels")
    for setting in ("min_parallel_table_scan_size", "parallel_setup_cost", "parallel_tuple_cost"):
        db.connection.execute(f"set {setting} = 0")

    def launched() -> int:
        db.connection.execute("select pg_stat_force_next_flush()")
        db.connection.execute("select pg_stat_clear_snapshot()")
        return int(
            db.value("select parallel_workers_launched from pg_stat_database where datname = current_database()")
        )

    for name in ("agreement", "errors", "confusion", "latency", "quality"):
        before = launched()
        extra = {"horizon": "1 day"} if name == "quality" else {"exact": "yes"}
        assert any(row["status"] == "ok" for row in rows(db, name, extra=extra)), name
        assert launched() >= before + (2 if name == "confusion" else 4), name


def test_a_period_reads_its_own_partition_by_index(db: Database) -> None:
    """The functions are inlined: event time prunes partitions and the primary key finds the rest."""
    db.connection.execute(
        "update gnomon.streams set replay_from = '2013-01-01', replay_until = '2014-01-01' where stream_id = %s",
        [db.stream_id],
    )
    for month in (4, 5, 6):
        assert db.value("select gnomon.ensure_partition(%s, %s)", db.stream_id, START.replace(month=month))
    db.connection.execute("set enable_seqscan = off")
    db.connection.execute("set enable_bitmapscan = off")
    for call in (
        "gnomon_estimators.pairs_of('s', 'new', '2013-05-03', '2013-05-04', null)",
        "gnomon_estimators.labelled('s', 'new', '2013-05-03', '2013-05-04', null, '1 day')",
    ):
        lines = db.connection.execute(f"explain (costs off) select * from {call}").fetchall()
        plan = "\n".join(line for (line,) in lines)
        assert "Function Scan on pairs_of" not in plan, plan
        assert "Function Scan on labelled" not in plan, plan
        assert "pairs_2013_05" in plan
        assert "pairs_2013_04" not in plan
        assert "pairs_2013_06" not in plan
        conditions = [line for line in plan.splitlines() if "Index Cond" in line and "event_time" in line]
        assert any("deployment_id" in line for line in conditions), plan
