"""The latency probe is nested in the sample of its cell, with an exact probability, for any cells."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon_consumer.scorer.sampling.allocation import Allocation, SealedCell, seal
from gnomon_consumer.scorer.sampling.probe import probe_of, window_draw
from gnomon_consumer.scorer.sampling.ranks import ranker_of_many
from gnomon_consumer.scorer.sampling.reservoir import Reservoir, Sample

POLICIES = st.sampled_from(["house", "senate", "default"])


def sealed(sizes: dict[str, int], budget: int, seed: int, policy: Allocation) -> list[SealedCell[int]]:
    """Return cells of one window, sampled by the sampler; the payload of a capture is its index in its stratum."""
    ranks = ranker_of_many(seed)
    strata: dict[str, Reservoir[int]] = {}
    first = 0
    for name, size in sizes.items():
        ids = [f"{name}-{at}".encode() for at in range(size)]
        strata[name] = Reservoir(10_000)
        strata[name].offer(Sample(ranks(ids), ids, np.arange(first, first + size), list(range(size))))
        first += size
    return seal({0: strata}, budget, policy, lambda _: 0)[0]


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=6), st.integers(0, 100), st.integers(0, 60), POLICIES,
    st.integers(0, 9),
)  # fmt: skip
def test_the_probe_is_the_lowest_ranks_of_each_cell(
    sizes: list[int], budget: int, rows: int, policy: Allocation, seed: int
) -> None:
    cells = sealed({f"s{at}": size for at, size in enumerate(sizes)}, budget, seed, policy)
    probes = probe_of(cells, rows, policy, window_draw(f"w{seed}"))
    assert sum(len(probe.places) for probe in probes) <= rows
    sampled = [cell for cell in cells if len(cell.sample)]
    drawn = [(cell, probe) for cell, probe in zip(cells, probes, strict=True) if len(probe.places)]
    if rows and sampled:
        assert drawn
        fits = sum(min(2, len(cell.sample)) for cell in sampled) <= rows
        share = 1.0 if fits else len(drawn) / len(sampled)
        assert not fits or len(drawn) == len(sampled)
        for cell, probe in drawn:
            taken = cell.sample.ranks[probe.places]
            assert sorted(taken) == sorted(cell.sample.ranks)[: len(taken)]
            assert probe.probability == pytest.approx(cell.draw_probability * share * len(taken) / cell.seen)
    assert all(probe.probability == 0 for probe in probes if not len(probe.places))


def test_each_capture_is_in_the_probe_as_often_as_it_says() -> None:
    """Over many seeds: a dense small stratum and a sparse large one, to which the lowest overall ranks belong."""
    sizes, runs = {"large": 90, "small": 10}, 3000
    found: Counter[tuple[str, int]] = Counter()
    said: dict[str, float] = {}
    for seed in range(runs):
        cells = sealed(sizes, 20, seed, "default")
        for cell, probe in zip(cells, probe_of(cells, 8, "default", window_draw("w")), strict=True):
            said[cell.stratum] = probe.probability
            found.update((cell.stratum, cell.sample.payloads[at]) for at in probe.places.tolist())
    for stratum, size in sizes.items():
        chance = said[stratum]
        counts = np.array([found[stratum, at] for at in range(size)])
        # Sum of (O - Rp)^2 (n - 1) / (R n p (1 - p)) over a bottom-k is chi squared with n - 1 degrees of freedom.
        chi2 = ((counts - runs * chance) ** 2).sum() * (size - 1) / (runs * size * chance * (1 - chance))
        assert abs(chi2 - (size - 1)) < 4 * (2 * (size - 1)) ** 0.5


def test_more_strata_than_rows_are_drawn_with_one_probability() -> None:
    sizes, totals, runs = {f"s{at}": 5 + at for at in range(12)}, [], 2000
    for seed in range(runs):
        cells = sealed(sizes, 10_000, seed, "default")
        probes = probe_of(cells, 6, "default", window_draw(f"w{seed}"))
        totals.append(sum(len(probe.places) / probe.probability for probe in probes if probe.probability))
    assert np.mean(totals) == pytest.approx(sum(sizes.values()), abs=4 * np.std(totals) / runs**0.5)
