"""How often the intervals of `labels`, `calibration`, `calibration-error` and `label-delay` hold the truth.

A request has a probability p of a score; its truth, and how long its label takes, are hidden normal numbers above a
limit: a part that the requests of a day share, one that those of a cluster share, one of the request alone. So every
share is known exactly. The formulas are those of the SQL; tests/integration/reports/test_coverage_copy.py compares.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tests.support.estimators import Array, interval, reach, small, spread, sums

Integers = NDArray[np.int64]
Interval = tuple[float | None, float | None]
METRICS = ("labelled", "calibration, 5th of 10 bins", "calibration error", "label delay, 6 hours")
BINS, GROUPS, BIN = 10, 100, 5
DAY, HORIZON, STEP, READ_AT = 86_400.0, 86_400.0, 3600.0, 6
# The logarithm of the delay in seconds is normal: half of the labels come within 7 hours, 85% within the horizon.
MIDDLE, WIDTH = float(np.log(7 * 3600)), 1.2


@dataclass(frozen=True)
class Traffic:
    """Standard deviations of what days and clusters share; `off`: how far the scores are from the truth (0: not)."""

    days: int
    by_day: float = 0.0
    clusters: int = 0
    by_cluster: float = 0.0
    rows: int = 1000
    weights: float = 1.0
    off: float = 0.0


@dataclass(frozen=True)
class Drawn:
    """One element a request; seconds from the beginning of the first day; delay: of its label, however long."""

    weight: Array
    day: Integers
    cluster: Integers  # below 0: none
    group: Integers  # of the jackknife and of a bin: a cluster stays whole
    at: Array
    score: Array
    truth: Array
    delay: Array
    watermark: float


def draw(traffic: Traffic, rng: np.random.Generator) -> Drawn:
    """Draw one period; the labels are complete until two days after its end."""
    n = traffic.rows
    day = np.sort(rng.integers(0, traffic.days, n))
    cluster = rng.integers(0, traffic.clusters, n) if traffic.clusters else np.full(n, -1)
    own = 1 - traffic.by_day**2 - (traffic.by_cluster**2 if traffic.clusters else 0)

    def hidden() -> Array:
        shared: Array = traffic.by_day * rng.normal(size=traffic.days)[day]
        if traffic.clusters:
            shared = shared + traffic.by_cluster * rng.normal(size=traffic.clusters)[cluster]
        found: Array = shared + own**0.5 * rng.normal(size=n)
        return found

    score = rng.uniform(0.05, 0.95, n)
    at = (day * DAY + np.floor(rng.uniform(0, DAY, n))).astype(np.float64)
    weight: Array = traffic.weights ** rng.uniform(size=n)
    return Drawn(
        weight, day, cluster,
        cluster % GROUPS if traffic.clusters else rng.integers(0, GROUPS, n),
        at, score,
        (hidden() < stats.norm.ppf(score) + traffic.off).astype(float),
        np.ceil(np.exp(MIDDLE + WIDTH * hidden())), (traffic.days + 2) * DAY,
    )  # fmt: skip


def truths(traffic: Traffic, drawn: Drawn) -> dict[str, float]:
    """Return what each metric is over all days and clusters that could have come; of the bin, given its scores."""
    true = stats.norm.cdf(stats.norm.ppf(drawn.score) + traffic.off)
    inside = bins(drawn.score, drawn.weight) == BIN
    every = np.linspace(0.05, 0.95, 100_001)
    return {
        "labelled": float(stats.norm.cdf((np.log(HORIZON) - MIDDLE) / WIDTH)),
        "calibration, 5th of 10 bins": float(np.average(true[inside], weights=drawn.weight[inside])),
        "calibration error": float(np.abs(stats.norm.cdf(stats.norm.ppf(every) + traffic.off) - every).mean()),
        "label delay, 6 hours": float(stats.norm.cdf((np.log(READ_AT * STEP) - MIDDLE) / WIDTH)),
    }


def intervals(d: Drawn) -> dict[str, Interval]:
    """Return the intervals of the reports, by the formulas of their SQL."""
    return {
        "labelled": labelled(d),
        "calibration, 5th of 10 bins": of_bin(d, BIN),
        "calibration error": calibration_error(d),
        "label delay, 6 hours": label_delay(d, READ_AT),
    }


def labelled(d: Drawn) -> Interval:
    """Return the interval of the share of the requests whose label came within the horizon, of those old enough."""
    old = d.at <= d.watermark - HORIZON
    w, hit = d.weight[old], (d.delay[old] <= HORIZON).astype(float)
    share = float((w * hit).sum() / w.sum())
    errors = spread(w * (hit - share) / w.sum(), d.cluster[old], d.day[old])
    return interval("share", share, errors, float(w.sum() ** 2 / (w**2).sum()))


def bins(score: Array, weight: Array) -> Integers:
    """Return the bin of each request, from 1: of equal weight, tied scores together."""
    _, place = np.unique(score, return_inverse=True)
    mass = np.bincount(place, weight)
    found: Integers = np.minimum(np.floor(BINS * (mass.cumsum() - mass / 2) / mass.sum()), BINS - 1).astype(np.int64)
    return found[place] + 1


def of_bin(d: Drawn, number: int) -> Interval:
    """Return the interval of the share of events in a bin."""
    inside = bins(d.score, d.weight) == number
    w, truth = d.weight[inside], d.truth[inside]
    observed = float((w * truth).sum() / w.sum())
    errors = spread(w * (truth - observed) / w.sum(), d.group[inside], d.day[inside])
    return interval("share", observed, errors, float(w.sum() ** 2 / (w**2).sum()))


def calibration_error(d: Drawn) -> Interval:
    """Return the interval of the expected calibration error: the larger of two delete-a-group jackknives."""
    bin_ = bins(d.score, d.weight) - 1
    excess, mass = np.bincount(bin_, d.weight * (d.truth - d.score)), np.bincount(bin_, d.weight)
    estimate = float(np.abs(excess).sum() / mass.sum())
    bias = 0.0
    for number in range(len(mass)):
        inside = bin_ == number
        residual = d.weight[inside] * (d.truth - d.score - (excess / mass)[number])[inside] / mass[number]
        together = spread(residual, d.group[inside], d.day[inside]).together
        bias += 0 if np.isnan(together) else float(mass[number] / mass.sum() * np.sqrt(2 / np.pi) * together)
    wide, variance, fewest = 0.0, 0.0, 2
    for group in (d.group, d.day):
        _, place = np.unique(group, return_inverse=True)
        count = int(place.max()) + 1
        fewest = min(fewest, count)
        of_excess, of_mass = np.zeros((count, len(mass))), np.zeros((count, len(mass)))
        np.add.at(of_excess, (place, bin_), d.weight * (d.truth - d.score))
        np.add.at(of_mass, (place, bin_), d.weight)
        with np.errstate(invalid="ignore"):
            left = np.abs(excess - of_excess).sum(1) / (mass - of_mass).sum(1)
        v = float((count - 1) * left.var())
        if count > 1:
            variance, wide = max(variance, v), max(wide, reach(count - 1) * v**0.5)
    if fewest < 2 or variance <= 1e-26:
        return None, None
    return max(estimate - bias - wide, 0.0), estimate + wide


def label_delay(d: Drawn, steps: int) -> Interval:
    """Return the interval of Kaplan and Meier's curve at a whole step."""
    seen = d.at < d.watermark
    w, day = d.weight[seen], d.day[seen]
    limit = d.watermark - d.at[seen]
    came = d.delay[seen] <= limit
    moments, place = np.unique(np.where(came, d.delay[seen], limit), return_inverse=True)
    mass, arrived = np.bincount(place, w), np.bincount(place, w * came)
    at_risk = mass[::-1].cumsum()[::-1]
    left_over = np.maximum(at_risk - arrived, 0)
    with np.errstate(divide="ignore"):
        greenwood = np.where(left_over > 0, arrived / at_risk / left_over, 0).cumsum()
        alone = np.where(left_over > 0, 1 / left_over, 0)
    inside = moments <= steps * STEP
    log_left = float(np.log(np.maximum(1 - arrived / at_risk, 1e-300))[inside].sum())
    at_step = greenwood[inside][-1] if inside.any() else 0.0
    residual = w * np.where(inside[place], greenwood[place] - came * alone[place], at_step)
    # The variance by both is that of rows: rather too small, so that the sum is rather too large.
    rows, groups, days = (small(sums(residual, by) ** 2) for by in (np.arange(len(w)), d.group[seen], day))
    counts = len(np.unique(d.group[seen])), len(np.unique(day))
    if min(counts) < 2 or not -600 <= log_left <= -1e-12 or max(groups, days) <= 1e-26:
        return None, None
    half = (
        max(
            reach(counts[0] - 1) * groups**0.5,
            reach(counts[1] - 1) * days**0.5,
            reach(min(counts) - 1) * max(groups + days - rows, 0) ** 0.5,
        )
        / -log_left
    )
    return float(1 - np.exp(log_left * np.exp(-half))), float(1 - np.exp(log_left * np.exp(half)))


def covered(traffic: Traffic, periods: int, seed: int) -> dict[str, tuple[float, int]]:
    """Return, by metric, the share of the periods whose interval holds the truth, and how many had an interval."""
    rng = np.random.default_rng(seed)
    held: dict[str, list[bool]] = {name: [] for name in METRICS}
    for _ in range(periods):
        drawn = draw(traffic, rng)
        true = truths(traffic, drawn)
        for name, (low, high) in intervals(drawn).items():
            if low is not None and high is not None:
                held[name].append(low <= true[name] + 1e-12 and high >= true[name] - 1e-12)
    return {name: (float(np.mean(hits)) if hits else float("nan"), len(hits)) for name, hits in held.items()}


@dataclass(frozen=True)
class Case:
    """Traffic with the least and the largest coverage of the intervals; over few days only the least is a target."""

    traffic: Traffic
    least: float = 0.92
    largest: float = 0.985


SETTINGS: dict[str, Case] = {
    "2 days, nothing shared": Case(Traffic(2), 0.90, 1.0),
    "3 days, shocks": Case(Traffic(3, 0.2), 0.90, 1.0),
    "7 days, shocks": Case(Traffic(7, 0.2)),
    "14 days, shocks": Case(Traffic(14, 0.2), 0.91),
    "30 days, shocks": Case(Traffic(30, 0.2)),
    "14 days, 10 clusters": Case(Traffic(14, 0.1, 10, 0.2), 0.90, 1.0),
    "14 days, 25 clusters": Case(Traffic(14, 0.1, 25, 0.2)),
    "30 days, 600 clusters": Case(Traffic(30, 0.0, 600, 0.3)),
    "14 days, scores too low": Case(Traffic(14, 0.1, off=0.3)),
    "14 days, weights 1 to 10,000": Case(Traffic(14, 0.1, weights=1e4), 0.88),
}
