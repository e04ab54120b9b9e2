"""What the doctor says about the settings of topics and brokers, and Kafka's topics of groups and transactions."""

from types import SimpleNamespace
from typing import Any

import pytest

from gnomon_consumer.doctor.broker import (
    INTERNAL_TOPICS,
    _topic_settings,
    _transactions,
    internal_replicas,
    missing_internal_topic,
)
from gnomon_consumer.kafka.topics import plan
from gnomon_schemas.topics import Topics

GROUPS, TRANSACTIONS = INTERNAL_TOPICS
NAMES = Topics("s", "gnomon")
NOT_TOLD = (None, "", "null", "9e5")
"""A setting that the broker does not tell, or that is not a number."""


def of_topics(**of_live: str | None) -> list[tuple[str, str]]:
    """Return the findings about topics whose settings are right except for these of the live topic."""
    planned = plan(NAMES, 3, ["challenger"])
    right = {"max.message.bytes": "1048588", "retention.ms": "604800000"}
    found: dict[str, Any] = {one.name: right | {"cleanup.policy": one.config["cleanup.policy"]} for one in planned}
    found[NAMES.live] |= of_live
    return [(one.status, one.text) for one in _topic_settings(NAMES, planned, found)]


@pytest.mark.parametrize("text", NOT_TOLD)
def test_only_the_setting_of_a_topic_that_the_broker_does_not_tell_is_not_checked(text: str | None) -> None:
    assert of_topics() == []
    wrong = ("failed", f"{NAMES.live} has cleanup.policy=compact")
    for setting in ("retention.ms", "max.message.bytes"):
        untold = ("note", f"the broker does not tell {setting} of {NAMES.live}")
        assert of_topics(**{setting: text}) == [untold]
        assert of_topics(**{setting: text, "cleanup.policy": "compact"}) == [untold, wrong]
    small = ("failed", f"{NAMES.live} has max.message.bytes=1, too small for Gnomon's records")
    untold = ("note", f"the broker does not tell cleanup.policy of {NAMES.live}")
    assert of_topics(**{"cleanup.policy": None, "max.message.bytes": "1"}) == [untold, small]
    assert ("failed", f"{NAMES.live} has cleanup.policy=compact,delete") in of_topics(
        **{"cleanup.policy": "delete, compact"}
    )


@pytest.mark.parametrize("text", NOT_TOLD)
def test_what_a_broker_does_not_tell_about_transactions_is_not_shown(text: str | None) -> None:
    longest, ids, offsets = "transaction.max.timeout.ms", "transactional.id.expiration.ms", "offsets.retention.minutes"
    untold = ("note", f"the broker does not tell {longest} of broker 1")
    week = ("ok", "broker 1 keeps group offsets for 7 days, which does not affect where a service resumes")
    for settings, findings in (
        ({}, [untold]),
        ({longest: text, ids: text, offsets: text}, [untold]),
        ({longest: text, ids: text, offsets: "10080"}, [untold, week]),
        ({longest: "900000", ids: text, offsets: "10080"}, [week]),
        ({longest: "900000", ids: text}, [("ok", "broker 1 allows transactions of 900000 ms")]),
    ):
        assert [(one.status, one.text) for one in _transactions("1", settings)] == findings


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
    assert list(missing_internal_topic(GROUPS, 1, {GROUPS.least: "2"})) == []
    for text in NOT_TOLD:
        assert list(missing_internal_topic(GROUPS, 1, {GROUPS.factor: text, GROUPS.least: "2"})) == []
        assert list(missing_internal_topic(GROUPS, 1, {GROUPS.factor: "1", GROUPS.least: text})) == []


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
