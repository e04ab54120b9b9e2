"""How often a challenger at the margin is promoted by the deciding code: a short version, and the long suite."""

import numpy as np
import pytest
from tests.support.verdict_simulation import DAILY, PLAN, WEEKLY, Setting, draw, naive, ours

from gnomon_consumer.verdict.rules.evalues import e_bh, harm_evalue
from gnomon_consumer.verdict.rules.judged import tuning


@pytest.mark.parametrize("ratio", [0, 20])
def test_a_quick_look(ratio: float) -> None:
    runs = draw(Setting(ratio), 400, seed=5)
    assert ours(runs, WEEKLY)[-1] <= 0.05
    assert naive(runs)[-1] > 0.25


@pytest.mark.long
@pytest.mark.parametrize("ratio", [0, 1, 4, 20, 100])
def test_false_promotions_over_90_days_of_daily_looks(ratio: float) -> None:
    runs = draw(Setting(ratio), 2000, seed=6)
    assert ours(runs, DAILY)[-1] <= 0.05
    assert ours(runs, WEEKLY)[-1] <= 0.04
    assert ours(runs, WEEKLY, weeks=True)[-1] <= 0.05
    assert naive(runs)[-1] > 0.25


@pytest.mark.long
@pytest.mark.parametrize("ratio", [0, 20])
def test_lasting_clusters_and_uneven_traffic(ratio: float) -> None:
    runs = draw(Setting(ratio, groups=30), 1000, seed=7)
    assert ours(runs, DAILY)[-1] <= 0.065
    assert naive(runs)[-1] > 0.25


@pytest.mark.long
@pytest.mark.parametrize(
    ("correlation", "ratio", "by_default", "by_weeks"),
    [(0.3, 20, 0.06, 0.045), (0.6, 20, 0.11, 0.05), (0.8, 1, 0.18, 0.085)],
)
def test_what_days_that_depend_on_each_other_cost(
    correlation: float, ratio: float, by_default: float, by_weeks: float
) -> None:
    runs = draw(Setting(ratio, correlation), 2000, seed=8)
    assert ours(runs, WEEKLY)[-1] <= by_default
    assert ours(runs, WEEKLY, weeks=True)[-1] <= by_weeks


@pytest.mark.long
def test_the_known_limit_rare_very_bad_days() -> None:
    runs = draw(Setting(20, exponential=True), 2000, seed=9)
    assert 0.05 < ours(runs, DAILY)[-1] < 0.14


def false_harm(runs: int, segments: int, seed: int) -> float:
    """Return the share of runs in which a segment at its margin is ever reported as harmed, with looks every day."""
    rng = np.random.default_rng(seed)
    g = tuning(PLAN.days, PLAN.weeks, PLAN.alpha)[0]
    days = rng.normal(size=(runs, segments, 91)) + 0.7 * rng.normal(size=(runs, 1, 91))
    harmed = np.zeros(runs, dtype=bool)
    for look in range(7, 92):
        first = days[..., :look]
        mean, error = first.mean(-1), first.std(-1, ddof=1) / np.sqrt(look)
        values = harm_evalue(mean, error, 0.0, look, g)
        # e-BH rejects something exactly if some k of the largest reach their level.
        ordered = -np.sort(-values, axis=1)
        harmed |= (ordered * np.arange(1, segments + 1) >= segments / PLAN.alpha).any(1)
    assert bool(harmed[0]) or not e_bh(list(values[0]), PLAN.alpha)
    return float(harmed.mean())


def test_forty_segments_none_harmed() -> None:
    assert false_harm(300, 40, seed=10) <= 0.05


@pytest.mark.long
def test_forty_segments_none_harmed_two_thousand_times() -> None:
    assert false_harm(2000, 40, seed=11) <= 0.05
