"""How often drift's interval contains the truth, and how often its threshold is exceeded without any drift."""

import math

import pytest
from tests.support.drift_simulation import Traffic, covered

PERIODS = 300
# Traffic, the minimum coverage, the maximum share exceeded. Three Monte Carlo errors are about 4 points.
SETTINGS = {
    "1 day": (Traffic(1), None, 0.09),
    "2 days, nothing shared": (Traffic(2), 0.93, 0.09),
    "7 days, shocks": (Traffic(7, by_day=0.1), 0.90, 0.12),
    "30 days, shocks": (Traffic(30, by_day=0.1), 0.91, 0.11),
    "14 days, 10 clusters": (Traffic(14, clusters=10, by_cluster=0.3), 0.84, 0.14),
    "14 days, 25 clusters": (Traffic(14, clusters=25, by_cluster=0.3), 0.87, 0.12),
    "14 days, 600 clusters": (Traffic(14, clusters=600, by_cluster=0.7), 0.93, 0.10),
    "weights 1 to 10,000": (Traffic(14, weights=1e4), 0.93, 0.09),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_the_interval_holds_the_truth(name: str) -> None:
    traffic, least, _ = SETTINGS[name]
    moved = Traffic(**{**vars(traffic), "moved": 0.3})
    share, detected = covered(moved, PERIODS, seed=2013)
    # A shift of the mean by .3 of a deviation is detected; where ten clusters share as much, in most periods.
    assert detected > (0.75 if traffic.clusters == 10 else 0.97)
    assert math.isnan(share) if least is None else share >= least


@pytest.mark.parametrize("name", SETTINGS)
def test_the_threshold_is_seldom_exceeded_without_drift(name: str) -> None:
    traffic, _, most = SETTINGS[name]
    _, exceeded = covered(traffic, PERIODS, seed=2014)
    assert exceeded <= most
