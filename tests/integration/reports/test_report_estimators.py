"""Every estimator of report_v1 against NumPy, SciPy and scikit-learn on weighted, clustered data."""

import math
import uuid
from datetime import timedelta

import numpy as np
import pytest
from numpy.typing import NDArray
from psycopg.types.json import Jsonb
from scipy import stats
from sklearn import metrics as sk
from tests.support.estimators import assert_estimate, period_error, share_interval, spread
from tests.support.quality import ask
from tests.support.report_database import START, Database, sample

Array = NDArray[np.float64]


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
    expected = spread(w * ((a == b) - theta) / w.sum(), s.cluster, s.day)
    assert (row["se_row"], row["se_cluster"], row["se_day"]) == pytest.approx(
        (expected.row, expected.cluster, expected.day)
    )
    kish = w.sum() ** 2 / (w**2).sum()
    assert (row["low"], row["high"]) == pytest.approx(
        share_interval(theta, expected.together**2, kish, expected.t), rel=1e-7
    )
    # Kappa's residual as in the jackknife: its numerical derivative in each row's weight.
    kappa = row["kappa"]
    step = 1e-6
    derivative = np.empty(len(w))
    for i in range(len(w)):
        moved = w.copy()
        moved[i] += step
        derivative[i] = (sk.cohen_kappa_score(b, a, sample_weight=moved) - kappa) / step
    expected = spread(derivative * w, s.cluster, s.day)
    assert row["kappa_se"] == pytest.approx(expected.together, rel=1e-3)
    half = expected.t * expected.together
    assert (row["kappa_low"], row["kappa_high"]) == pytest.approx((kappa - half, min(kappa + half, 1)), rel=1e-3)


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
    row = ask(db, "gnomon_estimators.kappa('s')")[0]
    assert round(row["kappa"], 4) == 0.4842
    assert round(row["se_row"], 4) == 0.1380
    assert row["low"] is None  # of one day


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
        row["probe_probability"] = row["inclusion_probability"] * probe.sum() / len(rows) if probe[i] else None
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
            expected = spread(residual[kept], s.cluster[kept], s.day[kept])
            kish = w.sum() ** 2 / (w**2).sum()
            low, high = share_interval(p, expected.together**2, kish, expected.t)
            at_low = x[kept][order][np.searchsorted(curve, low)]
            at_high = x[kept][order][min(np.searchsorted(curve, high), kept.sum() - 1)]
            # The largest observed value is an end only if these rows can show that the quantile is below it.
            rows_of = min(kish, expected.clusters)
            assert row["low"] == (None if at_low == x[kept].min() and 1 - 0.025 ** (1 / rows_of) > p else at_low)
            assert row["high"] == (None if at_high == x[kept].max() and 0.025 ** (1 / rows_of) < p else at_high)
            near, far = share_interval(p, expected.together**2, kish)
            at_near = x[kept][order][np.searchsorted(curve, near)]
            at_far = x[kept][order][min(np.searchsorted(curve, far), kept.sum() - 1)]
            if at_far == x[kept].max() and 0.025 ** (1 / rows_of) < p:
                assert row["standard_error"] is None
            else:
                error = (at_far - at_near) / (2 * stats.norm.ppf(0.975))
                assert row["standard_error"] == pytest.approx(error)
                assert row["se_row"] == pytest.approx(error * expected.row / expected.together)


def test_the_error_of_a_median_over_two_days_is_that_of_a_median(db: Database) -> None:
    """The interval of two days reaches 12.7 standard errors, into the long tail; the standard error does not."""
    rng = np.random.default_rng(31)
    took = np.concatenate([rng.normal(400, 20, 160), rng.uniform(1_000, 10_000, 40)]).astype(int)
    db.add_pairs(
        [
            {
                "event_time": START + timedelta(days=at % 2, minutes=at),
                "shadow_latency_us": int(x),
                "live_latency_us": 1,
            }
            for at, x in enumerate(took)
        ]
    )
    row = next(r for r in ask(db, "latency('s')") if (r["measure"], r["quantile"]) == ("shadow", 0.5))
    density = 0.8 * stats.norm.pdf(stats.norm.ppf(0.5 / 0.8)) / 20
    assert row["se_row"] == pytest.approx((0.25 / len(took)) ** 0.5 / density, rel=0.4)
    assert row["standard_error"] < 10
    assert row["high"] is None or row["high"] > 1_000


@pytest.mark.parametrize(
    ("share", "variance", "kish"),
    [(0.0, 0.0, 100), (1.0, 0.0, 35.5), (0.01, 1e-4, 500), (0.5, 0.01, 40), (0.999, 1e-7, 1e6), (0.3, 1e-6, 3e5)],
)
def test_interval_of_a_share(db: Database, share: float, variance: float, kish: float) -> None:
    row = ask(db, "gnomon_estimators.share_interval(%s, %s, %s, null, null)", share, variance, kish)[0]
    assert (row["low"], row["high"]) == pytest.approx(share_interval(share, variance, kish), rel=1e-7, abs=1e-9)


def test_beta_quantiles(db: Database) -> None:
    """Shares near 0 and 1, few and very many rows, for which an interval of the beta distribution is needed."""
    random = np.random.default_rng(23)
    for p in (0.025, 0.5, 0.975):
        for a, b in [(1.0, 400.0), (7.0, 1.0), *(10 ** random.uniform([-0.5, -0.5], [2, 5], (100, 2))).tolist()]:
            found = db.value("select gnomon_estimators.beta_quantile(%s, %s, %s)", p, a, b)
            assert found == pytest.approx(stats.beta.ppf(p, a, b), rel=1e-7), (p, a, b)


def test_special_functions(db: Database) -> None:
    for x in (0.01, 0.5, 1, 3.3, 50, 1e5):
        assert db.value("select gnomon_estimators.ln_gamma(%s)", x) == pytest.approx(
            math.lgamma(x), rel=1e-11, abs=1e-10
        )
    for x, a, b in ((0.3, 2, 5), (0.001, 1, 2000), (0.9, 3, 0.5), (0.999, 2000, 3), (0.2, 1e5, 4e5)):
        assert db.value("select gnomon_estimators.beta_cdf(%s, %s, %s)", x, a, b) == pytest.approx(
            stats.beta.cdf(x, a, b), rel=1e-6
        )
    random = np.random.default_rng(3)
    for a, b in 10 ** random.uniform(-0.3, [4, 5.5], (30, 2)):
        for p in (0.025, 0.05, 0.975):
            found = db.value("select gnomon_estimators.beta_quantile(%s, %s, %s)", p, float(a), float(b))
            assert found == pytest.approx(stats.beta.ppf(p, a, b), rel=1e-9), (p, a, b)
    reaches = db.value("select array_agg(gnomon_estimators.reach(df) order by df) from generate_series(1, 400) df")
    assert reaches == pytest.approx(stats.t.ppf(0.975, range(1, 401)), rel=1e-11)


@pytest.mark.parametrize("report", ["agreement", "confusion", "latency", "errors", "error_kinds", "coverage", "ledger"])
def test_nothing_is_said_of_nothing(db: Database, report: str) -> None:
    """No such stream, no such deployment, no row at all: a row that reports it, and no number."""
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
    assert (row["agreement"], row["kappa"], row["low"]) == (1, None, None)  # minutes of one day
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


def test_the_error_of_the_period_is_that_of_the_drawing(db: Database) -> None:
    """4 of 10 and 3 of 6: 10² · 0.6 · (1/4)/4 + 6² · 0.5 · (1/3)/3 = 5.75 by hand, over 16²."""
    drawn = [("a", 0.4, agrees) for agrees in (1, 0, 1, 1)] + [("b", 0.5, agrees) for agrees in (0, 1, 0)]
    db.add_pairs(
        [
            {"stratum": cell, "inclusion_probability": chance, "live_label": "1", "shadow_label": str(agrees)}
            for cell, chance, agrees in drawn
        ]
    )
    row = ask(db, "agreement('s')")[0]
    assert row["agreement"] == pytest.approx(9.5 / 16)
    assert row["se_period"] == pytest.approx(5.75**0.5 / 16, rel=1e-9)
    assert (row["low"], row["high"]) == (None, None)  # one day shows nothing about days like it
    assert row["period_low"] < row["agreement"] < row["period_high"]


@pytest.mark.parametrize("seed", range(3))
def test_the_error_of_the_period_on_random_cells(db: Database, seed: int) -> None:
    """A segment leaves rows of a cell out: they are still part of its sample, by the ledger's count."""
    rng = np.random.default_rng(seed)
    s = sample(rng)
    cells = (1 / s.weight * 100).astype(int)  # rows of one cell have one probability
    rows = [{**row, "stratum": str(cell)} for row, cell in zip(s.rows(), cells, strict=True)]
    db.add_pairs(rows)
    agrees = (s.live > 0.5) == (s.shadow > 0.5)
    residual = s.weight * (agrees - np.average(agrees, weights=s.weight)) / s.weight.sum()
    sampled = np.array([(cells == cell).sum() for cell in cells])
    row = ask(db, "agreement('s')")[0]
    assert row["se_period"] == pytest.approx(period_error(residual, cells, 1 / s.weight, sampled), rel=1e-9)


def add_ledger(db: Database, cells: set[int], size: int, k: int, draw: float = 1.0) -> None:
    """Add a window for each cell: `k` of `size` captures are sampled, all of them are in the probe."""
    number = {"deployment_id": db.deployments["new"], "source_partition": 0}
    chance = draw * k / size
    for cell in cells:
        window = {"window_id": uuid.UUID(int=cell + 9), "tick_id": uuid.UUID(int=1)}
        times = {"opened_at": START, "sealed_at": START, "close_reason": "age", "lag_s": 0.0, "seed": 1}
        span = {"start_offset": cell * size, "end_offset": cell * size + size, "shadow_offset": 0}
        db.add("windows", [number | window | times | span | {"seen": size, "joined_seen": size, "policy": "house"}])
        counts = {"scored": k, "failed": 0, "timed_out": 0, "dead_lettered": 0, "stratum": "", "probed": k}
        drawn = {"seen": size, "sampled": k, "draw_probability": draw, "probe_probability": chance}
        db.add("cells", [number | counts | drawn | {"start_offset": cell * size}])


def test_a_probe_of_the_whole_sample_is_the_sample(db: Database) -> None:
    """Latencies of the probe have the intervals of all live latencies, also in a segment of some rows of each cell.

    The rows of a cell are alike, so that the partitions that were not drawn matter.
    """
    rng, size, k, draw = np.random.default_rng(5), 8, 4, 0.5
    cells = np.repeat(np.arange(60), k)
    chance = draw * k / size
    latencies = (np.repeat(rng.gamma(2, 1000, 60), k) + rng.random(len(cells)) * 10).astype(int).tolist()
    rows = [
        {"window_id": uuid.UUID(int=int(cell) + 9), "inclusion_probability": chance, "probe_probability": chance,
         "request_id": f"r{at}", "segments": Jsonb({"side": "aaab"[at % 4]}), "live_latency_us": micros,
         "shadow_latency_us": 1}
        for at, (cell, micros) in enumerate(zip(cells, latencies, strict=True))
    ]  # fmt: skip
    db.add_pairs(rows)
    add_ledger(db, set(cells.tolist()), size, k, draw)
    found = ask(db, """latency('s', segment => '{"side": "a"}')""")
    said = {
        measure: [{name: row[name] for name in ("quantile", "n", "period_low", "period_high", "se_period")}
                  for row in found if row["measure"] == measure]
        for measure in ("live", "live_all")
    }  # fmt: skip
    assert said["live"] == said["live_all"]
    assert said["live"][0]["n"] == 180
    assert said["live"][0]["se_period"] > 0


def test_partitions_that_were_not_drawn_are_part_of_the_error(db: Database) -> None:
    """Of 40 partitions half are drawn, 5 of 20 captures each: by the formula, and on average the true variance."""
    rng, draw, size, k = np.random.default_rng(4), 0.5, 20, 5
    y = (rng.random((40, size)) < rng.beta(2, 2, 40)[:, None]).astype(float)

    def one() -> tuple[float, NDArray[np.float64], NDArray[np.int64]]:
        cells = np.flatnonzero(rng.random(40) < draw)
        got = np.concatenate([rng.permutation(y[cell])[:k] for cell in cells])
        return float(got.mean()), (got - got.mean()) / len(got), np.repeat(cells, k)

    shares, errors = [], []
    for _ in range(2000):
        share, residual, cells = one()
        shares.append(share)
        chance = np.full(len(cells), draw * k / size)
        errors.append(period_error(residual, cells, chance, np.full(len(cells), k), draw) ** 2)
    assert np.mean(errors) == pytest.approx(np.var(shares), rel=0.1)

    share, residual, cells = one()
    rows = [
        {"window_id": uuid.UUID(int=int(cell) + 9), "inclusion_probability": draw * k / size, "live_label": "1",
         "shadow_label": str(int(value > 0)), "request_id": f"r{at}"}
        for at, (cell, value) in enumerate(zip(cells, residual, strict=True))
    ]  # fmt: skip
    db.add_pairs(rows)
    add_ledger(db, set(cells.tolist()), size, k, draw)
    row = ask(db, "agreement('s')")[0]
    expected = period_error(residual, cells, np.full(len(cells), draw * k / size), np.full(len(cells), k), draw)
    assert row["agreement"] == pytest.approx(share)
    assert row["se_period"] == pytest.approx(expected, rel=1e-9)
    assert row["se_period"] > 1.3 * period_error(
        residual, cells, np.full(len(cells), draw * k / size), np.full(len(cells), k)
    )


def test_nothing_that_varies_is_no_certainty(db: Database) -> None:
    """Ten days without variation: a share keeps its effective rows, a difference adds both ends, a mean has none."""
    db.add_pairs(
        [
            {
                "event_time": START + timedelta(days=day), "request_id": f"r{day}", "live_label": "1",
                "shadow_label": "1", "live_value": 0.5, "shadow_value": 0.5,
            }
            for day in range(10)
        ]
    )  # fmt: skip
    row = ask(db, "agreement('s')")[0]
    assert (row["low"], row["high"]) == pytest.approx((0.025**0.1, 1), rel=1e-6)
    assert (row["mean_difference"], row["mean_difference_low"], row["mean_difference_high"]) == (0, None, None)
    errors = {row["side"]: row for row in ask(db, "errors('s')") if row["metric"] == "error"}
    reach_up = 1 - 0.025**0.1
    assert (errors["difference"]["low"], errors["difference"]["high"]) == pytest.approx((-reach_up, reach_up), rel=1e-6)


def test_large_numbers_that_hardly_differ_keep_their_error(db: Database) -> None:
    noise = np.random.default_rng(5).normal(size=400)
    db.add_pairs(
        [
            {"event_time": START + timedelta(days=i % 10, seconds=i), "live_value": 0.0, "shadow_value": 1e8 + float(e)}
            for i, e in enumerate(noise)
        ]
    )
    row = ask(db, "agreement('s')")[0]
    assert row["mean_difference_se"] == pytest.approx(0.05, rel=0.1)
    assert row["mean_difference_low"] < 1e8 < row["mean_difference_high"]
