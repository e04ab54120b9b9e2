"""The error of the period against R's `survey` package, on the stratified sample of schools that it comes with.

`apistrat` holds 200 schools of California drawn from three strata of known sizes. The expected digits are those of
`survey` 4.1 with `svydesign(id = ~1, strata = ~stype, weights = ~pw, fpc = ~fpc)`, pw = fpc / rows of the stratum.
"""

import csv
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from psycopg.rows import dict_row
from tests.support import report_database
from tests.support.estimators import Array, period_error, share_interval
from tests.support.report_database import START, Database

SCHOOLS = {"E": 4421, "M": 1018, "H": 755}
FILE = Path(report_database.__file__).with_name("apistrat.csv")
HORIZON = timedelta(days=1)


@pytest.fixture
def schools(db: Database) -> list[dict[str, str]]:
    """Return one pair a school: live is whether the school met its target, the shadow whether its groups improved."""
    with FILE.open(encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    rows = {kind: sum(school["school_type"] == kind for school in found) for kind in SCHOOLS}
    db.connection.execute("update gnomon.streams set horizons = %s", [[HORIZON]])
    db.add_pairs([
        {
            "request_id": f"r{at}",
            "event_time": START + timedelta(days=at % 5, seconds=at),
            "stratum": school["school_type"],
            "inclusion_probability": rows[school["school_type"]] / SCHOOLS[school["school_type"]],
            "window_id": uuid.UUID(int=1),
            "live_label": school["school_wide"],
            "shadow_label": school["improvement"],
            "live_value": int(school["api99"]) / 1000,
            "shadow_value": int(school["api00"]) / 1000,
            "live_latency_us": int(school["api00"]),
        }
        for at, school in enumerate(found)
    ])  # fmt: skip
    db.add_labels(
        [
            {
                "request_id": f"r{at}", "observed_at": START + timedelta(days=at % 5, seconds=at),
                "label": school["awards"], "value": float(school["awards"] == "Yes"),
            }
            for at, school in enumerate(found)
        ],
        START + timedelta(days=60),
    )  # fmt: skip
    return found


def ask(db: Database, call: str) -> list[dict[str, Any]]:
    with db.connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(f"select * from {call}").fetchall()


def six(value: float) -> Any:
    """Round to six digits."""
    return pytest.approx(value, rel=1e-7)


def quality(db: Database) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["metric"], row["side"]): row for row in ask(db, "report_v1.quality('s')")}


def test_agreement_means_and_kappa(db: Database, schools: list[dict[str, str]]) -> None:
    row = ask(db, "report_v1.agreement('s')")[0]
    assert (row["agreement"], row["se_period"]) == (six(0.79427510494), six(0.0307125539687))
    assert (row["kappa"], row["kappa_se_period"]) == (six(0.482986923678), six(0.0641878173771))
    means = {
        (row["metric"], row["side"]): row
        for row in ask(db, "gnomon_estimators.estimates('s', metrics => '{value,value_difference}')")
    }
    mean, difference = means["value", "shadow"], means["value_difference", "pair"]
    assert (1000 * mean["estimate"], 1000 * mean["se_period"]) == (six(662.287363578), six(9.40894087943))
    assert (1000 * difference["estimate"], 1000 * difference["se_period"]) == (
        six(32.8925185664), six(2.05111242676)
    )  # fmt: skip
    assert difference["period_high"] - difference["estimate"] == pytest.approx(1.959964 * difference["se_period"])


def test_quality(db: Database, schools: list[dict[str, str]]) -> None:
    found = quality(db)
    for key, estimate, error in (
        (("precision", "shadow"), 0.974509306615, 0.015508782942),  # svyratio
        (("accuracy", "shadow"), 0.983287051986, 0.0102043243727),
        (("accuracy", "difference"), 0.172298999031, 0.031940826052),
    ):
        assert (found[key]["estimate"], found[key]["se_period"]) == (six(estimate), six(error)), key


def weights(schools: list[dict[str, str]]) -> tuple[Array, Any, Array, Any]:
    """Return weights, cells, probabilities, rows of the cell."""
    kinds = np.array([school["school_type"] for school in schools])
    cells = np.array(["EMH".index(kind) for kind in kinds])
    sampled = np.bincount(cells)[cells]
    chance = sampled / np.array([SCHOOLS[str(kind)] for kind in kinds])
    return 1 / chance, cells, chance, sampled


def test_auc(db: Database, schools: list[dict[str, str]]) -> None:
    """`survey` has no area under the curve: use the same design with the residuals of its placements."""
    w, cells, chance, sampled = weights(schools)
    positive = np.array([school["awards"] == "Yes" for school in schools])
    residuals = []
    for side in ("api99", "api00"):
        score = np.array([int(school[side]) for school in schools])
        above = (score[:, None] > score) + 0.5 * (score[:, None] == score)
        placed = np.where(
            positive,
            above @ (w * ~positive) / w[~positive].sum(),
            1 - above @ (w * positive) / w[positive].sum(),
        )
        area = np.average(placed[positive], weights=w[positive])
        residuals.append(w * (placed - area) / np.where(positive, w[positive].sum(), w[~positive].sum()))
    found = quality(db)
    for side, residual in zip(("live", "shadow", "difference"), [*residuals, residuals[1] - residuals[0]], strict=True):
        row = found["auc", side]
        assert row["se_period"] == pytest.approx(period_error(residual, cells, chance, sampled), rel=1e-9)
        assert row["period_low"] < row["estimate"] < row["period_high"]


def test_quantiles(db: Database, schools: list[dict[str, str]]) -> None:
    """Woodruff's interval: the shares' errors are those of svymean(~I(api00 <= 668)) and of 865."""
    w, _, _, _ = weights(schools)
    values = np.array([int(school["api00"]) for school in schools])
    order = np.argsort(values)
    heights = (w[order] / w.sum()).cumsum()
    kish = w.sum() ** 2 / (w**2).sum()
    rows = {row["quantile"]: row for row in ask(db, "report_v1.latency('s')") if row["measure"] == "live_all"}
    for p, quantile, error in ((0.5, 668, 0.0380179817496), (0.95, 865, 0.0165534313878)):
        low, high = share_interval(p, error**2, kish)
        assert rows[p]["microseconds"] == quantile
        assert rows[p]["period_low"] == values[order][np.argmax(heights >= low)]
        assert rows[p]["period_high"] == values[order][np.argmax(heights >= high)]


def test_where_everything_was_sampled_nothing_is_unsure(db: Database, schools: list[dict[str, str]]) -> None:
    db.connection.execute("update gnomon.pairs set inclusion_probability = 1")
    row = ask(db, "report_v1.agreement('s')")[0]
    for name in ("agreement", "kappa"):
        ends = ("period_low", "period_high") if name == "agreement" else ("kappa_period_low", "kappa_period_high")
        assert row[ends[0]] == row[name] == row[ends[1]]
    area = quality(db)["auc", "difference"]
    assert area["period_low"] == area["estimate"] == area["period_high"]
    assert area["low"] < area["estimate"]  # days like these are still uncertain
    slow = next(row for row in ask(db, "report_v1.latency('s')") if row["measure"] == "live_all")
    assert slow["period_low"] == slow["microseconds"] == slow["period_high"]
