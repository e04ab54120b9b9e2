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


LEAST = 5e-324  # the smallest double above 0
ENDS = [LARGEST, -LARGEST, LEAST, -LEAST, 0.0, 1e160, -1e160, 1e-160, 1.0]


@pytest.mark.parametrize("labelled", [False, True])
def test_every_end_of_a_double_meets_every_other(db: Database, labelled: bool) -> None:
    """Differences overflow and products underflow: PostgreSQL would end the statement at both."""
    rows = [
        {"live_value": live, "shadow_value": shadow, "features_numeric": [live, shadow], "features_text": []}
        | ({"live_label": "01"[live > 0], "shadow_label": "01"[shadow > 0]} if labelled else {})
        for live in ENDS
        for shadow in ENDS
    ]
    db.add("feature_columns", [
        {"stream_id": db.stream_id, "name": name, "kind": "numeric", "position": at, "avro_type": "double"}
        for at, name in enumerate(("a", "b"), 1)
    ])  # fmt: skip
    fill(db, rows, [ENDS[at % len(ENDS)] for at in range(len(rows))])
    every_report_answers(db)
    for options in ({"compare": "absolute", "tolerance": 0.1}, {"compare": "relative", "tolerance": 0.1}):
        assert ask(db.connection, "matches", Question("s", "new", extra=options)).rows
    tail = db.connection.execute("select status from report_v1.tail('s', 'new', 1e9)").fetchall()
    assert tail == [("nothing joined yet",)]
    agrees = db.connection.execute(
        "select live_value, shadow_value, agrees from report_v1.pairs where deployment = 'new'"
    ).fetchall()
    assert all(said == ((live > 0) == (shadow > 0) if labelled else live == shadow) for live, shadow, said in agrees)
    if not labelled:
        found = ask(db.connection, "disagreements", Question("s", "new")).rows
        assert abs(found[0]["difference"]) == LARGEST


def test_the_verdict_of_numbers_at_the_ends(db: Database) -> None:
    rows = [{"live_value": ENDS[at % 9], "shadow_value": ENDS[at // 9 % 9]} for at in range(81)]
    fill(db, rows, [0.0] * 81)
    found = db.connection.execute(
        "select * from gnomon_estimators.verdict_disagreeing_features('s', 'new', null, null)"
    ).fetchall()
    assert found == []


@pytest.mark.parametrize(
    ("a", "b", "tolerance", "relative", "close"),
    [
        (1.0, 1.1, 0.0, 0.1, True), (1.0, 1.12, 0.0, 0.1, False), (1.0, 1.12, 0.2, 0.0, True),
        (LARGEST, 0.95 * LARGEST, 0.0, 0.1, True), (LARGEST, 0.85 * LARGEST, 0.0, 0.1, False),
        (LARGEST, -LARGEST, 1.0, 1e-5, False), (LEAST, 0.0, 0.0, 1e-5, False), (LEAST, LEAST, 0.0, 0.0, True),
        (1e-310, 1.000001e-310, 0.0, 1e-5, True), (1e-310, 1.1e-310, 0.0, 1e-5, False),
        (LEAST, 1.0, 0.0, 1e-200, False), (3.0, 1.0, 0.0, 10.0, True), (0.0, -0.0, 0.0, 0.0, True),
    ],
)  # fmt: skip
def test_close_values(db: Database, a: float, b: float, tolerance: float, relative: float, close: bool) -> None:
    for one, other in ((a, b), (b, a), (-a, -b)):
        assert (
            db.value("select gnomon_estimators.close_values(%s::float8, %s, %s, %s)", one, other, tolerance, relative)
            is close
        )
