"""The circuit breaker's three states."""

from gnomon_consumer.scorer.sampling.breaker import Breaker


def test_closed_until_too_many_fail() -> None:
    breaker = Breaker(share=0.5, rows=100, least=20, cooldown=5.0)
    breaker.observe(0, 19, 0.0)
    assert (breaker.state, breaker.limit(1000, 0.0)) == ("closed", 1000)
    breaker.observe(0, 1, 1.0)
    assert (breaker.state, breaker.limit(1000, 1.0)) == ("open", 0)


def test_trial_closes_or_doubles_the_cooldown() -> None:
    breaker = Breaker(least=1, cooldown=5.0, longest=12.0, trial_rows=8)
    breaker.observe(0, 10, 0.0)
    assert breaker.limit(100, 4.9) == 0
    assert breaker.limit(100, 5.0) == 8
    assert breaker.state == "half_open"
    breaker.observe(1, 7, 6.0)
    assert breaker.limit(100, 15.9) == 0
    assert breaker.limit(100, 16.0) == 8
    breaker.observe(0, 8, 16.0)
    assert breaker.limit(100, 27.9) == 0
    assert breaker.limit(100, 28.0) == 8  # 12 s at most, not 20
    breaker.observe(8, 0, 28.0)
    assert (breaker.state, breaker.limit(100, 28.0)) == ("closed", 100)
    breaker.observe(0, 1, 29.0)
    assert breaker.limit(100, 34.0) == 8  # the cooldown is the first one again


def test_a_run_of_failures_opens_it_however_good_it_was_before() -> None:
    breaker = Breaker()
    breaker.observe(good=900, bad=0, now=0)
    breaker.observe(good=0, bad=15, now=1)
    breaker.observe(good=1, bad=10, now=2)
    breaker.observe(good=0, bad=15, now=3)
    assert breaker.state == "closed"
    breaker.observe(good=0, bad=5, now=4)
    assert breaker.limit(1, 4) == 0


def test_old_outcomes_are_forgotten() -> None:
    breaker = Breaker(share=0.5, rows=100, least=20)
    for _ in range(50):
        breaker.observe(100, 0, 0.0)
    breaker.observe(1, 98, 1.0)
    assert breaker.state == "closed"
    breaker.observe(1, 100, 2.0)
    assert breaker.limit(1, 2.0) == 0


def test_nothing_scored_changes_nothing() -> None:
    breaker = Breaker(least=1)
    breaker.observe(0, 0, 0.0)
    assert breaker.state == "closed"
