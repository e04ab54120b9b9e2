"""How often the intervals of the reports contain the truth, over simulated and sampled traffic."""

import math

import pytest
from tests.support import label_simulation
from tests.support.coverage_settings import SETTINGS, Case
from tests.support.coverage_simulation import Setting, covered, truths

POPULATIONS = 500
METRICS = ("agreement", "accuracy, difference", "precision", "kappa", "latency p95")


@pytest.mark.long
@pytest.mark.parametrize("name", SETTINGS)
def test_coverage_within_the_targets(name: str) -> None:
    case: Case = SETTINGS[name]
    found = covered(case.setting, POPULATIONS, seed=2014)
    noise = 3 * math.sqrt(0.05 * 0.95 / POPULATIONS)
    for metric in METRICS:
        share, counted = found[metric]
        if case.setting.days == 1:
            assert counted == 0, metric  # one day shows nothing about days like it
        else:
            assert case.least - noise <= share <= case.largest + noise, (metric, share)
    share, counted = found["agreement, period"]
    assert counted == 0 if case.setting.weights > 1 else 0.93 - noise <= share <= 1.0


@pytest.mark.long
@pytest.mark.parametrize("name", label_simulation.SETTINGS)
def test_coverage_of_the_reports_on_labels(name: str) -> None:
    case = label_simulation.SETTINGS[name]
    noise = 3 * math.sqrt(0.05 * 0.95 / POPULATIONS)
    for metric, (share, _) in label_simulation.covered(case.traffic, POPULATIONS, seed=2014).items():
        # The lower end of the calibration error is reduced by what noise adds: it covers more.
        largest = 1.0 if metric == "calibration error" else case.largest
        assert case.least - noise <= share <= largest + noise, (metric, share)


def test_a_quick_look_at_the_reports_on_labels() -> None:
    found = label_simulation.covered(label_simulation.Traffic(7, 0.2, rows=500), 40, seed=3)
    assert all(share >= 0.8 for share, _ in found.values()), found
    assert all(
        count == 0 for _, count in label_simulation.covered(label_simulation.Traffic(1, rows=200), 3, 3).values()
    )


def test_a_quick_look() -> None:
    found = covered(Setting(7, 0.2, captures=2000, sampled=400), 60, seed=3)
    assert all(share >= 0.85 for share, _ in found.values()), found


def test_what_is_true_is_known() -> None:
    """The known truth equals that of one very large population."""
    true = truths(Setting(1, agree=0.9, positive=0.3, strata=3))
    assert true["agreement"] == pytest.approx(0.9)
    assert true["accuracy, difference"] == pytest.approx(-0.1 * (1 - 2 * 0.2), abs=0.02)
    assert 0.5 < true["kappa"] < 0.9
    assert 0.4 < true["precision"] < 0.8
