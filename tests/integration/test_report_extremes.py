"""Numbers at the limits of a double: a report leaves them out or treats them as 0, and never fails."""

import math
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from tests.support.report_database import START, Database

from gnomon_consumer.reports import REPORTS, Question, ask

DAY = timedelta(days=1)
LARGEST = 1.7976931348623157e308


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    """A stream with a challenger and a control."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        made = Database(connection)
        made.add_stream(horizons=[DAY])
        made.add_deployment()
        made.add_deployment("control", "control")
        yield made


def fill(db: Database, rows: list[dict[str, Any]], truths: list[float]) -> None:
    """Insert the same pairs, and their labels, for both deployments."""
    rows = [
        {"request_id": f"r{at}", "event_time": START + timedelta(hours=7 * at), **row} for at, row in enumerate(rows)
    ]
    for deployment in db.deployments:
        db.add_pairs(rows, deployment)
    labels = [
        {"request_id": row["request_id"], "observed_at": row["event_time"], "value": truth}
        for row, truth in zip(rows, truths, strict=True)
    ]
    db.add_labels(labels, START + 90 * DAY)


def quality(db: Database) -> dict[tuple[str, str], dict[str, Any]]:
    rows = ask(db.connection, "quality", Question("s", "new")).rows
    return {(row["metric"], row["side"]): row for row in rows}


def every_report_answers(db: Database) -> None:
    for name in REPORTS:
        assert ask(db.connection, name, Question("s")).rows, name


@pytest.mark.parametrize("least", [1e-200, 1e-310])
def test_probabilities_as_good_as_0(db: Database, least: float) -> None:
    rows = [
        {
            "live_label": "01"[at % 2], "shadow_label": "01"[at % 3 == 0],
            "live_value": 1.0 if at % 2 else least, "shadow_value": least if at % 3 else 1.0,
        }
        for at in range(20)
    ]  # fmt: skip
    fill(db, rows, [float(at % 2) for at in range(20)])
    every_report_answers(db)
    found = quality(db)
    wrong = sum((at % 3 == 0) != (at % 2) for at in range(20))
    assert found["brier", "live"]["estimate"] == 0
    assert found["brier", "shadow"]["estimate"] == pytest.approx(wrong / 20)


def test_a_sentinel_enters_no_mean(db: Database) -> None:
    rows = [{"live_value": LARGEST if at == 3 else float(at), "shadow_value": at + 1.0} for at in range(20)]
    fill(db, rows, [float(at) for at in range(20)])
    every_report_answers(db)
    found = quality(db)
    assert (found["rmse", "live"]["n"], found["rmse", "live"]["estimate"]) == (19, 0)
    assert found["rmse", "shadow"]["estimate"] == pytest.approx(1)
    row = ask(db.connection, "agreement", Question("s", "new")).rows[0]
    assert row["mean_difference"] == pytest.approx(1)
    assert math.isfinite(row["mean_difference_se"])


def test_a_truth_beyond_everything_is_left_out(db: Database) -> None:
    fill(db, [{"live_value": float(at), "shadow_value": at + 1.0} for at in range(20)], [LARGEST, *range(1, 20)])
    every_report_answers(db)
    assert quality(db)["rmse", "shadow"]["n"] == 19
