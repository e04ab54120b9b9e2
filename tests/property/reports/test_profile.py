"""The frozen profile of a feature loses no weight, and equal values share a bin."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon_consumer.reference.profile import BINS, MOST_CATEGORIES, POINTS, profile

values = st.lists(
    st.one_of(st.none(), st.floats(-1e6, 1e6), st.integers(-3, 3).map(float), st.just(math.nan), st.just(math.inf)),
    min_size=1,
    max_size=300,
)


@given(values, st.randoms(use_true_random=False))
def test_a_numeric_profile_keeps_the_whole_weight(drawn: list[float | None], random: object) -> None:
    weights = np.random.default_rng(len(drawn)).uniform(0.1, 20, len(drawn))
    made = profile("f", "numeric", drawn, weights)
    finite = np.array([v is not None and math.isfinite(v) for v in drawn])
    null = np.array([v is None for v in drawn])
    assert made.null_share == pytest.approx(weights[null].sum() / weights.sum())
    assert made.nan_share == pytest.approx(weights[~finite & ~null].sum() / weights.sum())
    assert len(made.shares) == len(made.edges) + 1 <= BINS
    assert made.edges == sorted(set(made.edges))
    assert made.points == sorted(set(made.points))
    if not finite.any():
        assert made.points == []
        return
    assert sum(made.shares) == pytest.approx(1)
    assert sum(made.masses) == pytest.approx(1)
    x = np.array([v for v in drawn if v is not None and math.isfinite(v)])
    assert (made.points[0], made.points[-1]) == (x.min(), x.max())
    # The database's width_bucket puts an edge into the bin above it, and so does the profile.
    bins = np.searchsorted(made.edges, x, side="right")
    expected = np.bincount(bins, weights=weights[finite], minlength=len(made.shares)) / weights[finite].sum()
    assert made.shares == pytest.approx(expected)


def test_many_different_values_are_thinned_evenly() -> None:
    x = np.random.default_rng(1).normal(size=20_000)
    made = profile("f", "numeric", x.tolist(), np.ones(len(x)))
    assert len(made.points) <= POINTS
    assert (made.points[0], made.points[-1]) == (x.min(), x.max())
    reached = np.cumsum(made.masses)
    truth = np.searchsorted(np.sort(x), made.points, side="right") / len(x)
    assert np.abs(reached - truth).max() < 1e-9
    assert made.shares == pytest.approx([1 / BINS] * BINS, abs=1e-3)


def test_rare_categories_become_the_rest() -> None:
    names = [f"c{i}" for i in range(MOST_CATEGORIES + 20)]
    made = profile("f", "text", [*names, "c0", None], np.ones(len(names) + 2))
    assert made.categories[0] == "c0"
    assert len(made.categories) == MOST_CATEGORIES
    assert not made.complete
    assert made.shares[-1] == pytest.approx(20 / (len(names) + 1))
    assert sum(made.shares) == pytest.approx(1)


def test_no_values_and_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="f has no values"):
        profile("f", "numeric", [], np.array([]))
    with pytest.raises(ValueError, match="could not convert"):
        profile("f", "numeric", ["JFK"], np.array([1.0]))
