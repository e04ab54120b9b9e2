"""Beyond a number of pairs the reports on quality read a part, as if the service had captured only that."""

import uuid
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from tests.support.report_database import START, Database, sample

from gnomon_consumer.reports import Question, ask

HORIZON = timedelta(days=30)
REPORTS = ("quality", "classes", "calibration", "calibration_error", "heterogeneity")
LIMIT = (
    "create or replace function gnomon_estimators.read_at_most() returns float8 language sql immutable parallel safe"
    " as 'select {}::float8'"
)


def answers(db: Database, exact: str | None) -> dict[str, list[dict[str, Any]]]:
    """Every report on quality."""
    extra = {"horizon": HORIZON} | ({"exact": exact} if exact else {})
    return {name: list(ask(db.connection, name, Question("s", extra=extra)).rows) for name in REPORTS}


def test_a_drawn_part_is_what_a_service_that_samples_would_have_sent(db: Database) -> None:
    drawn = sample(np.random.default_rng(11), 2000, 60)
    rows = [{**row, "window_id": uuid.UUID(int=1 + at % 40)} for at, row in enumerate(drawn.rows())]
    db.connection.execute("update gnomon.streams set horizons = %s", [[HORIZON]])
    db.add_pairs(rows)
    db.add_labels(drawn.labels()[:1900], START + timedelta(days=90))
    db.connection.execute(LIMIT.format(500))
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
    db.connection.execute(LIMIT.format(200_000))
    sent = answers(db, None)
    for name in REPORTS:
        assert len(sent[name]) == len(part[name])
        for one, other in zip(part[name], sent[name], strict=True):
            if name == "heterogeneity" and one["metric"] in ("agreement", "error", "value_difference"):
                continue  # needs no label: read from all pairs
            for column in one.keys() - {"read_share"}:
                expected = other[column]
                if isinstance(expected, float):
                    expected = pytest.approx(expected, rel=1e-9, abs=1e-12)
                assert one[column] == expected, (name, column, one)
