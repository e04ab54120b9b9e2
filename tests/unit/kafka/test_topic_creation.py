"""`topics create` returns when the next command can see the topics."""

from collections.abc import Iterator
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from gnomon_consumer.kafka import clients, topics
from gnomon_consumer.settings import load_settings
from gnomon_schemas.topics import Topics


class Admin:
    """A controller that accepts every topic at once."""

    def create_topics(self, new: list[Any], **_: Any) -> dict[str, Future[None]]:
        done: Future[None] = Future()
        done.set_result(None)
        return {topic.topic: done for topic in new}


def metadata(partitions: dict[str, int]) -> Any:
    return SimpleNamespace(
        topics={name: SimpleNamespace(partitions=range(count)) for name, count in partitions.items()}
    )


def test_it_waits_until_brokers_show_every_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    plans = topics.plan(Topics("s"), 4, ["challenger"])
    whole = {plan.name: plan.partitions for plan in plans}
    some = whole | {plans[0].name: 3}
    answers: Iterator[Any] = iter([metadata(one) for one in ({}, {}, some, whole)])
    monkeypatch.setattr(clients, "list_topics", lambda _: next(answers))
    monkeypatch.setattr(clients, "is_mock", lambda _: False)
    monkeypatch.setattr(clients, "make_admin", lambda _: Admin())
    results = topics.create(load_settings({"bootstrap_servers": "127.0.0.1:1"}), plans)
    assert {result.outcome for result in results} == {"created"}
    assert next(answers, None) is None


def test_what_existed_before_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    plans = topics.plan(Topics("s"), 4)
    answers: Iterator[Any] = iter([metadata({plan.name: plan.partitions for plan in plans})])
    monkeypatch.setattr(clients, "list_topics", lambda _: next(answers))
    monkeypatch.setattr(clients, "is_mock", lambda _: False)
    results = topics.create(load_settings({"bootstrap_servers": "127.0.0.1:1"}), plans)
    assert {result.outcome for result in results} == {"exists"}
