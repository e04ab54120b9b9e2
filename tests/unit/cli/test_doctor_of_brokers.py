"""What the doctor says about the topics in which Kafka keeps groups and transactions."""

from types import SimpleNamespace
from typing import Any

import pytest

from gnomon_consumer.doctor.broker import INTERNAL_TOPICS, internal_replicas, missing_internal_topic

GROUPS, TRANSACTIONS = INTERNAL_TOPICS


@pytest.mark.parametrize(
    ("brokers", "factor", "least", "text", "remedy"),
    [
        (3, 3, 2, None, None),
        (1, 1, 1, None, None),
        (2, 3, 2, "needs 3 brokers, and there are 2", "factor=2 on every broker"),
        (1, 3, 2, "needs 3 brokers, and there are 1", "factor=1 and transaction.state.log.min.isr=1 on every broker"),
        (
            1,
            1,
            2,
            "gets a replication factor of 1 and needs 2 replicas in sync",
            "set transaction.state.log.min.isr to at most 1",
        ),
    ],
)
def test_a_topic_that_cannot_be_made(
    brokers: int, factor: int, least: int, text: str | None, remedy: str | None
) -> None:
    settings = {TRANSACTIONS.factor: str(factor), TRANSACTIONS.least: str(least)}
    found = list(missing_internal_topic(TRANSACTIONS, brokers, settings))
    assert [one.status for one in found] == ([] if text is None else ["failed"])
    for one in found:
        assert text is not None
        assert remedy is not None
        assert text in one.text
        assert remedy in one.remedy


def test_a_broker_that_does_not_tell_its_settings_is_not_accused() -> None:
    assert list(missing_internal_topic(GROUPS, 1, {})) == []
    assert list(missing_internal_topic(GROUPS, 1, {GROUPS.factor: None, GROUPS.least: None})) == []
    assert list(missing_internal_topic(GROUPS, 1, {GROUPS.factor: "-1", GROUPS.least: "2"})) == []


def led_by(leader: int, *in_sync: list[int]) -> Any:
    partitions = {number: SimpleNamespace(leader=leader, isrs=isrs) for number, isrs in enumerate(in_sync)}
    return SimpleNamespace(topics={GROUPS.name: SimpleNamespace(partitions=partitions)})


def test_partitions_without_a_leader() -> None:
    """The last replica stays in sync when its broker ends."""
    (found,) = internal_replicas(GROUPS, led_by(-1, [2], [2]), 1)
    assert found.text.startswith("2 of 2 partitions of __consumer_offsets have no leader: ")


def test_partitions_with_too_few_replicas_in_sync() -> None:
    metadata = led_by(1, [1, 2], [1], [])
    assert list(internal_replicas(GROUPS, metadata, 0)) == []
    (found,) = internal_replicas(GROUPS, metadata, 2)
    assert found.text.startswith("2 of 3 partitions of __consumer_offsets have fewer than 2 replicas in sync: ")
