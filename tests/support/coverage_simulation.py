"""How often the 95% intervals of the reports contain the truth: traffic is drawn, sampled by the sampler, estimated.

Requests differ in three hidden respects: whether the shadow disagrees, whether the live model is wrong, and which class
the live model names. Each is a normal number above a limit: the sum of a part that the requests of a day share, a part
that those of a cluster share, one of the stratum and one of the request alone. So every share is known exactly. The
logarithm of the latency is such a number too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from gnomon_consumer.scorer.sampling.allocation import Allocation, seal
from gnomon_consumer.scorer.sampling.ranks import ranker_of_many
from gnomon_consumer.scorer.sampling.reservoir import Reservoir, Sample
from tests.support.estimators import Array, interval, period_error, quantile_interval, share_interval, spread

Integers = NDArray[np.int64]
Interval = tuple[float | None, float | None]
METRICS = ("agreement", "accuracy, difference", "precision", "kappa", "latency p95", "agreement, period")
# The means of strata, in standard deviations of a request, by number of strata.
STRATA: dict[int, tuple[float, ...]] = {1: (0.0,), 3: (-0.3, 0.2, 0.8)}
SIZES: dict[int, tuple[float, ...]] = {1: (1.0,), 3: (0.75, 0.2, 0.05)}
WINDOWS = 30  # at least; a day has complete ones


@dataclass(frozen=True)
class Setting:
    """The properties of the traffic. `day`, `cluster`: standard deviations of the shared parts; a request's is 1."""

    days: int
    day: float = 0.0
    clusters: int = 0
    cluster: float = 0.0
    agree: float = 0.9
    positive: float = 0.3
    strata: int = 1
    allocation: Allocation = "default"
    captures: int = 6000
    sampled: int = 1000
    # the ratio of the largest to the smallest weight from the service's own sampling, window by window
    weights: float = 1.0


@dataclass(frozen=True)
class Drawn:
    """The sample of one population, one element a row, and the population's own agreement (None: not drawn whole)."""

    weight: Array
    chance: Array
    cell: Integers
    sampled: Integers
    window: Integers
    stratum: Integers
    day: Integers
    cluster: Integers
    live: NDArray[np.bool_]
    shadow: NDArray[np.bool_]
    truth: NDArray[np.bool_]
    latency: Integers
    agreement: float | None


def draw(setting: Setting, rng: np.random.Generator, ids: Sequence[bytes]) -> Drawn:
    """Draw one population of captures and sample it, window by window, as the scorer does."""
    a_day = -(-WINDOWS // setting.days)
    windows = a_day * setting.days
    traffic = np.repeat(rng.lognormal(0, 0.3, setting.days), a_day)
    window = np.sort(rng.choice(windows, setting.captures, p=traffic / traffic.sum()))
    day = window // a_day
    stratum = rng.choice(setting.strata, setting.captures, p=SIZES[setting.strata])
    cluster = rng.integers(0, setting.clusters, setting.captures) if setting.clusters else np.full(len(window), -1)
    hidden = _hidden(setting, rng, day, cluster, stratum)
    live = hidden[0] > limit(setting, setting.positive)
    wrong = hidden[1] > limit(setting, 0.2)
    disagrees = hidden[2] > limit(setting, 1 - setting.agree)
    kept, chance, sampled = _sample(setting, rng, window, stratum, ids)
    probability = setting.weights ** (-rng.random(windows))[window]
    return Drawn(
        1 / (chance * probability[kept]), chance, window[kept] * setting.strata + stratum[kept], sampled, window[kept],
        stratum[kept], day[kept], cluster[kept], live[kept], (live ^ disagrees)[kept], (live ^ wrong)[kept],
        np.ceil(1000 * np.exp(hidden[3][kept])).astype(np.int64),
        float(1 - disagrees.mean()) if setting.weights == 1 else None,
    )  # fmt: skip


def _hidden(
    setting: Setting, rng: np.random.Generator, day: Integers, cluster: Integers, stratum: Integers
) -> list[Array]:
    """Draw the four hidden numbers of each request."""
    found = []
    for _ in range(4):
        number = rng.normal(size=len(day)) + setting.day * rng.normal(size=setting.days)[day]
        if setting.clusters:
            number += setting.cluster * rng.normal(size=setting.clusters)[cluster]
        found.append(number + np.array(STRATA[setting.strata])[stratum])
    return found


def _sample(
    setting: Setting, rng: np.random.Generator, window: Integers, stratum: Integers, ids: Sequence[bytes]
) -> tuple[Integers, Array, Integers]:
    """Return the indices that the sampler keeps, and for each the probability and the sampled rows of its cell."""
    ranks = ranker_of_many(int(rng.integers(2**62)))(ids)
    kept: list[Integers] = []
    chance: list[Array] = []
    sampled: list[Integers] = []
    for number, budget in zip(*_budgets(setting, window), strict=True):
        inside = np.flatnonzero(window == number)
        strata: dict[str, Reservoir[int]] = {}
        for name in np.unique(stratum[inside]):
            at = inside[stratum[inside] == name]
            strata[str(name)] = Reservoir(200_000)
            strata[str(name)].offer(Sample(ranks[at], [ids[i] for i in at], at, at.tolist()))
        for cell in seal({0: strata}, int(budget), setting.allocation, lambda _: 0)[0]:
            kept.append(np.array(cell.sample.payloads, np.int64))
            chance.append(np.full(len(cell.sample), cell.inclusion_probability))
            sampled.append(np.full(len(cell.sample), len(cell.sample)))
    return np.concatenate(kept), np.concatenate(chance), np.concatenate(sampled)


def _budgets(setting: Setting, window: Integers) -> tuple[Integers, Integers]:
    """Return the windows and the budget of each: equal for all, whatever their traffic, as for a slow challenger."""
    windows = np.unique(window)
    return windows, np.full(len(windows), max(setting.sampled // len(windows), 2 * setting.strata))


def limit(setting: Setting, share: float) -> float:
    """Return the limit that a hidden number exceeds in this share of all requests."""
    spread_ = (1 + setting.day**2 + setting.cluster**2 * bool(setting.clusters)) ** 0.5

    def above(x: float) -> float:
        parts = zip(SIZES[setting.strata], STRATA[setting.strata], strict=True)
        return float(sum(size * stats.norm.sf((x - middle) / spread_) for size, middle in parts)) - share

    return float(optimize.brentq(above, -20, 20, xtol=1e-12))


def truths(setting: Setting) -> dict[str, float]:
    """Return the true value of each metric over all possible days and clusters."""
    spread_ = (1 + setting.day**2 + setting.cluster**2 * bool(setting.clusters)) ** 0.5
    cells = np.zeros((2, 2, 2))  # live, shadow, truth
    for size, middle in zip(SIZES[setting.strata], STRATA[setting.strata], strict=True):
        positive, wrong, disagrees = (
            float(stats.norm.sf((limit(setting, share) - middle) / spread_))
            for share in (setting.positive, 0.2, 1 - setting.agree)
        )
        for live in (0, 1):
            for off in (0, 1):
                for error in (0, 1):
                    chance = (positive if live else 1 - positive) * (disagrees if off else 1 - disagrees)
                    cells[live, live ^ off, live ^ error] += size * chance * (wrong if error else 1 - wrong)
    agreement = cells[0, 0].sum() + cells[1, 1].sum()
    by_chance = float(cells[1].sum() * cells[:, 1].sum() + cells[0].sum() * cells[:, 0].sum())
    right = [cells[0, :, 0].sum() + cells[1, :, 1].sum(), cells[:, 0, 0].sum() + cells[:, 1, 1].sum()]
    return {
        "agreement": float(agreement),
        "accuracy, difference": float(right[1] - right[0]),
        "precision": float(cells[:, 1, 1].sum() / cells[:, 1].sum()),
        "kappa": (float(agreement) - by_chance) / (1 - by_chance),
        "latency p95": float(1000 * np.exp(limit(setting, 0.05))),
    }


def intervals(d: Drawn) -> dict[str, Interval]:
    """Return the intervals of the reports for a sample, by the formulas of their SQL."""
    w, total = d.weight, float(d.weight.sum())
    kish = total**2 / float((w**2).sum())
    agrees = d.live == d.shadow
    agreement = float((w * agrees).sum()) / total
    residual = w * (agrees - agreement) / total
    sided = (d.shadow == d.truth).astype(float) - (d.live == d.truth)
    difference = float((w * sided).sum()) / total
    decided = float((w * d.shadow).sum())
    precision = float((w * (d.shadow & d.truth)).sum()) / decided if decided else None
    found: dict[str, Interval] = {
        "agreement": interval("share", agreement, spread(residual, d.cluster, d.day), kish),
        "accuracy, difference": interval(
            "mean", difference, spread(w * (sided - difference) / total, d.cluster, d.day), kish
        ),
        "precision": (None, None),
        "kappa": _kappa(d),
        "latency p95": _p95(d, kish),
        "agreement, period": _period(d, agreement, residual, kish),
    }
    if precision is not None:
        rows = w * d.shadow * (d.truth - precision) / decided
        found["precision"] = interval(
            "share",
            precision,
            spread(rows, d.cluster, d.day, d.shadow > 0),
            decided**2 / float((w**2 * d.shadow).sum()),
        )
    return found


def _kappa(d: Drawn) -> Interval:
    w, total = d.weight, float(d.weight.sum())
    live, shadow = float((w * d.live).sum()) / total, float((w * d.shadow).sum()) / total
    observed = float((w * (d.live == d.shadow)).sum()) / total
    by_chance = live * shadow + (1 - live) * (1 - shadow)
    kappa = (observed - by_chance) / (1 - by_chance)
    of_live = np.where(d.shadow, live, 1 - live)
    of_shadow = np.where(d.live, shadow, 1 - shadow)
    z = (d.live == d.shadow) - observed - (1 - kappa) * (of_live + of_shadow - 2 * by_chance)
    low, high = interval("mean", kappa, spread(w * z / (total * (1 - by_chance)), d.cluster, d.day), None)
    return (None if low is None else max(low, -1.0)), (None if high is None else min(high, 1.0))


def _p95(d: Drawn, kish: float) -> Interval:
    values, place = np.unique(d.latency, return_inverse=True)
    heights = np.bincount(place, d.weight).cumsum() / d.weight.sum()
    quantile = values[np.argmax(heights >= 0.95 - 1e-12)]
    residual = d.weight * ((d.latency <= quantile) - 0.95) / d.weight.sum()
    return quantile_interval(0.95, values, heights, spread(residual, d.cluster, d.day), kish)


def _period(d: Drawn, agreement: float, residual: Array, kish: float) -> Interval:
    """Return the interval for the period itself: only sampling is uncertain."""
    if abs(d.weight.sum() - len(d.weight)) <= 1e-9 * len(d.weight):
        return agreement, agreement
    return share_interval(agreement, period_error(residual, d.cell, d.chance, d.sampled) ** 2, kish)


def covered(setting: Setting, populations: int, seed: int) -> dict[str, tuple[float, int]]:
    """Return, by metric, the share of the populations whose interval contains the truth, and how many had an interval.

    An open end counts as infinity. A population without an interval is left out, because it cannot be wrong.
    """
    rng = np.random.default_rng(seed)
    ids = [b"%d" % number for number in range(setting.captures)]
    true = truths(setting)
    held: dict[str, list[bool]] = {name: [] for name in METRICS}
    for _ in range(populations):
        drawn = draw(setting, rng, ids)
        for name, (low, high) in intervals(drawn).items():
            target = drawn.agreement if name == "agreement, period" else true[name]
            if target is not None and not (low is None and high is None):
                held[name].append((low is None or low <= target + 1e-12) and (high is None or high >= target - 1e-12))
    return {name: (float(np.mean(hits)) if hits else float("nan"), len(hits)) for name, hits in held.items()}
