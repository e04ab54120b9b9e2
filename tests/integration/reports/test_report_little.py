"""An estimate is known no better than the rows that it depends on; names of answers that are neither class."""

from datetime import timedelta
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from psycopg.types.json import Jsonb
from sklearn import metrics as sk
from tests.support.estimators import reach, spread
from tests.support.quality import ask, quality
from tests.support.report_database import START, Database

from gnomon_consumer.reference.build import store
from gnomon_consumer.reference.profile import profile
from gnomon_consumer.reports import Question
from gnomon_consumer.reports import ask as ask_report
from gnomon_consumer.reports.bounds import UNKNOWN, hold, parse

DAY = timedelta(days=1)
N = 400
MOMENTS = [START + timedelta(days=at * 10 // N, seconds=at) for at in range(N)]


def fill(db: Database, rows: list[dict[str, Any]], labels: list[dict[str, Any]]) -> None:
    """Insert pairs over ten days, each with its label an hour later."""
    rows = [{"request_id": f"r{at}", "event_time": MOMENTS[at], **row} for at, row in enumerate(rows)]
    db.add_pairs(rows)
    db.add_labels(
        [
            {"request_id": f"r{at}", "observed_at": MOMENTS[at] + DAY / 24, "value": None, "label": None} | label
            for at, label in enumerate(labels)
        ],
        START + 40 * DAY,
    )  # fmt: skip


@pytest.mark.parametrize("positives", [1, 2, 5])
def test_an_area_is_known_no_better_than_its_rarer_class(db: Database, positives: int) -> None:
    random = np.random.default_rng(positives)
    truth = np.zeros(N)
    truth[np.linspace(20, N - 20, positives).astype(int)] = 1
    shadow, live = (np.where(truth, 0.9, 1) * random.uniform(0.3 * truth, 1, N) for _ in range(2))
    fill(
        db,
        [
            {"live_label": "0", "shadow_label": "0", "live_value": float(x), "shadow_value": float(y)}
            for x, y in zip(live, shadow, strict=True)
        ],
        [{"value": float(y)} for y in truth],
    )
    row = quality(db)["auc", "shadow"]
    difference = quality(db)["auc", "difference"]
    assert row["estimate"] == pytest.approx(sk.roc_auc_score(truth, shadow))
    assert row["clusters"] == positives
    if positives == 1:
        assert row["status"] == "one request of a class only: no interval"
        assert (row["low"], row["high"], difference["low"], difference["high"]) == (None, None, None, None)
        return
    # DeLong's residuals, by row and by day, with the degrees of freedom of the positives.
    sides = []
    for side in (live, shadow):
        won = (side[truth == 1][:, None] > side[truth == 0]) + 0.5 * (side[truth == 1][:, None] == side[truth == 0])
        residual = np.empty(N)
        residual[truth == 1] = (won.mean(1) - won.mean()) / positives
        residual[truth == 0] = (won.mean(0) - won.mean()) / (N - positives)
        sides.append(residual)
    day = np.array([(moment - START).days for moment in MOMENTS])
    expected = spread(sides[1] - sides[0], np.full(N, -1), day, truth == 1)
    assert expected.t > reach(positives - 1) * 0.99
    both = [spread(side, np.full(N, -1), day, truth == 1) for side in sides]
    v = [one.together**2 for one in both]
    m = [
        newcombe(quality(db)["auc", name]["estimate"], one, positives, N - positives)
        for name, one in zip(("live", "shadow"), v, strict=True)
    ]
    correlated = (v[0] + v[1] - expected.together**2) / np.sqrt(v[0] * v[1])
    variance = max(expected.together**2, m[0] + m[1] - correlated * np.sqrt(m[0] * m[1]))
    high = min(difference["estimate"] + expected.t * np.sqrt(variance), 1)
    assert difference["high"] == pytest.approx(high, rel=1e-9)
    alone = both[1]
    assert row["standard_error"] == pytest.approx(alone.together, rel=1e-9)
    area, sizes = np.array([row["estimate"]]), (positives, N - positives)
    found = area_intervals(db, area, np.array([alone.together**2]), sizes, alone.t)
    assert (row["low"], row["high"]) == pytest.approx(found[0], rel=1e-9)


def newcombe(area: float, variance: float, positives: int, negatives: int) -> float:
    """Return the variance of an area's interval: Newcombe's (2006, method 5) counts as ten positives."""
    half = (positives + negatives) / 2 - 1
    spread_out = 1 + half * (1 - area) / (2 - area) + half * area / (1 + area)
    prior = area * (1 - area) * spread_out / (positives * negatives)
    return max(variance, (positives * variance + 10 * prior) / (positives + 10))


def area_intervals(
    db: Database, areas: np.ndarray, variances: np.ndarray, sizes: tuple[int, int], t: float
) -> list[tuple[float, float]]:
    """Return the interval of each area of so many positives and negatives, of equal weight and without clusters."""
    return db.connection.execute(
        "select i.low, i.high from unnest(%s::float8[], %s::float8[]) with ordinality r(area, variance, at)"
        " cross join lateral gnomon_estimators.interval95('share', r.area,"
        " gnomon_estimators.area_variance(r.area, r.variance, %s, %s, %s), %s, %s, %s, 1) i order by r.at",
        [areas.tolist(), variances.tolist(), *sizes, sizes[0], sum(sizes), t, sizes[0]],
    ).fetchall()


@pytest.mark.parametrize("area", [0.8, 0.9, 0.95, 0.98, 0.99])
@pytest.mark.parametrize("sizes", [(10, 300), (20, 300), (50, 1000)])
def test_intervals_of_large_areas_of_few_positives_cover(db: Database, area: float, sizes: tuple[int, int]) -> None:
    """Normal scores, 1,000 populations: DeLong's variance alone would cover 89 to 92% of the larger areas."""
    random, (positives, negatives), populations = np.random.default_rng(31), sizes, 1000
    above = random.normal(np.sqrt(2) * NormalDist().inv_cdf(area), 1, (populations, positives))
    below = random.normal(0, 1, (populations, negatives))
    won = above[:, :, None] > below[:, None, :]
    by_positive, by_negative = won.mean(2), won.mean(1)
    found = by_positive.mean(1)
    variances = by_positive.var(1, ddof=1) / positives + by_negative.var(1, ddof=1) / negatives
    some = variances > 1e-12  # the others have no interval
    intervals = np.array(area_intervals(db, found[some], variances[some], sizes, reach(positives - 1)))
    covered = ((intervals[:, 0] <= area) & (area <= intervals[:, 1])).mean()
    assert covered >= 0.935, covered


@pytest.mark.parametrize("areas", [(0.99, 0.995), (0.95, 0.97), (0.8, 0.7), (0.999, 0.97), (0.97, 0.999)])
def test_differences_of_areas_of_few_positives_cover(db: Database, areas: tuple[float, float]) -> None:
    """Two correlated normal scores, 10 positives, 1,000 populations; their own variance would cover too few.

    An area of 0.999 is estimated as 1, with a variance of 0, in half of the populations.
    """
    random, (positives, negatives), populations = np.random.default_rng(32), (10, 300), 1000
    shared = random.normal(size=(populations, positives + negatives))
    parts, estimates = [], []
    for area in areas:
        scores = np.sqrt(0.5) * (shared + random.normal(size=shared.shape))
        scores[:, :positives] += np.sqrt(2) * NormalDist().inv_cdf(area)
        won = scores[:, :positives, None] > scores[:, None, positives:]
        parts.append((won.mean(2), won.mean(1)))
        estimates.append(won.mean((1, 2)))
    sides = [*parts, tuple(shadow - live for live, shadow in zip(*parts, strict=True))]
    live, shadow, difference = (a.var(1, ddof=1) / positives + b.var(1, ddof=1) / negatives for a, b in sides)
    some = difference > 1e-12
    found = db.connection.execute(
        "select sqrt(gnomon_estimators.area_difference_variance(r.v, r.live, r.shadow,"
        " gnomon_estimators.area_variance(r.a, r.live, %s, %s, %s),"
        " gnomon_estimators.area_variance(r.b, r.shadow, %s, %s, %s)))"
        " from unnest(%s::float8[], %s::float8[], %s::float8[], %s::float8[], %s::float8[])"
        " with ordinality r(v, live, shadow, a, b, at) order by r.at",
        [
            *(positives, negatives, positives) * 2,
            *(one[some].tolist() for one in (difference, live, shadow, *estimates)),
        ],
    ).fetchall()
    reached = reach(positives - 1) * np.array(found)[:, 0]
    missed = np.abs(estimates[1][some] - estimates[0][some] - (areas[1] - areas[0])) > reached
    print(f"areas {areas}: {1 - missed.mean():.1%} covered")
    assert missed.mean() < 0.065


@pytest.mark.parametrize("side", ["live", "shadow"])
def test_a_difference_from_equal_scores_is_as_certain_as_the_other_side(db: Database, side: str) -> None:
    """Equal scores have an area of 1/2; weights that are no powers of 2 leave a variance of 0 within rounding only."""
    random, other = np.random.default_rng(5), {"live": "shadow", "shadow": "live"}[side]
    truth = np.arange(N) % 40 == 7
    scores = random.normal(truth * 2.5, 1)
    fill(
        db,
        [
            {"live_label": "0", "shadow_label": "0", f"{side}_value": 0.3, f"{other}_value": float(score),
             "inclusion_probability": float(chance)}
            for score, chance in zip(scores, random.choice([0.07, 0.3, 0.7], N), strict=True)
        ],
        [{"value": float(y)} for y in truth],
    )  # fmt: skip
    found = quality(db)
    alone, difference = found["auc", other], found["auc", "difference"]
    ends = [alone["low"] - 0.5, alone["high"] - 0.5]
    expected = ends if side == "live" else [-ends[1], -ends[0]]
    assert [difference["low"], difference["high"]] == pytest.approx(expected, rel=1e-9)
    assert found["auc", side]["estimate"] == pytest.approx(0.5)
    assert found["auc", side]["low"] is None


def test_the_interval_of_many_positives_has_delongs_width(db: Database) -> None:
    area, variance, sizes = np.array([0.98]), np.array([3e-6]), (2000, 40_000)
    low, high = area_intervals(db, area, variance, sizes, reach(sizes[0] - 1))[0]
    assert high - low == pytest.approx(2 * reach(sizes[0] - 1) * np.sqrt(3e-6), rel=0.02)


def test_a_ratio_is_known_no_better_than_its_denominator(db: Database) -> None:
    """Every positive decision of live is of one cluster, every one of the shadow of one day."""
    rows = [
        {"cluster": f"c{at % 40}", "live_label": str(int(at % 40 == 0)), "shadow_label": str(int(at < 30))}
        for at in range(N)
    ]
    fill(
        db,
        rows,
        [{"value": float(at % 40 == 0 and at > 0), "label": str(int(at % 40 == 0 and at > 0))} for at in range(N)],
    )
    found = quality(db)
    classes = {(row["class"], row["metric"], row["side"]): row for row in ask(db, "classes('s')")}
    for row in (found["precision", "live"], classes["1", "precision", "live"]):
        assert (row["clusters"], row["low"], row["high"]) == (1, None, None)
        assert row["status"] == "one cluster only: no interval"
    for row in (found["precision", "shadow"], classes["1", "precision", "shadow"]):
        assert (row["days"], row["low"], row["high"]) == (1, None, None)
        assert row["status"] == "one day only: no interval for days like these"
    for row in (found["precision", "difference"], classes["1", "precision", "difference"], found["recall", "live"]):
        assert (row["low"], row["high"]) == (None, None)
    assert found["accuracy", "live"]["status"] == classes["0", "recall", "live"]["status"] == "ok"
    assert (found["accuracy", "live"]["clusters"], found["accuracy", "live"]["days"]) == (40, 10)


@pytest.mark.parametrize("declared", [False, True])
def test_a_decision_that_is_neither_class_is_not_a_positive_one(db: Database, declared: bool) -> None:
    if declared:
        db.connection.execute("update gnomon.streams set positive_class = 'late', negative_class = 'on_time'")
    names = ("late", "on_time", "review")
    truth = [at // 7 % 2 == 0 for at in range(N)]
    fill(
        db,
        [{"live_label": names[at % 2], "shadow_label": names[at % 3]} for at in range(N)],
        [{"value": float(y)} if declared else {"value": float(y), "label": names[not y]} for y in truth],
    )
    found = quality(db)
    said = [at % 3 == 0 for at in range(N)]
    expected = {
        "precision": sk.precision_score(truth, said), "recall": sk.recall_score(truth, said),
        "f1": sk.f1_score(truth, said),
    }  # fmt: skip
    for metric, value in expected.items():
        assert found[metric, "shadow"]["estimate"] == pytest.approx(value, rel=1e-12), metric
    bounds = {(row["metric"], row["side"]): row for row in ask(db, "label_bounds('s')")}
    assert bounds["precision", "shadow"]["estimate"] == pytest.approx(expected["precision"], rel=1e-12)


def test_labels_that_only_partly_use_the_names_of_the_decisions(db: Database) -> None:
    decided = [{"live_label": name, "shadow_label": name} for name in ("late", "on_time") * (N // 2)]
    fill(db, decided, [{"label": name} for name in ("late", "ontime") * (N // 2)])
    assert quality(db)["accuracy", "shadow"]["status"].startswith(
        "two vocabularies? never a label: on_time; never a decision: ontime"
    )


def test_scores_of_classes_that_are_no_numbers_have_no_loss(db: Database) -> None:
    """They were a loss of 0 in the mean."""
    rows = [
        {
            "live_label": "a", "shadow_label": "a", "live_items": ["a", "b"], "shadow_items": ["a", "b"],
            "live_scores": [0.5, 0.5], "shadow_scores": [(0.25, float("nan"), float("inf"), 0.75)[at % 4], 0.1],
        }
        for at in range(N)
    ]  # fmt: skip
    fill(db, rows, [{"label": "a"}] * N)
    row = quality(db)["log_loss", "shadow"]
    assert row["n"] == N / 2
    assert row["estimate"] == pytest.approx(-np.log([0.25, 0.75]).mean(), rel=1e-12)


def test_segments_that_differ_beyond_any_doubt(db: Database) -> None:
    """The series of the tail of χ² left the range of a double from 1419 on."""
    random = np.random.default_rng(1)
    rows = [
        {"segments": Jsonb({"side": "NS"[at % 2]}), "live_value": 0.0, "shadow_value": at % 2 * 9 + float(e)}
        for at, e in enumerate(random.normal(0, 0.5, N))
    ]
    fill(db, rows, [])
    row = next(row for row in ask(db, "heterogeneity('s')") if row["metric"] == "value_difference")
    assert row["q"] > 5000
    assert (row["p"], row["status"]) == (0, "the values differ")


def test_the_deviation_of_answers_is_that_of_the_traffic(db: Database) -> None:
    random = np.random.default_rng(2)
    value, chance = 1e8 + random.normal(0, 1, N), random.choice([1.0, 0.1], N)
    value[chance < 1] = 1e8 + 3 * random.normal(0, 1, int((chance < 1).sum()))
    fill(db, [
        {"live_value": float(x), "shadow_value": 0.0, "inclusion_probability": float(p)}
        for x, p in zip(value, chance, strict=True)
    ], [])  # fmt: skip
    row = next(row for row in ask(db, "predictions('s')") if row["side"] == "live" and row["label"] is None)
    centred = value - 1e8
    mean = np.average(centred, weights=1 / chance)
    expected = np.average((centred - mean) ** 2, weights=1 / chance) ** 0.5
    assert row["deviation"] == pytest.approx(expected, rel=1e-6)
    assert expected > 1.2 * centred.std()


@pytest.mark.parametrize("rows", [1, 2, 40])
def test_a_row_does_not_differ_from_a_reference(db: Database, rows: int) -> None:
    amount = {"stream_id": db.stream_id, "name": "amount", "kind": "numeric", "position": 1, "avro_type": "x"}
    db.add("feature_columns", [amount])
    before = np.random.default_rng(3).normal(size=500)
    store(db.connection, "s", "training", "test", {"": [profile("amount", "numeric", before.tolist(), np.ones(500))]})
    db.add_pairs([{"request_id": f"r{at}", "features_numeric": [9.0], "event_time": START} for at in range(rows)])
    row = ask(db, "drift('s')")[0]
    assert row["psi"] is not None
    if rows < 3:
        assert (row["psi_threshold"], row["status"]) == (None, "too few rows to compare with the reference")
    else:
        assert row["status"] == "differs from the reference: one day only, which may be unlike others"


@pytest.mark.parametrize(
    "bound", ["agreement.not_comparable <= 0", "matches.not_compared <= 0", "labels.early <= 0", "labels.pending <= 9"]
)
def test_a_bound_on_what_is_missing_is_not_met_by_nothing(db: Database, bound: str) -> None:
    wanted = parse(bound)
    found = ask_report(db.connection, wanted.report, Question("s"))
    rows = list(found.rows)
    assert {finding.state for finding in hold(wanted, rows[0], rows)} == {UNKNOWN}


def test_a_difference_of_shares_is_not_beyond_one(db: Database) -> None:
    """Two days of ten decisions each reach 12.7 standard errors."""
    moments = [START + timedelta(days=at // 10, minutes=at) for at in range(20)]
    rows = [
        {"request_id": f"r{at}", "event_time": moments[at], "live_label": str(int(at in (3, 4, 13))),
         "shadow_label": str(int(at in (3, 5, 14, 15))), "live_value": at * 7 % 20 / 20,
         "shadow_value": at * 3 % 20 / 20}
        for at in range(20)
    ]  # fmt: skip
    db.add_pairs(rows)
    truth = [float(at in (3, 5, 13)) for at in range(20)]
    db.add_labels(
        [
            {"request_id": f"r{at}", "observed_at": moments[at], "value": value, "label": str(int(value))}
            for at, value in enumerate(truth)
        ],
        START + 40 * DAY,
    )
    found = quality(db)
    assert (found["precision", "difference"]["low"], found["precision", "difference"]["high"]) == (-1, 1)
    classes = {(row["class"], row["metric"], row["side"]): row for row in ask(db, "classes('s')")}
    assert (classes["1", "precision", "difference"]["low"], classes["1", "precision", "difference"]["high"]) == (-1, 1)
    assert found["auc", "difference"]["high"] == 1
