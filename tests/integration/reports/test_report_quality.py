"""Quality, calibration and labels of report_v1 against scikit-learn and NumPy on weighted, clustered data."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as sk
from tests.support.estimators import assert_estimate, spread
from tests.support.quality import ask, quality
from tests.support.report_database import START, Database, sample

Array = NDArray[np.float64]
DAY = timedelta(days=1)
NDCG = tuple(f"{name}@{k}" for name in ("ndcg", "ndcg_exp") for k in (1, 3, 5, 10, 20))


Metric = Callable[[Array, Array, Array], float]
CLASSIFICATION: dict[str, Metric] = {
    "accuracy": lambda y, p, w: float(sk.accuracy_score(y, p > 0.5, sample_weight=w)),
    "precision": lambda y, p, w: float(sk.precision_score(y, p > 0.5, sample_weight=w)),
    "recall": lambda y, p, w: float(sk.recall_score(y, p > 0.5, sample_weight=w)),
    "log_loss": lambda y, p, w: float(sk.log_loss(y, p, sample_weight=w)),
    "brier": lambda y, p, w: float(sk.brier_score_loss(y, p, sample_weight=w)),
    "auc": lambda y, p, w: float(sk.roc_auc_score(y, p, sample_weight=w)),
}
REGRESSION: dict[str, Metric] = {
    "rmse": lambda y, p, w: float(sk.root_mean_squared_error(y, p, sample_weight=w)),
    "mae": lambda y, p, w: float(sk.mean_absolute_error(y, p, sample_weight=w)),
}


def influence(metric: Metric, y: Array, p: Array, w: Array) -> Array:
    """Return the linearised residual, weight included, from scikit-learn's metric itself: its slope in each weight."""
    step = 1e-4
    slope = np.empty(len(w))
    for i in range(len(w)):
        up, down = w.copy(), w.copy()
        up[i] += step
        down[i] -= step
        slope[i] = (metric(y, p, up) - metric(y, p, down)) / (2 * step)
    return slope * w


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_classification(db: Database, name: str) -> None:
    s = sample(np.random.default_rng(11), 250)
    db.add_pairs(s.rows())
    db.add_labels(s.labels(), START + 40 * DAY)
    metric, found = CLASSIFICATION[name], quality(db)
    live, shadow = metric(s.truth, s.live, s.weight), metric(s.truth, s.shadow, s.weight)
    z_live, z_shadow = (influence(metric, s.truth, p, s.weight) for p in (s.live, s.shadow))
    for side, estimate, z in (
        ("live", live, z_live),
        ("shadow", shadow, z_shadow),
        ("difference", shadow - live, z_shadow - z_live),
    ):
        row = found[name, side]
        expected = spread(z, s.cluster, s.day)
        if name == "auc":  # DeLong's factor, by class
            m, n = s.truth.sum(), (1 - s.truth).sum()
            expected = replace(expected, row=float((z**2 * np.where(s.truth, m / (m - 1), n / (n - 1))).sum() ** 0.5))
        assert row["status"] == "ok"
        assert row["estimate"] == pytest.approx(estimate, rel=1e-9, abs=1e-12)
        assert (row["se_row"], row["se_cluster"], row["se_day"]) == pytest.approx(
            (expected.row, expected.cluster, expected.day), rel=1e-5
        )
        assert row["low"] < row["estimate"] < row["high"]


@pytest.mark.parametrize("name", REGRESSION)
def test_regression(db: Database, name: str) -> None:
    s = sample(np.random.default_rng(12), 250)
    rows = [{**row, "live_label": None, "shadow_label": None} for row in s.rows()]
    db.add_pairs(rows)
    truth = s.truth + np.random.default_rng(1).normal(0, 0.3, len(s.truth))
    labels = [{**label, "label": None, "value": float(y)} for label, y in zip(s.labels(), truth, strict=True)]
    db.add_labels(labels, START + 40 * DAY)
    metric, found = REGRESSION[name], quality(db)
    live, shadow = metric(truth, s.live, s.weight), metric(truth, s.shadow, s.weight)
    z = influence(metric, truth, s.shadow, s.weight) - influence(metric, truth, s.live, s.weight)
    assert found[name, "live"]["estimate"] == pytest.approx(live)
    row = found[name, "difference"]
    assert row["estimate"] == pytest.approx(shadow - live)
    assert row["se_cluster"] == pytest.approx(spread(z, s.cluster, s.day).cluster, rel=1e-5)
    assert ("accuracy", "live") not in found


def test_auc_variance_is_delongs(db: Database) -> None:
    """One row a cluster and no weights: DeLong's covariance of two areas, computed from the placements pair by pair."""
    s = sample(np.random.default_rng(13), 150)
    rows = [{**row, "cluster": None, "inclusion_probability": 1.0} for row in s.rows()]
    db.add_pairs(rows)
    db.add_labels(s.labels(), START + 40 * DAY)
    positive, negative = s.truth == 1, s.truth == 0
    m, n = positive.sum(), negative.sum()
    kernel = [np.sign(p[positive][:, None] - p[negative][None, :]) / 2 + 0.5 for p in (s.live, s.shadow)]
    d10, d01 = ((kernel[1] - kernel[0]).mean(axis=axis) for axis in (1, 0))
    row = quality(db)["auc", "difference"]
    assert row["estimate"] == pytest.approx((kernel[1] - kernel[0]).mean())
    ours = row["se_row"] ** 2
    delong = d10.var(ddof=1) / m + d01.var(ddof=1) / n
    assert ours == pytest.approx(delong)
    assert ours == pytest.approx(delong, rel=2 / min(m, n))


def test_sides_that_hardly_differ_keep_their_error(db: Database) -> None:
    """Answers 1e-7 apart, no clusters: the difference's own error, not the remainder of sums that cancel."""
    s = sample(np.random.default_rng(17), 200)
    shadow = s.live + 1e-7 * np.random.default_rng(2).normal(size=len(s.live)).clip(-3, 3)
    rows = [{**row, "cluster": None, "shadow_value": float(p)} for row, p in zip(s.rows(), shadow, strict=True)]
    db.add_pairs(rows)
    db.add_labels(s.labels(), START + 40 * DAY)
    d = (shadow - s.live) * (shadow + s.live - 2 * s.truth)
    mean = float(np.average(d, weights=s.weight))
    row = quality(db)["brier", "difference"]
    assert row["estimate"] == pytest.approx(mean, rel=1e-5)
    error = float(np.sqrt(((s.weight * (d - mean)) ** 2).sum() * 200 / 199) / s.weight.sum())
    assert (row["se_row"], row["se_cluster"]) == pytest.approx((error, error), rel=1e-5)


def ndcg(gain: Array, score: Array, k: int, *, exponential: bool) -> float:
    """Compute NDCG by scikit-learn (linear gain), and by hand with the gain 2^relevance - 1 (Burges et al. 2005)."""
    if not exponential:
        return float(sk.ndcg_score([gain], [score], k=k, ignore_ties=True))
    discount = 1 / np.log2(2 + np.arange(k))
    found, best = (((2.0**gain - 1)[order][:k], k) for order in (np.argsort(-score), np.argsort(-gain)))
    return float((found[0] @ discount[: len(found[0])]) / (best[0] @ discount[: len(best[0])]))


def test_ndcg(db: Database) -> None:
    rng = np.random.default_rng(14)
    items = list("abcdefghijklmnopqrstuvwxy")
    pairs, labels = [], []
    expected: dict[str, list[list[float]]] = {name: [] for name in NDCG}
    for i in range(30):
        gain = rng.integers(0, 4, len(items)).astype(float) if i else np.zeros(len(items))
        orders = [rng.permutation(len(items)) for _ in range(2)]
        pairs.append(
            {
                "request_id": f"q{i}",
                "live_items": [items[j] for j in orders[0]],
                "shadow_items": [items[j] for j in orders[1]],
            }
        )
        labels.append(
            {"request_id": f"q{i}", "observed_at": START + DAY / 2, "relevance": gain.tolist(), "items": items}
        )
        scores = [-np.argsort(order).astype(float) for order in orders]
        for name in NDCG if i else ():  # the list without a relevant item is left out
            kind, k = name.split("@")
            expected[name].append([ndcg(gain, score, int(k), exponential=kind == "ndcg_exp") for score in scores])
    db.add_pairs(pairs)
    db.add_labels(labels, START + 40 * DAY)
    found = quality(db)
    assert [metric for metric, side in found if side == "live" and metric != "answered"] == list(NDCG)
    for name, both in expected.items():
        live, shadow = np.mean(both, axis=0)
        assert found[name, "live"]["n"] == 29
        assert found[name, "live"]["estimate"] == pytest.approx(live)
        assert found[name, "difference"]["estimate"] == pytest.approx(shadow - live)


@pytest.mark.parametrize(
    ("items", "relevance", "expected"),
    [
        ("b", [1.0, 3.0], 1.0),
        ("a", [1.0, 3.0], 1 / 7),
        ("xa", [1.0, 3.0], 0.0),
        ("", [1.0, 3.0], 0.0),
        ("a", [5000.0, 5001.0], 0.5),
        ("ab", [0.0, 1e308], 0.0),
        ("ab", [0.0, 0.0], None),
        ("ab", [-1.0, 2.0], None),
    ],
)
def test_ndcg_of_odd_lists(db: Database, items: str, relevance: list[float], expected: float | None) -> None:
    found = db.value("select gnomon_estimators.ndcgs(%s::text[], '{a,b}', %s::float8[])", list(items), relevance)
    assert (found[5] if found else None) == (expected if expected is None else pytest.approx(expected))


def test_calibration_and_its_error(db: Database) -> None:
    s = sample(np.random.default_rng(15), 500, ties=False)
    db.add_pairs(s.rows())
    db.add_labels(s.labels(), START + 40 * DAY)
    rows = [row for row in ask(db, "calibration('s')") if row["side"] == "shadow"]
    order = np.argsort(s.shadow)
    w, p, y = s.weight[order], s.shadow[order], s.truth[order]
    bins = np.minimum(np.floor(10 * (np.cumsum(w) - w / 2) / w.sum()), 9)
    ece = 0.0
    for row, b in zip(rows, np.unique(bins), strict=True):
        inside = bins == b
        assert row["n"] == inside.sum()
        assert row["confidence"] == pytest.approx(np.average(p[inside], weights=w[inside]))
        assert row["observed"] == pytest.approx(np.average(y[inside], weights=w[inside]))
        assert row["low"] <= row["observed"] <= row["high"]
        ece += abs(np.sum(w[inside] * (y[inside] - p[inside]))) / w.sum()
    found = {row["side"]: row for row in ask(db, "calibration_error('s')")}
    assert found["shadow"]["estimate"] == pytest.approx(ece)
    assert 0 < found["shadow"]["standard_error"] < 0.2


def test_segments_and_hours_are_the_whole_in_parts(db: Database) -> None:
    s = sample(np.random.default_rng(19), 300)
    db.add_pairs(s.rows())
    agrees = (s.live > 0.5) == (s.shadow > 0.5)
    jfk = np.arange(300) % 3 != 0
    rows = ask(db, "segments('s')")
    found = {row["value"]: row for row in rows if row["metric"] == "agreement"}
    w = s.weight * jfk
    theta = np.average(agrees, weights=w)
    assert_estimate(found["JFK"], s, theta, w * (agrees - theta) / w.sum(), jfk)
    hours = [row for row in ask(db, "time_of_day('s', time_zone => 'Asia/Tokyo')") if row["metric"] == "agreement"]
    assert sum(row["n"] for row in hours) == 300
    tokyo = np.array([(moment.hour + 9) % 24 for moment in s.event_time])
    for row in hours:
        inside = tokyo == int(row["value"])
        assert row["estimate"] == pytest.approx(np.average(agrees[inside], weights=s.weight[inside]))
    weekdays = ask(db, "time_of_day('s', slice => 'weekday')")
    assert {row["value"] for row in weekdays} == {"1 Mon", "2 Tue", "3 Wed", "4 Thu", "5 Fri", "6 Sat"}


def test_disagreements_show_features_truth_and_the_control(db: Database) -> None:
    s = sample(np.random.default_rng(20), 60)
    db.add_deployment("same", "control")
    rows = [{**row, "features_numeric": [float(i), None], "features_text": ["x"]} for i, row in enumerate(s.rows())]
    db.add_pairs([{**row, "source_offset": i} for i, row in enumerate(rows)])
    db.add_pairs([{**row, "shadow_value": row["live_value"], "source_offset": i} for i, row in enumerate(rows)], "same")
    db.add("feature_columns", [
        {"stream_id": db.stream_id, "name": name, "kind": kind, "position": position, "avro_type": "double"}
        for name, kind, position in (("number", "numeric", 1), ("gone", "numeric", 2), ("word", "text", 1))
    ])  # fmt: skip
    db.add_labels(s.labels(), START + 40 * DAY)
    found = ask(db, "disagreements('s', 'new', top => 5)")
    agrees, distance = (s.live > 0.5) == (s.shadow > 0.5), abs(s.shadow - s.live)
    worst = np.lexsort((-distance, agrees))[:5]
    assert [row["difference"] for row in found] == pytest.approx([(s.shadow - s.live)[i] for i in worst])
    first = int(found[0]["request_id"][1:])
    assert found[0]["features"] == {"number": float(first), "word": "x"}
    assert found[0]["control_value"] == found[0]["live_value"]
    assert found[0]["truth_value"] == s.truth[first]
    assert ask(db, "disagreements('s', 'same')")[0]["status"] in {"ok", "no two answers differ in this period"}


def test_segments_have_the_quality_of_their_rows(db: Database) -> None:
    """Each value of a slice, AUC included, equals the report over only that value's rows."""
    s = sample(np.random.default_rng(21), 200)
    db.add_pairs(s.rows())
    db.add_labels(s.labels(), START + 40 * DAY)
    sliced = ask(db, "quality('s', horizon => '1 day', slice => 'segment:origin')")
    for origin in ("JFK", "LGA"):
        narrowed = ask(db, f"""quality('s', horizon => '1 day', segment => '{{"origin": "{origin}"}}')""")
        own = [row for row in sliced if row["value"] == origin]
        assert {row["metric"] for row in own} >= {"auc", "accuracy", "brier"}
        assert [(row["metric"], row["side"], row["n"]) for row in own] == [
            (row["metric"], row["side"], row["n"]) for row in narrowed
        ]
        for name in ("estimate", "se_row", "se_cluster", "se_day", "low", "high"):
            assert [row[name] for row in own] == pytest.approx([row[name] for row in narrowed], rel=1e-9), name
