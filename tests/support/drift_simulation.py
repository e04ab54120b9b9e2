"""PSI with its threshold and its interval in NumPy, as in `report_v1.drift`, and traffic to test them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
BINS = 10
GROUPS = 100


@dataclass(frozen=True)
class Psi:
    """The index, the PSI that 1 period in 20 exceeds without drift, and the interval (NaN: there is none)."""

    psi: float
    threshold: float
    low: float
    high: float


def psi_of(place: Ints, weight: Floats, group: Ints, day: Ints, shares: Floats, n_ref: float) -> Psi:
    """Return PSI of rows in bins (numbers from 0) against a reference's shares; the last bin is that of the missing."""
    bins, total = len(shares), weight.sum()
    n_eff = total**2 / (weight**2).sum()
    share = np.bincount(place, weight, bins) / total
    p, q = ((n * s + 0.5) / (n + 0.5 * bins) for n, s in ((n_ref, shares), (n_eff, share)))
    psi = float(((q - p) * np.log(q / p)).sum())
    squares = max(int(((share > 0) | (shares > 0)).sum()) - 1, 1)
    score = np.log(q / p) + 1 - p / q
    score = score - (share * score).sum()
    behind = np.log(p / q) + 1 - q / p
    v_reference = ((p * behind**2).sum() - (p * behind).sum() ** 2) / n_ref
    rows = np.bincount(place, weight**2, bins) / total**2
    alone = float((rows[share > 0] / share[share > 0]).sum() - rows.sum())
    v_row = float((rows * score**2).sum())

    def by(groups: Ints) -> tuple[int, float, float]:
        _, number = np.unique(groups, return_inverse=True)
        count = int(number.max()) + 1
        cells = np.zeros((count, bins))
        np.add.at(cells, (number, place), weight / total)
        noise = float(((cells[:, share > 0] ** 2 / share[share > 0]).sum(axis=1) - cells.sum(axis=1) ** 2).sum())
        return count, noise, float(((cells * score).sum(axis=1) ** 2).sum())

    clusters, noise_cluster, v_cluster = by(group)
    days, noise_day, v_day = by(day)
    # The amount that clusters and days add to that of rows alone.
    extra = [
        max(noise * n / (n - 1) - alone, 0.0) if n > 1 else 0.0
        for n, noise in ((clusters, noise_cluster), (days, noise_day))
    ]
    whole, shared = alone + squares / n_ref, sum(extra)
    mean = whole + shared
    free = mean**2 / (whole**2 / squares + shared**2)
    unsure = sum(part**2 / (n - 1) for part, n in zip(extra, (clusters, days), strict=True) if n > 1)
    others = min(mean**2 / unsure, 1000) if unsure > 0 else 1000
    threshold = mean * float(stats.f.ppf(0.95, free, others))
    if days < 2 or clusters < 2:
        return Psi(psi, threshold, np.nan, np.nan)
    v_c, v_d = v_cluster * clusters / (clusters - 1), v_day * days / (days - 1)
    both = v_c + v_d - v_row * len(place) / (len(place) - 1)
    widest = max(
        v_c * stats.t.ppf(0.975, clusters - 1) ** 2,
        v_d * stats.t.ppf(0.975, days - 1) ** 2,
        both * stats.t.ppf(0.975, min(clusters, days) - 1) ** 2,
    )
    reach = float(np.sqrt(widest + stats.norm.ppf(0.975) ** 2 * max(v_reference, 0)))
    return Psi(psi, threshold, psi - mean - reach, psi - mean + reach)


@dataclass(frozen=True)
class Traffic:
    """A feature of variance 1, of which days and clusters share a part, with the mean shifted by `moved`."""

    days: int
    rows: int = 2000
    moved: float = 0.0
    by_day: float = 0.0
    clusters: int = 0
    by_cluster: float = 0.0
    weights: float = 1.0
    reference: int = 5000


def truth(traffic: Traffic) -> float:
    """Return the PSI of all such traffic against the population of the reference, over its tenths."""
    edges = stats.norm.ppf(np.arange(1, BINS) / BINS)
    q = np.diff(np.concatenate([[0.0], stats.norm.cdf(edges - traffic.moved), [1.0]]))
    return float(((q - 1 / BINS) * np.log(q * BINS)).sum())


def drawn(traffic: Traffic, random: np.random.Generator) -> Psi:
    """Return the report's numbers for one period."""
    before = random.normal(size=traffic.reference)
    edges = np.quantile(before, np.arange(1, BINS) / BINS)
    shares = np.append(np.bincount(np.searchsorted(edges, before, "right"), minlength=BINS) / traffic.reference, 0.0)
    day = random.integers(0, traffic.days, traffic.rows)
    cluster = random.integers(0, traffic.clusters, traffic.rows) if traffic.clusters else np.arange(traffic.rows)
    own = 1 - traffic.by_day**2 - traffic.by_cluster**2
    x = (
        traffic.moved
        + traffic.by_day * random.normal(size=traffic.days)[day]
        + traffic.by_cluster * random.normal(size=traffic.clusters or traffic.rows)[cluster]
        + np.sqrt(own) * random.normal(size=traffic.rows)
    )
    weight = traffic.weights ** random.uniform(size=traffic.rows)
    return psi_of(np.searchsorted(edges, x, "right"), weight, cluster % GROUPS, day, shares, float(traffic.reference))


def covered(traffic: Traffic, periods: int, seed: int) -> tuple[float, float]:
    """Return how often the interval contains the truth (NaN: no interval), and how often PSI exceeds its threshold."""
    random = np.random.default_rng(seed)
    found = [drawn(traffic, random) for _ in range(periods)]
    right = truth(traffic)
    held = np.mean([one.low <= right <= one.high for one in found]) if traffic.days > 1 else np.nan
    return float(held), float(np.mean([one.psi > one.threshold for one in found]))
