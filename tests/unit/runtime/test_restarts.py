"""Services that end are restarted with growing pauses; one that refuses its configuration ends all."""

from types import SimpleNamespace
from typing import cast

import pytest

from gnomon_consumer.runtime.restarts import Backoff, RestartedServices
from gnomon_consumer.runtime.supervisor import Children
from gnomon_schemas.errors import ConfigurationError


class FakeChildren:
    """Children that end when the test requests it."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.status: dict[str, int | None] = {}

    def start_gnomon(self, name: str, *arguments: str) -> SimpleNamespace:
        self.started.append(" ".join([name, *arguments]))
        self.status[name] = None
        return SimpleNamespace(name=name, process=SimpleNamespace(poll=lambda: self.status[name]))

    def forget(self, child: SimpleNamespace) -> None:
        assert self.status[child.name] is not None


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def children() -> FakeChildren:
    return FakeChildren()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def services(children: FakeChildren, clock: Clock) -> RestartedServices:
    return RestartedServices(cast(Children, children), clock)


def test_the_wait_doubles_up_to_a_minute_and_begins_anew_after_a_steady_run() -> None:
    backoff = Backoff()
    assert [backoff.after(0.5) for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert [backoff.after(60), backoff.after(59), backoff.after(3600)] == [1, 2, 1]


def test_one_that_ended_is_started_again_when_it_is_due_and_the_others_run_on(
    services: RestartedServices, children: FakeChildren, clock: Clock
) -> None:
    services.start_service("join a", "join", "--deployment", "a")
    services.start_service("labels", "labels", "consume")
    children.status["labels"] = -9
    services.step()
    clock.now = 0.9
    services.step()
    assert children.started == ["join a join --deployment a", "labels labels consume"]
    clock.now = 1.0
    services.step()
    assert children.started[2:] == ["labels labels consume"]
    children.status["labels"] = 3
    services.step()
    clock.now = 2.9
    services.step()
    assert len(children.started) == 3
    clock.now = 3.0
    services.step()
    assert len(children.started) == 4


@pytest.mark.parametrize("status", [0, 1, 3, -15])
def test_whatever_else_it_ended_with_it_should_run(
    services: RestartedServices, children: FakeChildren, clock: Clock, status: int
) -> None:
    services.start_service("labels", "labels", "consume")
    children.status["labels"] = status
    services.step()
    clock.now = 1.0
    services.step()
    assert len(children.started) == 2


def test_one_that_refuses_its_configuration_ends_all(services: RestartedServices, children: FakeChildren) -> None:
    services.start_service("score a", "score")
    children.status["score a"] = 2
    with pytest.raises(ConfigurationError, match=r"score a refuses to run \(status 2\)"):
        services.step()
