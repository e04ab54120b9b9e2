"""Windows record why they did not sample all captures."""

import numpy as np
import pytest
from confluent_kafka import Message

from gnomon_consumer.scorer.sampling.breaker import Breaker
from gnomon_consumer.scorer.sampling.open_window import AssignmentToken
from gnomon_consumer.scorer.sealed.sealer import ReadingPosition, Sealer
from gnomon_consumer.scorer.sealed.window import SealedWindow, Tick
from gnomon_consumer.settings import ScoreSettings
from gnomon_schemas.codec import Reader
from gnomon_schemas.store import packaged_schemas

START = 100.0


def sealer(rate: float = 100.0, no_sampling: bool = False, **settings: float) -> Sealer:
    """Return a sealer with W = 1 s and eta = 1, so that the bucket holds `rate` rows."""
    score = ScoreSettings.model_validate({"window_seconds": 1.0, "efficiency": 1.0} | settings)
    return Sealer(score, rate, no_sampling=no_sampling, now=START, now_us=lambda: 0)


def fill(one: Sealer, *captures: int) -> None:
    """Add so many captures to each partition."""
    for partition, count in enumerate(captures):
        keys = [f"{partition}/{offset}".encode() for offset in range(count)]
        messages = [
            Message(topic="live", partition=partition, offset=at, key=key, value=b"") for at, key in enumerate(keys)
        ]
        one.add_messages(ReadingPosition(AssignmentToken(partition), 0, START), np.arange(count), messages)


def sealed(one: Sealer, *captures: int, queued: int = 0) -> list[SealedWindow]:
    fill(one, *captures)
    return one.seal("time", START, queued).windows


def limits(windows: list[SealedWindow]) -> list[tuple[str | None, int]]:
    return [(window.seal.limited_by, window.sample.open) for window in windows]


def test_all_that_fits_is_sampled_and_nothing_limits_it() -> None:
    assert limits(sealed(sealer(), 60, 40)) == [(None, 60), (None, 40)]
    assert limits(sealed(sealer(rate=10.0, no_sampling=True), 300)) == [(None, 300)]


def test_the_budget_limits_what_the_tokens_do_not_cover() -> None:
    assert limits(sealed(sealer(), 400)) == [("budget", 100)]


def test_a_partition_whose_few_captures_are_all_sampled_is_not_limited() -> None:
    assert limits(sealed(sealer(), 2, 400)) == [(None, 2), ("budget", 98)]


@pytest.mark.parametrize(("queued", "sampled"), [(60, 40), (100, 0), (250, 0)])
def test_a_queue_limits_before_the_tokens_do(queued: int, sampled: int) -> None:
    assert limits(sealed(sealer(), 400, queued=queued)) == [("queue", sampled)]


def test_a_backlog_says_that_it_is_one() -> None:
    one = sealer()
    one.observe_lag(30.0)
    assert limits(sealed(one, 400)) == [("catch_up", 100)]


def test_drawn_partitions_and_those_left_out_are_over_capacity() -> None:
    windows = sealed(sealer(rate=4.0), 50, 50, 50, 50)
    assert sorted(window.sample.open for window in windows) == [0, 0, 2, 2]
    assert {window.seal.limited_by for window in windows} == {"over_capacity"}


def test_full_reservoirs_limit_where_the_budget_does_not() -> None:
    assert limits(sealed(sealer(rate=1e6, reservoir_rows=100), 400)) == [("reservoir", 100)]


def test_the_breaker_is_named_while_open_and_on_trial() -> None:
    one = sealer(rate=1000.0)
    one.breaker = Breaker(cooldown=5.0)
    one.breaker.observe(0, 20, START - 1)
    assert limits(sealed(one, 400)) == [("breaker", 0)]
    one.breaker.observe(0, 0, START)
    fill(one, 400)
    assert limits(one.seal("time", START + 10, 0).windows) == [("breaker", 32)]


def test_the_record_carries_it() -> None:
    (window,) = sealed(sealer(), 400, queued=100)
    record = (
        Reader(packaged_schemas())
        .decode(window.record(Tick(windows=[window], deadline=0.0, seed=0, policy="policy")))
        .record
    )
    assert record["limited_by"] == "queue"
    assert [(cell["seen"], cell["sampled"]) for cell in record["cells"]] == [(400, 0)]
