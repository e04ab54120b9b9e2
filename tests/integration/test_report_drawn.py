"""Beyond a number of pairs the reports on quality read a part, as if the service had captured only that."""

import uuid
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from psycopg.types.json import Jsonb
from tests.support.report_database import START, Database, sample

from gnomon_consumer.reports import REPORTS as CATALOGUE
from gnomon_consumer.reports import Question, ask

HORIZON = timedelta(days=30)
REPORTS = ("quality", "classes", "calibration", "calibration_error", "heterogeneity", "segments", "time_of_day")
LIMITS = ("read_at_most", "test_at_most")


def answers(db: Database, exact: str | None) -> dict[str, list[dict[str, Any]]]:
    """Every report on quality."""
    found = {}
    for name in REPORTS:
        extra = {"horizon": HORIZON, "exact": exact}
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
    rows = [{**row, "window_id": uuid.UUID(int=1 + at % 40)} for at, row in enumerate(drawn.rows())]
    db.connection.execute("update gnomon.streams set horizons = %s", [[HORIZON]])
    db.add_pairs(rows)
    db.add_labels(drawn.labels()[:1900], START + timedelta(days=90))
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
        assert len(part[name]) == len(everything[name]), name
        assert all(row.get("read_share", 0.25) in (0.25, None) for row in part[name]), name
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
