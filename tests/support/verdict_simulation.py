"""How often a challenger that is exactly as bad as the margin allows is promoted, by the code that decides.

A run is 91 days of traffic that differs from day to day (log-normal, fewer requests at weekends). Each day has a shock
that its rows share; `ratio` is the variance of the shocks over the variance of a day's mean by its rows alone. The true
difference is 0 relative to the boundary, so every PROMOTE is false.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gnomon_consumer.verdict.rules.confidence import Clusters, Sums, bounds
from gnomon_consumer.verdict.rules.judged import tuning
from gnomon_consumer.verdict.rules.plan import Plan

Floats = NDArray[np.float64]
DAYS = 91
ROWS = 70
PLAN = Plan()


@dataclass(frozen=True)
class Setting:
    """The properties of a run's days. `groups`: clusters (users) that stay the same over all days, 0 for none."""

    ratio: float = 1.0
    correlation: float = 0.0
    weekday: float = 0.0
    exponential: bool = False
    groups: int = 0


@dataclass(frozen=True)
class Runs:
    """Weighted day sums of many runs (runs, days), the rows' variance, and sums by cluster (runs, days, groups)."""

    y: Floats
    rows: Floats
    by_group: tuple[Floats, Floats] | None = None


def draw(setting: Setting, runs: int, seed: int) -> Runs:
    """Draw runs of `DAYS` days; the rows' own standard deviation is 1."""
    rng = np.random.default_rng(seed)
    weekend = np.where(np.arange(DAYS) % 7 >= 5, 0.5, 1.0)
    rows = np.maximum(2, np.round(ROWS * weekend * rng.lognormal(0, 0.4, (runs, DAYS))))
    shock = np.sqrt(setting.ratio / ROWS)
    effects = shock * shocks(rng, setting, runs)
    effects = effects + setting.weekday * shock * np.where(np.arange(DAYS) % 7 >= 5, 1.0, -0.4)
    y = rows * effects + np.sqrt(rows) * rng.normal(size=(runs, DAYS))
    if not setting.groups:
        return Runs(y, rows)
    # Every cluster has its own difference and an equal share of each day's rows.
    own = rng.normal(0, 0.3, (runs, 1, setting.groups))
    share = rows[..., None] / setting.groups * np.ones(setting.groups)
    noise = np.sqrt(share) * rng.normal(size=(runs, DAYS, setting.groups))
    of_groups = share * (effects[..., None] + own) + noise
    return Runs(of_groups.sum(-1), rows, (of_groups, share))


def shocks(rng: np.random.Generator, setting: Setting, runs: int) -> Floats:
    """Draw the days' shocks with variance 1 and mean 0; exponential ones fall on the side of the missing shock."""
    if setting.exponential:
        return np.asarray(1 - rng.exponential(size=(runs, DAYS)))
    fresh = rng.normal(size=(runs, DAYS))
    rho = setting.correlation
    found = np.empty_like(fresh)
    found[:, 0] = fresh[:, 0]
    for day in range(1, DAYS):
        found[:, day] = rho * found[:, day - 1] + np.sqrt(1 - rho * rho) * fresh[:, day]
    return found


def naive(runs: Runs, first: int = 1) -> Floats:
    """Return, by day, the share of runs promoted so far by a z test on the rows at every look (one-sided 5%)."""
    estimate = runs.y.cumsum(1) / runs.rows.cumsum(1)
    error = 1 / np.sqrt(runs.rows.cumsum(1))
    promoted = estimate > 1.6449 * error
    promoted[:, : first - 1] = False
    return np.asarray(np.maximum.accumulate(promoted, axis=1).mean(0))


def ours(runs: Runs, looks: list[int], weeks: bool | None = None, plan: Plan = PLAN) -> Floats:
    """Return, by look, the share of runs promoted so far by the bounds that the verdict uses."""
    g_days, g_weeks = tuning(plan.days, plan.weeks, plan.alpha)
    promoted = np.zeros(len(runs.y), dtype=bool)
    found = []
    zeros, ones = np.zeros_like(runs.y), np.ones_like(runs.y)
    whole = Sums(zeros, ones, runs.y, runs.rows)
    for look in looks:
        clusters = between(runs, look)
        seen = bounds(whole.first(look), plan.alpha, g_days, g_weeks, weeks=weeks, clusters=clusters)
        promoted |= np.asarray(seen.low > 0)
        found.append(promoted.mean())
    return np.array(found)


def between(runs: Runs, look: int) -> Clusters | None:
    """Return the variances between clusters, and between clusters within days, of the first days of each run."""
    if runs.by_group is None:
        return None
    y, share = (part[:, :look] for part in runs.by_group)
    total = share.sum((1, 2))
    estimate = y.sum((1, 2)) / total
    residuals = (y - estimate[:, None, None] * share) / total[:, None, None]
    groups = residuals.shape[2]
    cells = groups * look
    by_cluster = (residuals.sum(1) ** 2).sum(1) * groups / (groups - 1)
    by_both = (residuals**2).sum((1, 2)) * cells / (cells - 1)
    return Clusters(by_cluster, by_both)


DAILY = list(range(14, DAYS + 1))
WEEKLY = list(range(14, DAYS + 1, 7))
