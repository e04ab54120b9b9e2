"""A frozen profile of one feature: the bins and the distribution that drift compares with. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gnomon_schemas.arrays import Floats

BINS = 10
POINTS = 512
MOST_CATEGORIES = 100


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One row of `reference_profiles`; see that table for the meaning of each part."""

    feature: str
    kind: str
    n: int
    n_effective: float
    null_share: float
    nan_share: float
    edges: list[float]
    categories: list[str]
    complete: bool
    shares: list[float]
    points: list[float]
    masses: list[float]


def profile(feature: str, kind: str, values: Sequence[Any], weights: Floats) -> Profile:
    """Freeze values (None: null) of equal length with their weights (> 0; at least one).

    Numeric: bins of about equal weight, cut between different values; up to `POINTS` points that carry the
    distribution, which are exact if there are at most that many different values. Text: the heaviest
    `MOST_CATEGORIES`. Raises ValueError if there is no value or an invalid number.
    """
    if len(values) == 0:
        raise ValueError(f"{feature} has no values")
    null = np.array([value is None for value in values])
    size = float(weights.sum() ** 2 / (weights**2).sum())
    null_share = float(weights[null].sum() / weights.sum())
    if kind == "text":
        return _text(feature, [str(v) for v in values if v is not None], weights[~null], len(values), size, null_share)
    numbers = np.array([float(value) for value in values if value is not None], dtype=np.float64)
    finite = np.isfinite(numbers)
    nan_share = float(weights[~null][~finite].sum() / weights.sum())
    x, masses = _distribution(numbers[finite], weights[~null][finite])
    edges = _edges(x, masses)
    shares = np.bincount(np.searchsorted(edges, x, side="right"), weights=masses, minlength=len(edges) + 1)
    points, kept = _thin(x, masses)
    return Profile(
        feature=feature,
        kind=kind,
        n=len(values),
        n_effective=size,
        null_share=null_share,
        nan_share=nan_share,
        edges=edges.tolist(),
        categories=[],
        complete=True,
        shares=shares.tolist(),
        points=points.tolist(),
        masses=kept.tolist(),
    )


def _text(feature: str, values: list[str], weights: Floats, n: int, size: float, null_share: float) -> Profile:
    names, index = np.unique(np.array(values, dtype=object), return_inverse=True)
    masses = np.bincount(index, weights=weights, minlength=len(names)) / (weights.sum() or 1.0)
    order = np.argsort(-masses, kind="stable")[:MOST_CATEGORIES]
    shares = [*masses[order].tolist(), float(max(0.0, 1 - masses[order].sum())) if len(names) > len(order) else 0.0]
    return Profile(
        feature=feature,
        kind="text",
        n=n,
        n_effective=size,
        null_share=null_share,
        nan_share=0.0,
        edges=[],
        categories=[str(name) for name in names[order]],
        complete=len(names) == len(order),
        shares=shares,
        points=[],
        masses=[],
    )


def _distribution(x: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Return distinct values in order, each with its share of the weight."""
    different, index = np.unique(x, return_inverse=True)
    masses = np.bincount(index, weights=weights, minlength=len(different))
    return different, masses / (masses.sum() or 1.0)


def _edges(x: Floats, masses: Floats) -> Floats:
    """Return cuts after each tenth of the weight, each at the value above it, so that equal values share a bin."""
    if len(x) < 2:
        return np.array([], dtype=np.float64)
    reached = np.cumsum(masses)
    cuts = np.searchsorted(reached, np.arange(1, BINS) / BINS - 1e-12) + 1
    return np.unique(x[np.unique(cuts[cuts < len(x)])])


def _thin(x: Floats, masses: Floats) -> tuple[Floats, Floats]:
    """Return at most `POINTS` values at even steps of the distribution function; the extremes are kept."""
    if len(x) <= POINTS:
        return x, masses
    reached = np.cumsum(masses)
    wanted = (np.arange(POINTS - 2) + 1) / (POINTS - 1)
    kept = np.unique(np.concatenate([[0], np.searchsorted(reached, wanted), [len(x) - 1]]))
    kept = kept[kept < len(x)]
    steps = np.diff(np.concatenate([[0.0], reached[kept]]))
    return x[kept], np.maximum(steps, 0.0)
