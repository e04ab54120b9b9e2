"""The expectation of a plan, before and while it runs: days until a decision, margins that can be shown, cost. Pure."""

from dataclasses import dataclass

from gnomon_consumer.verdict.rules.confidence import WEEK, t_radius
from gnomon_consumer.verdict.rules.gate import target
from gnomon_consumer.verdict.rules.judged import FOREVER, Judged, days_until, tuning
from gnomon_consumer.verdict.rules.plan import Plan

HORIZONS = (14, 28, 56)


@dataclass(frozen=True, kw_only=True)
class Expected:
    """Days until PROMOTE (None: not within a year), and the margin that can be shown within this many days.

    `source` names the origin of the standard deviation of a day's difference. `rows` and `cpu_hours` are those of the
    days until PROMOTE, or of the planned days.
    """

    metric: str
    margin: float
    goal: str
    source: str
    day_sd: float
    difference: float | None
    days_if_it_stays: int | None
    days_if_none: int | None
    shown_margins: dict[int, float]
    smallest_margin: float
    rows: int | None
    cpu_hours: float | None
    attainable: bool = True

    @property
    def feasible(self) -> bool:
        """Return whether a year of days can show the margin, and whether a challenger can reach the goal."""
        return self.attainable and self.margin >= self.smallest_margin


def expect(
    plan: Plan,
    day_sd: float,
    source: str,
    difference: float | None = None,
    rows_a_day: float | None = None,
    cpu_us_a_row: float | None = None,
) -> Expected:
    """Return the expectation if a day's difference has the standard deviation `day_sd`."""
    margin = plan.margins()[plan.metric]
    beyond = target(plan, plan.metric)
    one_day = Judged(
        metric=plan.metric,
        margin=margin,
        segment="",
        variant="complete",
        unit="week" if plan.blocks == "week" else "day",
        n=1,
        estimate=difference or 0.0,
        standard_error=day_sd if plan.blocks != "week" else day_sd / WEEK**0.5,
        low=0.0,
        high=0.0,
        correlation=0.0,
        skewness=0.0,
    )
    stays = None if difference is None else days_until(one_day, plan, beyond)
    none = days_until(one_day, plan, beyond, estimate=0.0)
    margins = {days: shown_margin(plan, day_sd, days) for days in HORIZONS}
    smallest = min(shown_margin(plan, day_sd, days) for days in range(plan.days, FOREVER + 1, WEEK))
    days = stays or none or plan.days
    rows = None if rows_a_day is None else round(rows_a_day * days)
    hours = None if rows is None or cpu_us_a_row is None else rows * cpu_us_a_row / 3.6e9
    return Expected(
        metric=plan.metric,
        margin=margin,
        goal=plan.goal,
        source=source,
        day_sd=day_sd,
        difference=difference,
        days_if_it_stays=stays,
        days_if_none=none,
        shown_margins=margins,
        smallest_margin=smallest,
        rows=rows,
        cpu_hours=hours,
        attainable=plan.attainable,
    )


def least_day_sd(plan: Plan, differ: float, rows_a_day: float) -> float:
    """Return the least deviation of a day's difference if both sides differ on this share of so many requests a day.

    This is the variation from single requests; effects that a day's requests share (weather, a campaign) add to it.
    Raises ValueError for a metric that the share of differing requests does not determine.
    """
    if plan.metric == "accuracy":
        # On each differing request the difference is -1 or 1, on all others 0.
        return float((differ / rows_a_day) ** 0.5)
    if plan.metric == "agreement":
        return float((differ * (1 - differ) / rows_a_day) ** 0.5)
    raise ValueError(
        f"the difference in {plan.metric} does not follow from the share of requests that differ; give --day-sd"
    )


def shown_margin(plan: Plan, day_sd: float, days: int) -> float:
    """Return the width of the bound after so many days: the margin that is shown if the true difference is 0."""
    g_days, g_weeks = tuning(plan.days, plan.weeks, plan.alpha)
    if plan.blocks == "week":
        n = days // WEEK
        return float(t_radius(n, 2 * plan.alpha, g_weeks) * day_sd / (n * WEEK) ** 0.5) if n else float("inf")
    return float(t_radius(days, 2 * plan.alpha, g_days) * day_sd / days**0.5)
