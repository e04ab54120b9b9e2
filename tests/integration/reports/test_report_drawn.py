"""Beyond a number of pairs some reports read a part, as if the service had captured only that."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from psycopg.types.json import Jsonb
from tests.support.report_database import START, Database, sample

from gnomon_consumer.database import maintenance
from gnomon_consumer.reports import REPORTS as CATALOGUE
from gnomon_consumer.reports import Question, ask

HORIZON = timedelta(days=30)
REPORTS = (
    "quality", "classes", "calibration", "calibration_error", "heterogeneity", "segments", "time_of_day",
    "label_bounds", "label_delay", "latency", "agreement", "errors",
)  # fmt: skip
LIMITS = ("read_at_most", "test_at_most")


def answers(db: Database, exact: str | None) -> dict[str, list[dict[str, Any]]]:
    """Every report that can read a part."""
    found = {}
    for name in REPORTS:
        extra = {"horizon": HORIZON, "exact": exact, "drawn": None if exact else "yes", "step": timedelta(hours=6)}
        known = {key: value for key, value in extra.items() if value and key in CATALOGUE[name].arguments}
        found[name] = list(ask(db.connection, name, Question("s", extra=known)).rows)
    return found


def limit(db: Database, pairs: int) -> None:
    """Let every report read about so many pairs."""
    for name in LIMITS:
        db.connection.execute(
            f"create or replace function gnomon_estimators.{name}() returns float8 language sql immutable parallel safe"
            f" as 'select {pairs}::float8'"
        )


def test_a_drawn_part_is_what_a_service_that_samples_would_have_sent(db: Database) -> None:
    drawn = sample(np.random.default_rng(11), 2000, 60)
    rng = np.random.default_rng(13)
    rows = [
        {
            **row,
            "window_id": uuid.UUID(int=1 + at % 40),
            "live_latency_us": int(rng.integers(500, 900)),
            "probe_probability": None,
            "live_error_kind": "error" if at % 29 == 0 else None,
            "outcome": "failed" if at % 31 == 0 else "scored",
        }
        for at, row in enumerate(drawn.rows())
    ]
    db.connection.execute("update gnomon.streams set horizons = %s", [[HORIZON]])
    db.add_pairs(rows)
    late = [
        {**label, "observed_at": label["observed_at"] + timedelta(hours=int(rng.integers(0, 72)))}
        for label in drawn.labels()
    ]
    db.add_labels(late[:1900], START + timedelta(days=90))
    limit(db, 500)
    everything, part = answers(db, "yes"), answers(db, None)
    total = next(row for row in everything["quality"] if row["metric"] == "label_coverage")
    read = next(row for row in part["quality"] if row["metric"] == "label_coverage")
    assert (total["n"], total["read_share"]) == (2000, 1)
    assert read["read_share"] == 0.25
    assert 420 < read["n"] < 580
    assert read["weight"] == pytest.approx(total["weight"], rel=0.25)
    assert read["standard_error"] > total["standard_error"]
    assert read["se_period"] > total["se_period"]
    for name in REPORTS:
        assert len(part[name]) == len(everything[name]) or name == "label_delay", name
    for name in set(REPORTS) - {"heterogeneity"}:
        assert {row["read_share"] for row in everything[name]} - {None} == {1}, name
        assert {row["read_share"] for row in part[name]} - {None} == {0.25}, name
    db.connection.execute("delete from gnomon.pairs where not gnomon_estimators.within_share(request_id, 0.25)")
    db.connection.execute("update gnomon.pairs set capture_probability = capture_probability * 0.25")
    limit(db, 200_000)
    sent = answers(db, None)
    for name in REPORTS:
        assert len(sent[name]) == len(part[name])
        for one, other in zip(part[name], sent[name], strict=True):
            for column in one.keys() - {"read_share"}:
                expected = other[column]
                if isinstance(expected, float):
                    expected = pytest.approx(expected, rel=1e-9, abs=1e-12)
                assert one[column] == expected, (name, column, one)


def test_all_keys_at_once_are_each_key_by_itself(db: Database) -> None:
    drawn = sample(np.random.default_rng(12), 1500, 60)
    rows = [
        {**row, "segments": Jsonb({"origin": "JFK" if at % 3 else "LGA", "device": f"d{at % 4}"})}
        for at, row in enumerate(drawn.rows())
    ]
    db.connection.execute("update gnomon.streams set horizons = %s", [[HORIZON]])
    db.add_pairs(rows)
    db.add_labels(drawn.labels()[:1400], START + timedelta(days=90))
    for limited in (200_000, 500):
        limit(db, limited)
        for name, known in (("segments", {}), ("heterogeneity", {"horizon": HORIZON})):
            together = ask(db.connection, name, Question("s", extra=known)).rows
            assert {row["key"] for row in together} == {"origin", "device"}, name
            for key in ("origin", "device"):
                alone = ask(db.connection, name, Question("s", extra={**known, "key": key})).rows
                assert len(alone) > 4, name
                for one, other in zip([row for row in together if row["key"] == key], alone, strict=True):
                    # Which of two equal values is named first depends on the last digit.
                    for column in one.keys() - {"lowest_value", "highest_value"}:
                        expected = other[column]
                        if isinstance(expected, float):
                            expected = pytest.approx(expected, rel=1e-9, abs=1e-12)
                        assert one[column] == expected, (name, key, column, one)


def test_bounds_of_drawn_pairs_hold_the_estimates_of_quality(db: Database) -> None:
    drawn = sample(np.random.default_rng(14), 2000, 60)
    db.connection.execute("update gnomon.streams set horizons = %s", [[HORIZON]])
    db.add_pairs(drawn.rows())
    db.add_labels(drawn.labels()[:1900], START + timedelta(days=90))
    wide = {}
    for limited, share in ((200_000, 1), (500, 0.25)):
        limit(db, limited)
        found = {
            name: ask(db.connection, name, Question("s", extra={"horizon": HORIZON})).rows
            for name in ("quality", "label_bounds")
        }
        quality = {(row["metric"], row["side"]): row for row in found["quality"]}
        metrics = {row["metric"] for row in found["label_bounds"]}
        assert metrics == {"accuracy", "precision", "recall", "f1", "auc", "log_loss", "brier"}
        for row in found["label_bounds"]:
            assert row["read_share"] == share
            assert row["estimate"] == pytest.approx(quality[row["metric"], row["side"]]["estimate"], abs=1e-12), row
            assert row["bound_low"] <= row["estimate"] <= row["bound_high"], row
            assert row["labelled"] == pytest.approx(quality["label_coverage", "pair"]["estimate"], abs=1e-12)
        wide[share] = {(row["metric"], row["side"]): row for row in found["label_bounds"]}
    # What the draw adds to a bound is what it adds to the estimate: here at most about four of its standard errors.
    for key, row in wide[1].items():
        for column in ("bound_low", "bound_high"):
            assert row[column] != wide[0.25][key][column]
            if key[0] == "accuracy":
                assert abs(row[column] - wide[0.25][key][column]) < 4 * quality[key]["se_period"], (key, column)


def test_the_probe_is_read_whole(db: Database) -> None:
    rng = np.random.default_rng(15)
    drawn = sample(rng, 2000, 60)
    db.add_pairs([
        {
            **row, "window_id": uuid.UUID(int=1 + at % 40), "live_latency_us": int(rng.lognormal(7, 0.5)),
            "shadow_latency_us": int(rng.lognormal(7, 0.5)), "shadow_batch_size": 64 if at % 5 else 1,
            "probe_probability": None if at % 5 else row["inclusion_probability"] / 5,
        }
        for at, row in enumerate(drawn.rows())
    ])  # fmt: skip
    limit(db, 500)
    everything, part = (
        ask(db.connection, "latency", Question("s", extra={"exact": exact} if exact else {})).rows
        for exact in ("yes", None)
    )
    assert len(everything) == len(part) == 12
    for row, other in zip(everything, part, strict=True):
        if row["measure"] == "live_all":
            assert (row["read_share"], other["read_share"]) == (1, 0.25)
            assert row["n"] == 2000
            assert 420 < other["n"] < 580
            assert other["se_period"] > row["se_period"]
            assert other["period_low"] <= row["microseconds"] <= other["period_high"]
        else:
            assert row == other
            assert (row["n"], row["read_share"]) == (400, 1)


def test_stored_latencies_are_of_all_pairs(db: Database) -> None:
    """One deployment has a kept cohort; another has none, and its latencies are computed from a part."""
    drawn = sample(np.random.default_rng(16), 300)
    db.connection.execute("update gnomon.streams set horizons = %s", [[HORIZON]])
    db.add_deployment("young")
    for name in ("new", "young"):
        db.add_pairs(drawn.rows(), name)
    db.add_labels(drawn.labels(), START + timedelta(days=90))
    db.connection.execute(
        "insert into gnomon.cohorts (deployment_id, horizon, until, watermark, grace, label_kind, label_choice,"
        " source_offsets, label_offsets, load_ids) select %s, %s, %s, %s, '0', 'explicit', 'last', '{\"0\": 300}',"
        " '{}', array_agg(load_id) from gnomon.label_loads",
        [db.deployments["new"], HORIZON, START + timedelta(days=20), START + timedelta(days=90)],
    )
    assert maintenance.maintain(db.connection, datetime.now(UTC)).cohorts == 1
    limit(db, 60)
    rows = ask(db.connection, "latency", Question("s", extra={"exact": "no"})).rows
    found = {row["deployment"]: row for row in rows if (row["measure"], row["quantile"]) == ("live_all", 0.5)}
    assert (found["new"]["n"], found["new"]["read_share"]) == (300, 1)
    assert found["new"]["kept_until"] is not None
    assert 30 < found["young"]["n"] < 90
    assert (found["young"]["read_share"], found["young"]["kept_until"]) == (0.2, None)
