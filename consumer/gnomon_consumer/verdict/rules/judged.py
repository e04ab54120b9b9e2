"""A series that is judged against its margin at one look. Pure."""

from dataclasses import dataclass, replace
from functools import lru_cache
from math import isfinite, log

import numpy as np

from gnomon_consumer.verdict.rules.confidence import NOISE, WEEK, Bounds, bounds, level_of, t_radius, tuned
from gnomon_consumer.verdict.rules.evalues import log_errors_below
from gnomon_consumer.verdict.rules.evidence import Series
from gnomon_consumer.verdict.rules.plan import METRICS, Plan
from gnomon_consumer.verdict.rules.words import name_of, number

FOREVER = 366
FIRST_REJECT = 7
"""Whole days before a metric may reject. A false REJECT at day 5 harms only the challenger, not the users."""
BOUNDED = ("accuracy", "agreement", "brier")
"""Metrics whose difference is at most 1 for each request."""


@lru_cache
def tuning(days: int, weeks: int, alpha: float) -> tuple[float, float]:
    """Return the g of days and of weeks, each tuned at its planned number for bounds with one-sided error `alpha`."""
    return tuned(days, 2 * alpha), tuned(weeks, 2 * alpha)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A series' bounds, oriented so that positive means that the challenger is better."""

    metric: str
    margin: float
    segment: str
    variant: str
    unit: str
    n: int
    estimate: float
    standard_error: float
    low: float
    high: float
    correlation: float
    skewness: float
    level: float = 0.0
    """The size of the metric itself, relative to which rounding noise is measured."""

    @property
    def known(self) -> bool:
        """Return whether both sides have a denominator."""
        return bool(np.isfinite(self.estimate))

    @property
    def name(self) -> str:
        """Return metric and segment, for a text."""
        return name_of(self.metric) + (f" of {self.segment}" if self.segment else "")

    @property
    def at_least(self) -> str:
        """Return the lower bound, for a text."""
        return f"is at least {number(self.low, self.level)}" if isfinite(self.low) else "has no lower bound"


def orientation(metric: str) -> int:
    """Return 1 if more is better, -1 if less is."""
    return METRICS[metric][0] if metric in METRICS else -1


def judge(series: Series, plan: Plan, margin: float, days: int) -> Judged:
    """Return the bounds after the first days of a series, with one-sided error `plan.alpha` on each side."""
    g_days, g_weeks = tuning(plan.days, plan.weeks, plan.alpha)
    weeks = {"auto": None, "day": False, "week": True}[plan.blocks]
    sums = series.sums(days)
    with np.errstate(invalid="ignore"):
        found: Bounds = bounds(sums, plan.alpha, g_days, g_weeks, weeks=weeks, clusters=series.between_clusters(days))
    level = level_of(sums)
    sign = orientation(series.metric)
    rows = sum(series.rows[:days])
    nothing = found.standard_error <= NOISE * level and found.estimate == 0
    if series.metric in BOUNDED and rows and nothing:
        # No request differed: the share of requests that differ may still be too small to have been observed.
        found = replace(found, standard_error=rarest(rows, plan.alpha), radius=1.0)
    ends = sorted((sign * float(found.low), sign * float(found.high)))
    return Judged(
        metric=series.metric,
        margin=margin,
        segment=series.segment,
        variant=series.variant,
        unit=found.unit,
        n=int(found.n),
        estimate=sign * float(found.estimate),
        standard_error=float(found.standard_error),
        low=ends[0],
        high=ends[1],
        correlation=float(found.correlation),
        skewness=sign * float(found.skewness),
        level=level,
    )


@lru_cache
def rarest(rows: int, alpha: float) -> float:
    """Return the share of requests that `rows` observations without a case exclude with error `alpha`."""
    alarm = -log(alpha)
    if log_errors_below(0, rows, 1 - 1e-9) < alarm:
        return 1.0
    from scipy.optimize import brentq

    return float(brentq(lambda share: log_errors_below(0, rows, share) - alarm, 1e-12, 1 - 1e-9))


def days_until(judged: Judged, plan: Plan, target: float, estimate: float | None = None) -> int | None:
    """Return the total number of days after which the lower bound would pass `target`; None if not within a year.

    It assumes that the difference stays at `estimate` (default: the current one) and the standard error falls with the
    root of the days.
    """
    if not judged.known or not judged.standard_error > 0:
        return None
    length = WEEK if judged.unit == "week" else 1
    g = tuning(plan.days, plan.weeks, plan.alpha)[judged.unit == "week"]
    least = -(-plan.days // length)
    n = np.arange(max(2, least), FOREVER // length + 1)
    if plan.promote_at == "week" and length == 1:
        n = n[n % WEEK == 0]
    width = t_radius(n, 2 * plan.alpha, g) * judged.standard_error * np.sqrt(judged.n / n)
    reached = n[(judged.estimate if estimate is None else estimate) - width > target]
    return int(reached[0]) * length if len(reached) else None
