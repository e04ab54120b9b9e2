"""2,000 seeds of the simulation in CI; `make simulate` runs more of them, and replays one."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import structlog

from tests.simulation.broker import Broker
from tests.simulation.processes import be_quiet
from tests.simulation.simulation import Result, lasting, quiet, run

SEEDS, SHARDS = 2000, 16


@pytest.fixture(autouse=True)
def unlogged() -> Iterator[None]:
    before = structlog.get_config()
    be_quiet()
    yield
    structlog.configure(**before)


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("shard", range(SHARDS))
def test_everything_holds_in_every_seed(shard: int) -> None:
    """Invariants A, B, D, E, G and H hold at every commit and at the end, whatever fails."""
    pairs = 0
    for seed in range(shard, SEEDS, SHARDS):
        result = run(seed)
        pairs += result.pairs
        history = "\n".join(result.history[-60:])
        assert not result.violation, f"make simulate ARGS='--replay {seed}': {result.violation}\n{history}"
    assert pairs > 1000


def test_everything_holds_through_days_of_little_traffic() -> None:
    """Long windows, hours without a capture, and outages between them."""
    results = [run(seed, lasting(24)) for seed in range(4)]
    assert [result.violation for result in results] == [""] * 4
    assert sum(result.minutes for result in results) > 4 * 24 * 60
    assert sum(result.pairs for result in results) > 1000


def test_everything_holds_through_weeks_in_which_little_happens() -> None:
    results = [run(seed, quiet(168)) for seed in range(3)]
    assert [result.violation for result in results] == [""] * 3
    assert sum(result.minutes for result in results) > 3 * 7 * 24 * 60
    assert sum(result.windows for result in results) > 100


def test_ticks_that_are_left_out_would_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resting broker is asked nothing; the histories are those of a broker that is asked at every tick."""

    def histories() -> list[Result]:
        return [*map(run, range(4)), *(run(seed, lasting(6)) for seed in range(4, 7))]

    some = histories()
    monkeypatch.setattr(Broker, "rests", False)
    every = histories()
    assert sum(one.steps for one in some) < sum(one.steps for one in every)
    assert [replace(one, steps=0) for one in some] == [replace(one, steps=0) for one in every]


def test_a_seed_is_a_whole_history() -> None:
    assert run(3) == run(3)
