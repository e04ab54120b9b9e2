"""Bounds on a difference that hold at every look, from sums by whole days. Pure.

The sample size is the number of days, because effects common to a day do not average out over its rows. The last
axis of an array is the days; leading axes are independent series, so that a simulation runs the code that decides.
"""

from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np

from gnomon_schemas.arrays import Floats

WEEK = 7
NOISE = 1e-6
"""A difference below this share of the metric itself counts as 0: single precision carries 24 bits, so the same
model in another runtime differs from itself by some 1e-7."""
DEPENDENT = 0.2
"""The estimated lag-1 correlation above which weeks, not days, are the sample."""


def t_radius(n: Any, alpha: float, g: float) -> Floats:
    """Return the radius T of the anytime-valid t interval, in standard errors, after `n` observations.

    The two-sided error over all looks is at most `alpha`; the radius is infinite for too few observations. `g > 0` is
    the mixture's precision, see `tuned`. Lindon, Ham, Tingley and Bojinov, "Anytime-valid linear models and regression
    adjusted causal inference" (2022), with one coefficient: r = g/(g + n), p = (r·alpha²)^(1/n), T = sqrt((n - 1)(1 -
    p)/(p - r)).
    """
    n = np.asarray(n, dtype=float)
    r = g / (g + n)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = (r * alpha * alpha) ** (1 / n)
        squared = (n - 1) * (1 - p) / (p - r)
    return np.where((p > r) & (n > 1), np.sqrt(np.maximum(squared, 0)), np.inf)


def tuned(planned: int, alpha: float) -> float:
    """Return the g that makes `t_radius` narrowest after the planned number of observations, at least 3.

    Raises ValueError if no g gives a finite radius at that number.
    """
    from scipy.optimize import minimize_scalar  # takes longer to load than a stored verdict to print

    def radius(log_g: float) -> float:
        return min(float(t_radius(planned, alpha, float(np.exp(log_g)))), 1e9)

    best = minimize_scalar(radius, bounds=(-12, 6), method="bounded")
    if best.fun >= 1e9:
        # The radius is finite where r < alpha^(2/(n - 1)), which the search missed.
        largest = alpha ** (2 / (planned - 1))
        end = float(np.log(planned * largest / (1 - largest)))
        best = minimize_scalar(radius, bounds=(end - 12, end), method="bounded")
    if best.fun >= 1e9:
        raise ValueError(f"{planned} observations can never exclude anything at alpha = {alpha}; plan more of them")
    return float(np.exp(best.x))


@dataclass(frozen=True)
class Sums:
    """Weighted sums by day (last axis) of the two sides of a metric.

    A side is the ratio y/x: a mean has x = the weight, precision has x = the weight of the positive decisions. `root`
    takes the square root of the ratio (RMSE).
    """

    live_y: Floats
    live_x: Floats
    shadow_y: Floats
    shadow_x: Floats
    _: KW_ONLY
    root: bool = False

    @property
    def days(self) -> int:
        """Return the number of days."""
        return int(self.live_y.shape[-1])

    def first(self, days: int) -> "Sums":
        """Return the sums of the first days."""
        return self._each(lambda sums: sums[..., :days])

    def weeks(self) -> "Sums":
        """Return sums by whole weeks counted from the first day; days after the last whole week are left out."""
        whole = self.days // WEEK
        return self._each(lambda s: s[..., : whole * WEEK].reshape(*s.shape[:-1], whole, WEEK).sum(axis=-1))

    def _each(self, change: Any) -> "Sums":
        return Sums(
            change(self.live_y), change(self.live_x), change(self.shadow_y), change(self.shadow_x), root=self.root
        )


@dataclass(frozen=True)
class Clusters:
    """The variance that clusters (users, sessions) add: V_c between clusters, V_cd between clusters within days."""

    by_cluster: float = 0.0
    by_cluster_and_day: float = 0.0


def _side(y: Floats, x: Floats, root: bool) -> tuple[Floats, Floats]:
    """Return the side's estimate and its linearised residual by day; both sum over the last axis."""
    with np.errstate(divide="ignore", invalid="ignore"):
        total = x.sum(axis=-1, keepdims=True)
        ratio = y.sum(axis=-1, keepdims=True) / total
        residual = (y - ratio * x) / total
        if root:
            # A side without any error has no residual either.
            return np.sqrt(ratio)[..., 0], np.where(ratio == 0, 0.0, residual / (2 * np.sqrt(ratio)))
        return ratio[..., 0], residual


def difference(sums: Sums) -> tuple[Floats, Floats]:
    """Return shadow minus live, and the residual r_d of each day; NaN if a side has no denominator.

    A difference that is rounding noise is 0.
    """
    live, of_live = _side(sums.live_y, sums.live_x, sums.root)
    shadow, of_shadow = _side(sums.shadow_y, sums.shadow_x, sums.root)
    between = shadow - live
    level = np.maximum(np.abs(live), np.abs(shadow))
    return np.where(np.abs(between) <= NOISE * level, 0.0, between), of_shadow - of_live


def level_of(sums: Sums) -> float:
    """Return the size of a metric: the larger of its two sides."""
    sides = (_side(sums.live_y, sums.live_x, sums.root), _side(sums.shadow_y, sums.shadow_x, sums.root))
    return max(abs(float(side[0])) for side in sides)


def correlation(residuals: Floats) -> Floats:
    """Return the estimated lag-1 correlation of the days, Σ r_d r_(d-1) / Σ r_d²; 0 if the days do not vary."""
    squares = (residuals**2).sum(axis=-1)
    products = (residuals[..., 1:] * residuals[..., :-1]).sum(axis=-1)
    return np.asarray(np.divide(products, squares, out=np.zeros_like(squares), where=squares > 0))


def variance_by_day(residuals: Floats, lagged: bool = True) -> Floats:
    """Return (Σ r_d² + 2·max(0, Σ r_d r_(d-1)))·D/(D - 1).

    The lag-1 term is that of Newey and West (1987) with one lag and full weight. It is used only if it widens the
    bounds: without it, days that depend on each other give a false PROMOTE two to three times too often.
    """
    days = residuals.shape[-1]
    if days < 2:
        return np.full(residuals.shape[:-1], np.nan)
    total = (residuals**2).sum(axis=-1)
    if lagged:
        total = total + 2 * np.maximum(0, (residuals[..., 1:] * residuals[..., :-1]).sum(axis=-1))
    return np.asarray(total * days / (days - 1))


def skewness(residuals: Floats) -> Floats:
    """Return the skewness of the day residuals: far from 0, a rare very bad day may still occur."""
    squares = (residuals**2).mean(axis=-1)
    cubes = (residuals**3).mean(axis=-1)
    return np.asarray(np.divide(cubes, squares**1.5, out=np.zeros_like(squares), where=squares > 0))


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Bounds after `n` whole days or weeks: at every look the difference is within estimate ± radius·standard_error."""

    unit: str
    n: Any
    estimate: Any
    standard_error: Any
    radius: Any
    correlation: Any
    skewness: Any

    @property
    def low(self) -> Any:
        """Return the lower bound, minus infinity if the data excludes nothing."""
        return self.estimate - self._width

    @property
    def high(self) -> Any:
        """Return the upper bound, infinity if the data excludes nothing."""
        return self.estimate + self._width

    @property
    def _width(self) -> Any:
        # No variation so far does not mean none in the days to come, so nothing is excluded.
        with np.errstate(invalid="ignore"):
            return np.where(self.standard_error > 0, self.radius * self.standard_error, np.inf)


def bounds(sums: Sums, alpha: float, g_days: float, g_weeks: float, *, weeks: bool | None = None,
           clusters: Clusters | None = None) -> Bounds:  # fmt: skip
    """Return the bounds after the days of `sums`, each side with error at most `alpha` over all looks.

    `weeks`: True counts whole weeks, False days, None days unless their estimated lag-1 correlation exceeds
    `DEPENDENT`. The standard error is that of the days (weeks), or the two-way one of Cameron, Gelbach and Miller
    (2011), V_c + V_d - V_cd, or V_c, whichever is largest.
    """
    estimate, residuals = difference(sums)
    rho = correlation(residuals)
    by_day = _of(sums, residuals, estimate, variance_by_day(residuals), "day", alpha, g_days, clusters, rho)
    if weeks is False or (weeks is None and not np.any(rho > DEPENDENT)):
        return by_day
    weekly = sums.weeks()
    if weekly.days == 0:
        nothing = np.full_like(estimate, np.nan)
        by_week = Bounds(
            unit="week",
            n=0,
            estimate=nothing,
            standard_error=nothing,
            radius=np.inf,
            correlation=rho,
            skewness=skewness(residuals),
        )
    else:
        by, of_weeks = difference(weekly)
        by_week = _of(
            weekly, of_weeks, by, variance_by_day(of_weeks, lagged=False), "week", alpha, g_weeks, clusters, rho
        )
    if weeks or np.ndim(rho) == 0:
        return by_week
    pick = rho > DEPENDENT
    chosen = {name: np.where(pick, getattr(by_week, name), getattr(by_day, name)) for name in (
        "n", "estimate", "standard_error", "radius", "correlation", "skewness")}  # fmt: skip
    return Bounds(unit="mixed", **chosen)


def _of(sums: Sums, residuals: Floats, estimate: Floats, variance: Floats, unit: str, alpha: float, g: float,
        clusters: Clusters | None, rho: Floats) -> Bounds:  # fmt: skip
    if clusters is not None:
        two_way = variance + clusters.by_cluster - clusters.by_cluster_and_day
        variance = np.maximum(variance, np.maximum(two_way, clusters.by_cluster))
    # The rounding error of a constant difference is not variation.
    error = np.where(np.sqrt(variance) > 1e-9 * np.abs(estimate), np.sqrt(variance), 0.0)
    radius = t_radius(sums.days, 2 * alpha, g)
    return Bounds(
        unit=unit,
        n=sums.days,
        estimate=estimate,
        standard_error=error,
        radius=radius,
        correlation=rho,
        skewness=skewness(residuals),
    )
