"""The verdict's formulas against the numbers of the document, and their properties for any input."""

from dataclasses import replace
from math import exp, inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from gnomon_consumer.verdict.rules.confidence import (
    Clusters,
    Sums,
    bounds,
    difference,
    t_radius,
    tuned,
    variance_by_day,
)
from gnomon_consumer.verdict.rules.evalues import (
    discordant,
    e_bh,
    harm_evalue,
    log_errors_above,
    log_errors_below,
    t_evalue,
)
from gnomon_consumer.verdict.rules.summing import PairKind, Pairs, sides

ONE = np.ones


@pytest.mark.parametrize(
    ("alpha", "g", "radii"),
    [
        (0.05, 1.188, {5: 11.22, 7: 4.787, 14: 3.572, 28: 3.335, 90: 3.315}),
        (0.10, 1.573, {7: 3.995, 10: 3.379, 14: 3.149, 21: 3.029, 28: 2.995, 90: 3.029}),
        (0.10, 0.417, {4: 5.53, 5: 4.34, 6: 3.92, 8: 3.57, 12: 3.34, 26: 3.20}),
    ],
)
def test_radii_of_the_t_mixture(alpha: float, g: float, radii: dict[int, float]) -> None:
    for n, radius in radii.items():
        assert float(t_radius(n, alpha, g)) == pytest.approx(radius, abs=0.006 if radius > 5 else 0.0055)


@pytest.mark.parametrize("planned", [4, 5, 6, 14, 52, 366])
@pytest.mark.parametrize("alpha", [2e-6, 2e-5, 0.1, 0.4])
def test_every_plan_that_is_accepted_can_be_tuned(planned: int, alpha: float) -> None:
    assert np.isfinite(t_radius(planned, alpha, tuned(planned, alpha)))


@pytest.mark.parametrize(("planned", "alpha", "g"), [(14, 0.05, 1.188), (14, 0.10, 1.573), (6, 0.10, 0.417)])
def test_g_is_tuned_at_the_planned_number(planned: int, alpha: float, g: float) -> None:
    assert tuned(planned, alpha) == pytest.approx(g, rel=0.003)
    assert t_radius(planned, alpha, tuned(planned, alpha)) <= t_radius(planned, alpha, g) + 1e-9


def test_too_few_observations_exclude_nothing() -> None:
    assert t_radius(3, 0.10, 0.417) == inf
    assert t_radius(1, 0.10, 1.573) == inf
    with pytest.raises(ValueError, match="2 observations can never exclude anything"):
        tuned(2, 1e-9)


@pytest.mark.parametrize(("errors", "rows"), [(0, 3787), (1, 6655)])
def test_rows_that_the_error_gate_takes(errors: int, rows: int) -> None:
    assert exp(log_errors_below(errors, rows - errors, 0.001)) >= 20
    assert exp(log_errors_below(errors, rows - errors - 1, 0.001)) < 20


@pytest.mark.parametrize(("errors", "successes"), [(0, 50), (3, 200), (9, 12)])
def test_the_error_mixtures_are_the_integrals(errors: int, successes: int) -> None:
    limit = 0.02

    def likelihood(p: float) -> float:
        return float((p / limit) ** errors * ((1 - p) / (1 - limit)) ** successes * stats.beta.pdf(p, 0.5, 0.5))

    below = integrate.quad(likelihood, 0, limit)[0] / stats.beta.cdf(limit, 0.5, 0.5)
    above = integrate.quad(likelihood, limit, 1, limit=500)[0] / stats.beta.sf(limit, 0.5, 0.5)
    assert exp(log_errors_below(errors, successes, limit)) == pytest.approx(below, rel=1e-6)
    assert exp(log_errors_above(errors, successes, limit)) == pytest.approx(above, rel=1e-6)


@pytest.mark.parametrize(
    ("b", "c", "alarms"), [(7, 0, True), (6, 0, False), (11, 1, True), (10, 1, False), (14, 2, True), (13, 2, False)]
)
def test_alarms_of_the_discordant_pairs(b: int, c: int, alarms: bool) -> None:
    assert (discordant(b, c) >= 20) is alarms
    assert discordant(b, c) == pytest.approx(discordant(c, b))


def test_thousands_of_failures_of_one_side_are_an_alarm_and_no_error() -> None:
    assert 20 < discordant(100_000, 0) < inf
    assert 20 < discordant(0, 100_000) < inf


@given(st.integers(2, 200), st.floats(0.02, 0.2), st.floats(0.05, 5))
def test_an_evalue_reaches_its_level_where_t_reaches_its_radius(n: int, alpha: float, g: float) -> None:
    radius = float(t_radius(n, alpha, g))
    if radius < inf:
        assert float(t_evalue(radius, n, g)) == pytest.approx(1 / alpha, rel=1e-6)


def test_evalues_have_expectation_one_under_the_null() -> None:
    rng = np.random.default_rng(3)
    draws = rng.normal(size=(400_000, 6))
    t = draws.mean(1) / (draws.std(1, ddof=1) / np.sqrt(6))
    assert t_evalue(t, 6, 1.5).mean() == pytest.approx(1, abs=0.03)
    assert harm_evalue(np.array([0.0]), np.array([0.0]), 0.01, 14, 1.5)[0] == 0


def test_e_bh() -> None:
    assert e_bh([0.5, 81.0, 3.0], 0.05) == [1]
    assert e_bh([59.0, 59.0, 1.0], 0.05) == [0, 1]
    assert e_bh([59.0, 1.0, 1.0], 0.05) == []
    assert e_bh([], 0.05) == []


def shares(y: list[float], w: list[float], live: list[float] | None = None) -> Sums:
    return Sums(np.array(live or [0.0] * len(y)), np.array(w), np.array(y), np.array(w))


def test_the_variance_by_day_takes_the_lag_only_where_it_widens() -> None:
    assert variance_by_day(np.array([1.0, 1.0, -1.0, -1.0])) == pytest.approx((4 + 2 * 1) * 4 / 3)
    assert variance_by_day(np.array([1.0, -1.0, 1.0, -1.0])) == pytest.approx(4 * 4 / 3)


def test_a_mean_over_equal_days_is_a_t_statistic() -> None:
    days = np.array([0.3, -0.1, 0.2, 0.05])
    found = bounds(shares(list(days * 10), [10.0] * 4), 0.05, 1.5, 0.4, weeks=False)
    assert found.estimate == pytest.approx(days.mean())
    assert found.standard_error == pytest.approx(days.std(ddof=1) / 2)


def test_clusters_widen_and_never_narrow() -> None:
    sums = shares([1.0, 2.0, 0.5, 1.5], [10.0] * 4)
    plain = bounds(sums, 0.05, 1.5, 0.4, weeks=False).standard_error
    assert bounds(sums, 0.05, 1.5, 0.4, weeks=False, clusters=Clusters(1.0, 0.5)).standard_error > plain
    assert bounds(sums, 0.05, 1.5, 0.4, weeks=False, clusters=Clusters(1e-9, 1.0)).standard_error == plain


def test_weeks_are_counted_from_the_first_day() -> None:
    weekly = shares(list(map(float, range(20))), [1.0] * 20).weeks()
    assert weekly.shadow_y.tolist() == [21.0, 70.0]
    assert weekly.shadow_x.tolist() == [7.0, 7.0]


def test_days_that_alternate_by_the_week_are_counted_by_the_week() -> None:
    level = [0.1] * 7 + [-0.1] * 7
    found = bounds(shares(level * 3, [1.0] * 42), 0.05, 1.57, 0.417)
    assert (found.unit, found.n) == ("week", 6)


def test_nothing_that_varied_excludes_nothing() -> None:
    found = bounds(shares([0.5] * 14, [1.0] * 14), 0.05, 1.57, 0.417)
    assert found.low == -inf
    assert found.high == inf


days = st.lists(st.tuples(st.floats(0, 50), st.floats(0, 50), st.floats(1, 100)), min_size=5, max_size=40)


@given(days, st.floats(0.1, 5))
@settings(max_examples=50)
def test_a_constant_on_both_sides_changes_nothing_and_swapped_sides_change_the_sign(
    rows: list[tuple[float, float, float]], constant: float
) -> None:
    live, shadow, weight = (np.array(column) for column in zip(*rows, strict=True))
    one = Sums(live, weight, shadow, weight)
    moved = Sums(live + constant * weight, weight, shadow + constant * weight, weight)
    swapped = Sums(shadow, weight, live, weight)
    estimate, residuals = difference(one)
    assert difference(moved)[0] == pytest.approx(estimate, abs=1e-7)
    assert difference(moved)[1] == pytest.approx(residuals, abs=1e-7)
    assert difference(swapped)[0] == pytest.approx(-estimate)
    assert difference(swapped)[1] == pytest.approx(-residuals)


def test_rmse_and_ratios_are_linearised() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.uniform(50, 60, 30), rng.uniform(20, 30, 30)
    zero = Sums(np.zeros(30), x, y, x, root=True)
    estimate, residuals = difference(zero)
    assert estimate == pytest.approx(np.sqrt(y.sum() / x.sum()))
    # The delete-one jackknife by day is an independent route to the same standard error.
    leave = [np.sqrt((y.sum() - y[i]) / (x.sum() - x[i])) for i in range(30)]
    jackknife = 29 / 30 * ((np.array(leave) - np.mean(leave)) ** 2).sum()
    assert variance_by_day(residuals, lagged=False) == pytest.approx(jackknife, rel=0.1)


def test_a_decision_that_is_neither_class_is_not_an_alarm() -> None:
    kinds = [
        PairKind(day=0, watched={}, live="review", shadow=said, truth=truth, known=True)
        for said in ("late", "review")
        for truth in ("late", "on_time")
    ]
    truth = np.array([1.0, 0.0, 1.0, 0.0])
    pairs = Pairs(kinds=kinds, kind=np.arange(4), weight=ONE(4), live=ONE(4), shadow=ONE(4), truth=truth)
    found = sides(pairs, "precision")
    assert (found.live_x is not None and found.live_x.sum(), found.live_y.sum()) == (0, 0)
    assert (found.shadow_x is not None and found.shadow_x.tolist(), found.shadow_y.tolist()) == (
        [True, True, False, False], [True, False, False, False],
    )  # fmt: skip
    # Nobody has named the positive class yet: every decision that differs from a negative label is one.
    none_yet = sides(
        replace(pairs, kinds=[replace(kind, truth="on_time") for kind in kinds], truth=np.zeros(4)), "precision"
    )
    assert none_yet.shadow_x is not None
    assert none_yet.shadow_x.all()
