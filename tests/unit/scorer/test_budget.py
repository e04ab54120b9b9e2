"""The bound of the lag: budget, early sealing, and the fluid simulation with its printed numbers."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon_consumer.scorer.sampling.budget import RateEstimate, TokenBucket
from gnomon_consumer.scorer.sealed.seal_policy import SealPolicy

W, ARRIVALS, RATE, ETA = 10.0, 300.0, 100.0, 0.8


def fluid(slowdown: float, with_queue_term: bool) -> float:
    """Return the worst delay from a row's arrival to its scoring, seconds, when the model slows down for 300 s.

    Every W seconds the captures of the window are sealed; sealed rows are scored first in, first out, at a rate that
    falls to `slowdown` * RATE between t = 100 s and t = 400 s, while the estimate of the rate stays at RATE.
    """
    bucket = TokenBucket(ETA, W, RATE, 0.0)
    queue: list[tuple[float, float]] = []  # (opened at, rows unscored)
    worst, now, step = 0.0, 0.0, 0.1
    while now < 1500.0:
        now = round(now + step, 6)
        speed = RATE * slowdown if 100.0 <= now < 400.0 else RATE
        done = speed * step
        while queue and done > 0:
            opened, rows = queue[0]
            served = min(rows, done)
            done -= served
            worst = max(worst, now - opened)
            queue[0] = (opened, rows - served)
            if queue[0][1] <= 1e-9:
                queue.pop(0)
        if abs(now / W - round(now / W)) < 1e-9:
            bucket.refill(now, RATE)
            queued = math.ceil(sum(rows for _, rows in queue))
            k = bucket.budget(int(ARRIVALS * W), queued if with_queue_term else 0)
            bucket.spend(k)
            if k:
                queue.append((now - W, float(k)))
    return worst


@pytest.mark.parametrize(
    ("slowdown", "without", "within", "bound"), [(0.5, 131.0, 25.0, 26.0), (0.2, 243.0, 49.0, 50.0)]
)
def test_fluid_simulation(slowdown: float, without: float, within: float, bound: float) -> None:
    assert W + ETA * W / slowdown == pytest.approx(bound)
    print(slowdown, fluid(slowdown, with_queue_term=False), fluid(slowdown, with_queue_term=True))
    assert fluid(slowdown, with_queue_term=False) == pytest.approx(without, abs=2.0)
    assert fluid(slowdown, with_queue_term=True) == pytest.approx(within, abs=1.1)
    assert fluid(slowdown, with_queue_term=True) <= bound


@given(
    st.lists(st.tuples(st.floats(0, 20), st.integers(0, 5000), st.floats(0.1, 10_000)), min_size=1, max_size=40),
    st.floats(0.1, 60),
)
def test_queue_never_exceeds_capacity(steps: list[tuple[float, int, float]], window: float) -> None:
    bucket = TokenBucket(ETA, window, 100.0, 0.0)
    now, queued = 0.0, 0
    for wait, seen, rate in steps:
        now += wait
        bucket.refill(now, rate)
        k = bucket.budget(seen, queued)
        assert 0 <= k <= seen
        bucket.spend(k)
        if k:
            assert queued + k <= bucket.capacity
        queued = max(0, queued + k - int(rate * wait))
        assert bucket.tokens <= bucket.capacity


def test_a_hopeless_rate_still_tries_two_rows() -> None:
    bucket = TokenBucket(ETA, W, 0.001, 0.0)
    assert bucket.budget(100, 0) == 2


def test_estimate_is_the_tenth_percentile_and_knows_its_ceiling() -> None:
    estimate = RateEstimate(1000.0)
    for rate in range(1, 31):
        estimate.observe(rate * 10, 1.0)
    assert estimate.rows_per_second == 30.0
    estimate.observe(0, 1.0)
    assert estimate.rows_per_second == 30.0
    assert RateEstimate(1000.0, ceiling=5.0).rows_per_second == 5.0


@pytest.mark.parametrize(
    ("age", "seen", "size", "idle", "covered", "reason"),
    [
        (0.1, 5, 5, True, True, None),
        (0.3, 5, 5, True, True, "idle"),
        (0.3, 5, 5, False, True, None),
        (0.3, 5, 5, True, False, None),
        (0.3, 0, 0, True, True, None),
        (10.0, 5, 5, False, False, "time"),
        (0.1, 100, 5, False, False, "count"),
        (0.1, 5, 1000, False, False, "bytes"),
    ],
)
def test_seal_policy(age: float, seen: int, size: int, idle: bool, covered: bool, reason: str | None) -> None:
    assert SealPolicy(10.0, 0.2, 100, 1000).reason(age, seen, size, idle, covered) == reason
