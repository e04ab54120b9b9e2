"""Every estimator of report_v1 against NumPy, SciPy and scikit-learn on weighted, clustered data."""

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from psycopg.rows import dict_row
from scipy import stats
from sklearn import metrics as sk
from tests.report_rows import START, Database, Sample, sample

Array = NDArray[np.float64]


def ask(db: Database, call: str, *arguments: Any) -> list[dict[str, Any]]:
    """The rows of `select * from report_v1.<call>`."""
    with db.connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(f"select * from report_v1.{call}", arguments).fetchall()


def variances(s: Sample, residual: Array) -> tuple[float, float, float]:
    """By row, by cluster (row where there is none) and by day, of Σ residual."""
    alone = residual[s.cluster < 0]
    by_cluster = sum(residual[s.cluster == c].sum() ** 2 for c in np.unique(s.cluster[s.cluster >= 0]))
    by_day = sum(residual[s.day == d].sum() ** 2 for d in np.unique(s.day))
    return float((residual**2).sum()), float(by_cluster + (alone**2).sum()), float(by_day)


def assert_estimate(row: dict[str, Any], s: Sample, estimate: float, residual: Array) -> None:
    """The row holds this estimate, and the three variances of the residual that already has its weight."""
    by_row, by_cluster, by_day = variances(s, residual)
    assert row["estimate"] == pytest.approx(estimate, rel=1e-9, abs=1e-12)
    assert row["se_row"] == pytest.approx(by_row**0.5, rel=1e-9)
    assert row["se_cluster"] == pytest.approx(by_cluster**0.5, rel=1e-9)
    assert row["se_day"] == pytest.approx(by_day**0.5, rel=1e-9)
    assert row["standard_error"] == pytest.approx((by_cluster + by_day) ** 0.5, rel=1e-9)
    assert row["low"] < row["estimate"] < row["high"]


@pytest.mark.parametrize("seed", range(3))
def test_agreement_and_kappa(db: Database, seed: int) -> None:
    s = sample(np.random.default_rng(seed))
    db.add_pairs(s.rows())
    row = ask(db, "agreement('s')")[0]
    a, b, w = s.shadow > 0.5, s.live > 0.5, s.weight
    assert row["agreement"] == pytest.approx(sk.accuracy_score(b, a, sample_weight=w))
    assert row["kappa"] == pytest.approx(sk.cohen_kappa_score(b, a, sample_weight=w))
    assert row["n_effective"] == pytest.approx(w.sum() ** 2 / (w**2).sum())
    assert row["mean_difference"] == pytest.approx(np.average(s.shadow - s.live, weights=w))
    assert row["mean_absolute_difference"] == pytest.approx(np.average(abs(s.shadow - s.live), weights=w))
    theta = np.average(a == b, weights=w)
    by_row, by_cluster, by_day = variances(s, w * ((a == b) - theta) / w.sum())
    assert (row["se_row"], row["se_cluster"], row["se_day"]) == pytest.approx(
        (by_row**0.5, by_cluster**0.5, by_day**0.5)
    )
    # Kappa's residual by the jackknife's own idea: its derivative to each row's weight, taken numerically.
    kappa = row["kappa"]
    step = 1e-6
    derivative = np.empty(len(w))
    for i in range(len(w)):
        moved = w.copy()
        moved[i] += step
        derivative[i] = (sk.cohen_kappa_score(b, a, sample_weight=moved) - kappa) / step
    _, by_cluster, by_day = variances(s, derivative * w)
    assert row["kappa_se"] == pytest.approx((by_cluster + by_day) ** 0.5, rel=1e-3)


def test_kappa_of_a_published_table(db: Database) -> None:
    """Kappa 0.4842 with standard error 0.1380 for [[0, 4, 1], [0, 8, 0], [0, 1, 5]]."""
    table = [[0, 4, 1], [0, 8, 0], [0, 1, 5]]
    db.add_pairs(
        [
            {"live_label": "abc"[i], "shadow_label": "abc"[j]}
            for i, line in enumerate(table)
            for j, n in enumerate(line)
            for _ in range(n)
        ]
    )
    row = ask(db, "kappa('s')")[0]
    assert round(row["kappa"], 4) == 0.4842
    assert round(row["se_row"], 4) == 0.1380
    assert row["se_cluster"] == pytest.approx(row["se_row"])


def test_errors_and_their_cells(db: Database) -> None:
    rng = np.random.default_rng(5)
    s = sample(rng)
    rows = s.rows()
    live, shadow = rng.random(len(rows)) < 0.1, rng.random(len(rows)) < 0.2
    for i, row in enumerate(rows):
        row["live_error_kind"] = "exception" if live[i] else None
        row["outcome"] = "failed" if shadow[i] else "scored"
        row["shadow_error_kind"] = "model_error" if shadow[i] else None
    db.add_pairs(rows)
    found = {(row["metric"], row["side"]): {**row, "estimate": row["rate"]} for row in ask(db, "errors('s')")}
    w = s.weight / s.weight.sum()
    for side, y in (("live", live), ("shadow", shadow)):
        assert_estimate(found["error", side], s, (w * y).sum(), w * (y - (w * y).sum()))
    d = shadow.astype(float) - live
    assert_estimate(found["error", "difference"], s, (w * d).sum(), w * (d - (w * d).sum()))
    cells = [
        found[cell, "pair"]["rate"]
        for cell in ("both_answered", "only_live_failed", "only_shadow_failed", "both_failed")
    ]
    assert sum(cells) == pytest.approx(1)
    assert cells[3] == pytest.approx((w * (live & shadow)).sum())
    kinds = {(row["side"], row["kind"]): row for row in ask(db, "error_kinds('s')")}
    assert kinds["live", "exception"]["n"] == live.sum()
    assert kinds["shadow", "model_error"]["share"] == pytest.approx((w * shadow).sum())


def test_latency_quantiles(db: Database) -> None:
    s = sample(np.random.default_rng(8))
    rows = s.rows()
    probe = np.arange(len(rows)) % 4 != 0
    for i, row in enumerate(rows):
        row["shadow_batch_size"] = 1 if probe[i] else 64
    db.add_pairs(rows)
    found = {(row["measure"], row["quantile"]): row for row in ask(db, "latency('s')")}
    shadow = np.array([row["shadow_latency_us"] for row in rows])
    live = np.array([row["live_latency_us"] for row in rows])
    for measure, x, kept in (
        ("live_all", live, probe | True),
        ("live", live, probe),
        ("shadow", shadow, probe),
        ("difference", shadow - live, probe),
    ):
        w = s.weight * (1 if measure == "live_all" else len(rows) / probe.sum()) * kept
        order = np.argsort(x[kept], kind="stable")
        curve = np.cumsum(w[kept][order]) / w.sum()
        for p in (0.5, 0.95, 0.99):
            row = found[measure, p]
            q = x[kept][order][np.searchsorted(curve, p - 1e-12)]
            assert (row["n"], row["microseconds"]) == (kept.sum(), q)
            assert row["weight"] == pytest.approx(w.sum())
            residual = w * ((x <= q) - p) / w.sum()
            _, by_cluster, by_day = variances(s, residual)
            clusters = len(np.unique(s.cluster[kept & (s.cluster >= 0)])) + (kept & (s.cluster < 0)).sum()
            kish = min((w.sum() ** 2 / (w**2).sum()), clusters)
            low, high = share_interval(p, by_cluster + by_day, kish)
            assert row["low"] == x[kept][order][np.searchsorted(curve, low)]
            assert row["high"] == x[kept][order][min(np.searchsorted(curve, high), kept.sum() - 1)]


def share_interval(share: float, variance: float, kish: float) -> tuple[float, float]:
    """Korn and Graubard's interval by SciPy, Wilson's where both sides are large."""
    n = share * (1 - share) / variance if variance > 0 and 0 < share < 1 else kish
    if n * min(share, 1 - share) > 60:
        z = 1.96
        middle, spread = share + z * z / 2 / n, z * (share * (1 - share) / n + z * z / 4 / n / n) ** 0.5
        return (middle - spread) / (1 + z * z / n), (middle + spread) / (1 + z * z / n)
    return (
        float(stats.beta.ppf(0.025, share * n, (1 - share) * n + 1)) if share > 0 else 0.0,
        float(stats.beta.ppf(0.975, share * n + 1, (1 - share) * n)) if share < 1 else 1.0,
    )


@pytest.mark.parametrize(
    ("share", "variance", "kish"),
    [(0.0, 0.0, 100), (1.0, 0.0, 35.5), (0.01, 1e-4, 500), (0.5, 0.01, 40), (0.999, 1e-7, 1e6), (0.3, 1e-6, 3e5)],
)
def test_interval_of_a_share(db: Database, share: float, variance: float, kish: float) -> None:
    row = ask(db, "share_interval(%s, %s, %s)", share, variance, kish)[0]
    assert (row["low"], row["high"]) == pytest.approx(share_interval(share, variance, kish), rel=1e-7, abs=1e-9)


def test_beta_quantiles(db: Database) -> None:
    """Shares near 0 and 1, few and very many rows: where an interval of the beta distribution is asked for."""
    random = np.random.default_rng(23)
    for p in (0.025, 0.5, 0.975):
        for a, b in [(1.0, 400.0), (7.0, 1.0), *(10 ** random.uniform([-0.5, -0.5], [2, 5], (100, 2))).tolist()]:
            found = db.value("select report_v1.beta_quantile(%s, %s, %s)", p, a, b)
            assert found == pytest.approx(stats.beta.ppf(p, a, b), rel=1e-7), (p, a, b)


def test_special_functions(db: Database) -> None:
    for x in (0.01, 0.5, 1, 3.3, 50, 1e5):
        assert db.value("select report_v1.ln_gamma(%s)", x) == pytest.approx(math.lgamma(x), rel=1e-11, abs=1e-10)
    for x, a, b in ((0.3, 2, 5), (0.001, 1, 2000), (0.9, 3, 0.5), (0.999, 2000, 3), (0.2, 1e5, 4e5)):
        assert db.value("select report_v1.beta_cdf(%s, %s, %s)", x, a, b) == pytest.approx(
            stats.beta.cdf(x, a, b), rel=1e-6
        )
    for p, df in ((0.95, 1), (0.95, 9), (0.5, 20), (0.999, 100)):
        assert db.value("select report_v1.chi2_quantile(%s, %s)", p, df) == pytest.approx(
            stats.chi2.ppf(p, df), rel=1e-8
        )


@pytest.mark.parametrize("report", ["agreement", "confusion", "latency", "errors", "error_kinds", "coverage", "ledger"])
def test_nothing_is_said_of_nothing(db: Database, report: str) -> None:
    """No such stream, no such deployment, no row at all: a row that says so, no number made of nothing."""
    for arguments, said in ((("nowhere", None), "unknown stream"), (("s", "gone"), "unknown deployment")):
        rows = ask(db, f"{report}(%s, %s)", *arguments)
        assert rows
        assert all(said in row["status"] for row in rows)
    rows = ask(db, f"{report}('s')")
    assert rows
    assert all(row["status"] != "ok" for row in rows)
    assert all(
        row.get(name) is None
        for row in rows
        for name in ("agreement", "rate", "share", "microseconds", "coverage", "low")
    )


def test_one_class_only_and_nan(db: Database) -> None:
    db.add_pairs([{"live_label": "a", "shadow_label": "a", "live_value": 1.0, "shadow_value": 1.0}] * 30)
    row = ask(db, "agreement('s')")[0]
    assert (row["agreement"], row["kappa"], row["high"]) == (1, None, 1)
    assert 0.85 < row["low"] < 0.9  # 30 rows that all agree are no certainty: 0.025^(1/30)
    assert "one class only" in row["status"]
    db.add_deployment("nan", "control")
    db.add_pairs([{"live_value": 1.0, "shadow_value": float("nan")}] * 5, "nan")
    row = ask(db, "agreement('s', 'nan')")[0]
    assert (row["n"], row["not_comparable"], row["agreement"], row["mean_difference"]) == (0, 5, None, None)
    assert row["status"] == "no comparable pair in this period"


def test_period_and_segment(db: Database) -> None:
    s = sample(np.random.default_rng(3))
    db.add_pairs(s.rows())
    kept = np.arange(len(s.weight)) % 3 == 0
    row = ask(db, """agreement('s', segment => '{"origin": "LGA"}')""")[0]
    assert row["n"] == kept.sum()
    assert row["agreement"] == pytest.approx(np.average((s.live > 0.5) == (s.shadow > 0.5), weights=s.weight * kept))
    day = ask(db, "agreement('s', since => %s, until => %s)", START, s.event_time[10])[0]
    assert day["n"] == sum(START <= moment < s.event_time[10] for moment in s.event_time)
