"""Quality, calibration and labels of report_v1 against scikit-learn and NumPy on weighted, clustered data."""

import math
import operator
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from psycopg.rows import dict_row
from sklearn import metrics as sk
from tests.support.estimators import assert_estimate, share_interval, spread
from tests.support.report_database import START, Database, sample, to_ten_digits

Array = NDArray[np.float64]
DAY = timedelta(days=1)
NDCG = tuple(f"{name}@{k}" for name in ("ndcg", "ndcg_exp") for k in (1, 3, 5, 10, 20))


def ask(db: Database, call: str, *arguments: Any) -> list[dict[str, Any]]:
    function = call if call.startswith("gnomon_estimators.") else f"report_v1.{call}"
    with db.connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(f"select * from {function}", arguments).fetchall()


def quality(db: Database, horizon: str = "1 day") -> dict[tuple[str, str], dict[str, Any]]:
    rows = ask(db, "quality('s', horizon => %s::interval)", horizon)
    return {(row["metric"], row["side"]): row for row in rows}


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
    """The linearised residual, weight included, as scikit-learn's metric itself says: its slope in each weight."""
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
    """Answers 1e-7 apart, no clusters: the difference's own error, not what is left of sums that cancel."""
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
    """By scikit-learn, whose gain is linear; by hand with the gain 2^relevance - 1 (Burges et al. 2005)."""
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
        for name in NDCG if i else ():  # the list without a relevant item says nothing and is left out
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


def test_horizons_count_each_label_in_its_time(db: Database) -> None:
    """Labels by hand: in time, late for one day but not for three, never, corrected later."""
    times = [START + timedelta(hours=i) for i in range(6)]
    pairs = [
        {"request_id": f"r{i}", "event_time": moment, "live_label": "a", "shadow_label": "b"}
        for i, moment in enumerate(times)
    ]
    db.add_pairs([*pairs, {**pairs[0], "request_id": "young", "event_time": START + 9 * DAY}])
    arrived = [
        ("r0", times[0] + timedelta(hours=2), "a"),
        ("r1", times[1] + 2 * DAY, "a"),
        ("r2", times[2] + timedelta(hours=1), "a"),
        ("r2", times[2] + 2 * DAY, "b"),  # a correction, in time for three days only
        ("r3", times[3] + 8 * DAY, "a"),  # late for all
    ]
    db.add_labels([{"request_id": r, "observed_at": t, "label": v} for r, t, v in arrived], START + 10 * DAY)
    found = {row["horizon"]: row for row in ask(db, "labels('s')")}
    assert [found[h * DAY]["n"] for h in (1, 3, 7)] == [6, 6, 6]
    assert [found[h * DAY]["pending"] for h in (1, 3, 7)] == [1, 1, 1]
    assert [found[h * DAY]["early"] for h in (1, 3, 7)] == [0, 0, 0]
    assert [found[h * DAY]["labelled"] * 6 for h in (1, 3, 7)] == pytest.approx([2, 3, 3])
    assert [found[h * DAY]["late"] * 6 for h in (1, 3, 7)] == pytest.approx([2, 1, 1])
    assert found[DAY]["missing"] * 6 == pytest.approx(2)
    assert quality(db, "1 day")["accuracy", "live"]["estimate"] == 1
    assert quality(db, "3 days")["accuracy", "live"]["estimate"] == pytest.approx(2 / 3)  # the correction counts
    cells = ask(db, "label_cells('s', horizon => '3 days')")
    assert [(row["live_label"], row["shadow_label"], row["labelled"]) for row in cells] == [("a", "b", 0.5)]


def test_labels_from_before_their_capture_are_counted(db: Database) -> None:
    times = [START + timedelta(hours=n) for n in range(3)]
    db.add_pairs(
        [
            {"request_id": f"r{n}", "event_time": time, "live_label": "a", "shadow_label": "a"}
            for n, time in enumerate(times)
        ]
    )
    moments = [times[0] - timedelta(microseconds=1), times[1], times[2] + timedelta(hours=1)]
    db.add_labels(
        [{"request_id": f"r{n}", "observed_at": time, "label": "a"} for n, time in enumerate(moments)], START + 10 * DAY
    )
    found = ask(db, "labels('s')")
    assert {row["early"] for row in found} == {1}
    assert all(row["status"].startswith("1 labels were observed before their capture") for row in found)


def test_a_sealed_cohort_never_changes(db: Database) -> None:
    s = sample(np.random.default_rng(16), 80)
    db.add_pairs(s.rows())
    db.add_labels(s.labels()[:60], START + 40 * DAY)
    load = db.value("select max(load_id) from gnomon.label_loads")
    db.connection.execute(
        "insert into gnomon.cohorts (deployment_id, horizon, until, watermark, grace, label_kind, label_choice,"
        " source_offsets, label_offsets, load_ids) values (%s, '1 day', %s, %s, '0', 'explicit', 'last',"
        " '{\"0\": 70}', '{}', %s)",
        [db.deployments["new"], START + 20 * DAY, START + 40 * DAY, [load]],
    )
    before = quality(db)
    db.add_labels(s.labels()[60:], START + 41 * DAY)
    db.add_pairs([{**row, "request_id": f"x{i}"} for i, row in enumerate(s.rows())])
    after = quality(db)
    assert before["accuracy", "live"]["n"] == 60
    assert before["label_coverage", "pair"]["n"] == 70
    assert to_ten_digits(before) == to_ten_digits(after)
    assert before["accuracy", "live"]["sealed"] is True


def test_label_delay_is_kaplan_and_meiers(db: Database) -> None:
    rng = np.random.default_rng(17)
    delay = rng.integers(1, 60, 40)
    came = delay < 45
    db.add_pairs([{"request_id": f"r{i}", "event_time": START - timedelta(hours=int(i % 3))} for i in range(40)])
    db.add_labels(
        [
            {"request_id": f"r{i}", "observed_at": START + timedelta(hours=int(delay[i] - i % 3)), "label": "a"}
            for i in range(40)
            if came[i]
        ],
        START + timedelta(hours=45),
    )
    survival, expected = 1.0, {}
    ends = np.where(came, delay, 45 + np.arange(40) % 3)
    for t in np.unique(delay[came]):
        survival *= 1 - (came & (delay == t)).sum() / (ends >= t).sum()
        expected[timedelta(hours=int(t))] = 1 - survival
    found = {row["delay"]: row["share_arrived"] for row in ask(db, "label_delay('s')")}
    assert found == pytest.approx(expected)


def test_label_delay_goes_by_exact_times(db: Database) -> None:
    """In one step a request is censored before another's label comes: rounded up, both would be at risk to its end."""
    rng = np.random.default_rng(19)
    n = 300
    at = rng.uniform(0, 6 * 86400, n)
    delay, end = rng.exponential(86400, n), 6 * 86400 - at
    cluster = rng.integers(0, 40, n)
    weight = rng.choice([1.0, 2.0, 4.0], n)
    db.add_pairs([
        {
            "request_id": f"r{i}", "event_time": START + timedelta(seconds=at[i]), "cluster": f"c{cluster[i]}",
            "inclusion_probability": 1 / weight[i],
        }
        for i in range(n)
    ])  # fmt: skip
    came = delay < end
    db.add_labels(
        [
            {"request_id": f"r{i}", "observed_at": START + timedelta(seconds=at[i] + delay[i]), "label": "a"}
            for i in np.flatnonzero(came)
        ],
        START + timedelta(days=6),
    )
    seen = np.minimum(delay, end)
    survival, greenwood, curve = 1.0, 0.0, []
    for t in np.sort(seen[came]):
        gone, risk = weight[came & (seen == t)].sum(), weight[seen >= t].sum()
        survival *= 1 - gone / risk
        greenwood += gone / risk / (risk - gone) if risk > gone else 0.0
        curve.append((t, survival, greenwood))
    share = np.average(came, weights=weight)
    residual = weight * (came - share) / weight.sum()
    errors = spread(residual, cluster, (at // 86400).astype(np.int64))
    effect = max(errors.together**2 / (residual**2).sum(), 1.0)
    for row in ask(db, "label_delay('s', step => '6 hours')"):
        _, left, spread_ = [point for point in curve if point[0] <= row["delay"].total_seconds() + 1e-6][-1]
        assert row["share_arrived"] == pytest.approx(1 - left, abs=1e-6)
        if left > 1e-6:
            half = errors.t * (effect * spread_ * (weight**2).sum() / weight.sum()) ** 0.5 / -math.log(left)
            assert row["low"] == pytest.approx(1 - left ** math.exp(-half), rel=1e-5)
            assert row["high"] == pytest.approx(1 - left ** math.exp(half), rel=1e-5)


def test_the_labelled_share_has_an_interval_by_clusters_and_days(db: Database) -> None:
    s = sample(np.random.default_rng(21), 200)
    db.connection.execute("update gnomon.streams set horizons = %s", [[DAY]])
    db.add_pairs(s.rows())
    db.add_labels([row for row, has in zip(s.labels(), s.live > 0.3, strict=True) if has], START + 60 * DAY)
    (row,) = ask(db, "labels('s')")
    w, has = s.weight, s.live > 0.3
    share = np.average(has, weights=w)
    errors = spread(w * (has - share) / w.sum(), s.cluster, s.day)
    assert (row["labelled"], row["standard_error"]) == pytest.approx((share, errors.together))
    assert (row["low"], row["high"]) == pytest.approx(
        share_interval(share, errors.together**2, w.sum() ** 2 / (w**2).sum(), errors.t, errors.clusters), rel=1e-7
    )


@pytest.mark.parametrize("truth", [None, 0.0])
def test_missing_labels_and_one_class_only(db: Database, truth: float | None) -> None:
    s = sample(np.random.default_rng(18), 40)
    db.add_pairs(s.rows())
    assert {row["status"] for row in ask(db, "quality('s')")} == {"no labels stored yet"}
    labels = [] if truth is None else [{**row, "value": truth, "label": "on_time"} for row in s.labels()]
    db.add_labels(labels, START + 40 * DAY)
    found = quality(db)
    if truth is None:
        assert found["label_coverage", "pair"]["estimate"] == 0
        assert found["label_coverage", "pair"]["status"] == "no label has come for any of these pairs"
        assert {metric for metric, _ in found} == {"label_coverage", "answered", "answered_by_both"}
    else:
        assert found["auc", "live"]["status"] == "one class only"
        assert found["auc", "live"]["estimate"] is None
        assert found["recall", "live"]["status"] == "undefined: its denominator is 0"
        assert found["accuracy", "live"]["estimate"] == pytest.approx(np.average(s.live <= 0.5, weights=s.weight))
    assert {row["status"] for row in ask(db, "quality('s', horizon => '2 days')")} == {"no such horizon on this stream"}


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
    """Each value of a slice, AUC included, is the whole narrowed to that value."""
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


@pytest.mark.parametrize("choice", ["first", "last"])
@pytest.mark.parametrize("kind", ["explicit", "absence_is_negative"])
def test_labels_looked_up_one_by_one_are_those_of_the_join(db: Database, choice: str, kind: str) -> None:
    """A day of many is answered through the labels' index, a long period by a join: the same rows either way."""
    rng = np.random.default_rng(22)
    db.connection.execute("update gnomon.streams set label_choice = %s, label_kind = %s", [choice, kind])
    s = sample(rng, 300)
    db.add_pairs(s.rows())
    labels = [
        {**label, "observed_at": label["observed_at"] + timedelta(hours=int(later)), "value": float(rng.integers(0, 2))}
        for label in s.labels()
        for later in rng.choice(40, rng.integers(0, 4), replace=False)
    ]
    db.add_labels([{**label, "label": str(int(label["value"]))} for label in labels], START + 40 * DAY)
    inside = "where event_time >= %s and event_time < %s order by source_offset"
    for number in range(6):
        day = [START + number * DAY, START + (number + 1) * DAY]
        call = "gnomon_estimators.labelled('s', 'new', %s, %s, null, '1 day')"
        db.connection.execute("delete from gnomon.rollups")
        assert not db.value("select gnomon_estimators.holds_little('s', null, %s, %s)", *day)
        joined = ask(db, call, *day)
        db.connection.execute(
            "insert into gnomon.rollups (deployment_id, hour, stratum, sampled) values (%s, %s, '', 100),"
            " (%s, %s, '', 5)",
            [db.deployments["new"], START - DAY, db.deployments["new"], day[0]],
        )
        assert db.value("select gnomon_estimators.holds_little('s', null, %s, %s)", *day)
        key = operator.itemgetter("source_offset")
        assert sorted(ask(db, call, *day), key=key) == sorted(joined, key=key)
        assert ask(db, f"gnomon_estimators.labelled('s', null, null, null, null, '1 day') {inside}", *day) == sorted(
            joined, key=key
        )
        assert joined


def test_no_report_looks_through_all_labels_for_each_pair(db: Database) -> None:
    """Nor all cells for each window: not even over tables never analyzed, which the planner takes to be small."""
    readers = db.connection.execute(
        "select proname, 'enable_nestloop=off' = any (proconfig) from pg_proc"
        " where pronamespace in ('report_v1'::regnamespace, 'gnomon_estimators'::regnamespace)"
        " and prosrc like '%gnomon_estimators.labelled(%' or proname = 'ledger_differences'"
    ).fetchall()
    assert {"measured", "auc", "labels", "ledger_differences"} <= {name for name, _ in readers}
    assert all(guarded for _, guarded in readers), readers


@pytest.mark.parametrize("choice", ["first", "last"])
def test_of_several_versions_one_counts(db: Database, choice: str) -> None:
    """In time and covered by the seal: the first or the last of them; each pair stays one row."""
    db.connection.execute("update gnomon.streams set label_choice = %s", [choice])
    db.add_pairs([{"request_id": f"r{i}", "live_label": "1", "shadow_label": "0"} for i in range(20)])
    versions = [
        {"request_id": f"r{i}", "observed_at": START + timedelta(hours=hours), "value": value, "label": str(int(value))}
        for i in range(20)
        # Even requests change their mind in time; the last version of every one is too late.
        for hours, value in ((1, 1.0), (2, float(i % 2)), (80, 0.0))
    ]
    db.add_labels(versions, START + 40 * DAY)
    found = quality(db)
    assert found["label_coverage", "pair"]["n"] == 20
    assert found["accuracy", "live"]["n"] == 20
    assert found["accuracy", "live"]["estimate"] == (1.0 if choice == "first" else 0.5)
