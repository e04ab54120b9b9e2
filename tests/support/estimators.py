"""The estimators' SQL in NumPy: variances of residuals, and the intervals computed from them."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from tests.support.report_database import Sample

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """Standard errors by row, cluster, local day and all together, and the number of the last ones in an interval."""

    row: float
    cluster: float
    day: float
    together: float
    t: float
    clusters: int


def spread(
    residual: Array, cluster: NDArray[np.int64], day: NDArray[np.int64], held: NDArray[np.bool_] | None = None
) -> Spread:
    """Return the errors of Σ residual; a negative cluster number means a row without a cluster.

    Cameron, Gelbach and Miller (2011): max(V_c, V_d, V_c + V_d - V_cd), each with n/(n-1) of its own groups. The
    interval is the widest of the three, each with the degrees of freedom of its own groups: of those in the
    denominator (`held`), because the others' residuals are 0.
    """
    own = np.where(cluster < 0, 10**9 + np.arange(len(cluster)), cluster)
    by_row = small(residual**2)
    by_cluster = small(sums(residual, own) ** 2)
    by_day = small(sums(residual, day) ** 2)
    both = small(sums(residual, own * 100_003 + day) ** 2)
    held = np.ones(len(residual), bool) if held is None else held
    clusters, days = len(np.unique(own[held])), len(np.unique(day[held]))
    two_way = by_cluster + by_day - both
    together = max(by_cluster, by_day, two_way)
    half = max(
        reach(clusters - 1) * by_cluster**0.5,
        reach(days - 1) * by_day**0.5,
        reach(min(clusters, days) - 1) * max(two_way, 0) ** 0.5,
    )
    if min(clusters, days) == 1:  # a single group shows no variation
        together = float("nan")
    t = half / together**0.5 if together > 0 else float("nan")
    return Spread(by_row**0.5, by_cluster**0.5, by_day**0.5, together**0.5, t, clusters)


def small(squares: Array) -> float:
    """Return the sum, with the factor n/(n-1)."""
    return float(squares.sum() * len(squares) / (len(squares) - 1)) if len(squares) > 1 else float("nan")


def sums(values: Array, groups: NDArray[np.int64]) -> Array:
    """Return the sum of each group."""
    _, place = np.unique(groups, return_inverse=True)
    totals: Array = np.bincount(place, values).astype(float)
    return totals


@cache
def reach(df: float | None) -> float:
    """Return the number of standard errors in a 95% interval."""
    return float(stats.norm.ppf(0.975) if df is None else stats.t.ppf(0.975, df))


def share_interval(
    share: float, variance: float, kish: float, t: float | None = None, clusters: int | None = None
) -> tuple[float, float]:
    """Return Korn and Graubard's interval by SciPy, Wilson's if both sides are large."""
    z = reach(None)
    if variance > 1e-26 and 0 < share < 1:
        n = min(kish, share * (1 - share) / variance * (z / (t or z)) ** 2)
    else:
        n = kish if clusters is None else min(kish, clusters)
    if n * min(share, 1 - share) > 60:
        middle, half = share + z * z / 2 / n, z * (share * (1 - share) / n + z * z / 4 / n / n) ** 0.5
        return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)
    return (
        float(stats.beta.ppf(0.025, share * n, (1 - share) * n + 1)) if share > 0 else 0.0,
        float(stats.beta.ppf(0.975, share * n + 1, (1 - share) * n)) if share < 1 else 1.0,
    )


def period_error(
    residual: Array, cells: NDArray[np.int64], chance: Array, sampled: NDArray[np.int64], draw: float = 1.0
) -> float:
    """Return the design-based error of Σ residual: simple random samples of `sampled` rows of each cell.

    Särndal, Swensson and Wretman (1992), 3.7.3; R's svydesign(strata = ~cell, fpc = ~seen). draw: the probability,
    part of `chance`, with which the cells themselves were drawn (4.3).
    """
    total = 0.0
    for cell in np.unique(cells):
        inside = cells == cell
        k, r = int(sampled[inside][0]), residual[inside]
        centred = (r**2).sum() - r.sum() ** 2 / k
        total += (draw - chance[inside][0]) * k / max(k - 1, 1) * centred + (1 - draw) * r.sum() ** 2
    return float(total**0.5)


def assert_estimate(
    row: dict[str, Any], s: Sample, estimate: float, residual: Array, kept: NDArray[np.bool_] | None = None
) -> None:
    """Assert that the row has this estimate, and the three variances of the residual, which includes its weight."""
    kept = np.ones(len(residual), bool) if kept is None else kept
    expected = spread(residual[kept], s.cluster[kept], s.day[kept])
    assert row["estimate"] == pytest.approx(estimate, rel=1e-9, abs=1e-12)
    assert row["se_row"] == pytest.approx(expected.row, rel=1e-9)
    assert row["se_cluster"] == pytest.approx(expected.cluster, rel=1e-9)
    assert row["se_day"] == pytest.approx(expected.day, rel=1e-9)
    assert row["standard_error"] == pytest.approx(expected.together, rel=1e-9)
    assert row["low"] < row["estimate"] < row["high"]


def interval(kind: str, estimate: float, errors: Spread, kish: float | None) -> tuple[float | None, float | None]:
    """Return the 95% interval for days like these: a share by `share_interval`, anything else estimate ± t errors."""
    if np.isnan(errors.together):
        return None, None
    if kind == "share" and kish is not None:
        return share_interval(estimate, errors.together**2, kish, errors.t, errors.clusters)
    if errors.together**2 <= 1e-26 * max(1.0, abs(estimate)) ** 2:
        return None, None
    half = errors.t * errors.together
    return estimate - half, estimate + half


def quantile_interval(
    p: float, values: NDArray[np.int64], heights: Array, errors: Spread, kish: float
) -> tuple[float | None, float | None]:
    """Return Woodruff's interval of the quantile p from the distribution function; an open end is None."""
    if np.isnan(errors.together):
        return None, None
    low, high = share_interval(p, errors.together**2, kish, errors.t, errors.clusters)
    rows = min(kish, errors.clusters)
    first = int(values[np.argmax(heights >= low)])
    last = int(values[np.argmax(heights >= min(high, 1 - 1e-12))])
    return (
        None if first == values[0] and 1 - 0.025 ** (1 / rows) > p else first,
        None if last == values[-1] and 0.025 ** (1 / rows) < p else last,
    )
