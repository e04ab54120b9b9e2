"""A partition that cannot be read yet does not delay others."""

from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from gnomon_consumer.scorer.intake.assignment import Assignment


class Consumer:
    """Remembers what was assigned to librdkafka."""

    def __init__(self) -> None:
        self.assigned: list[int] = []
        self.callbacks: dict[str, Any] = {}

    def subscribe(self, topics: list[str], **callbacks: Any) -> None:
        self.callbacks = callbacks

    def incremental_assign(self, places: list[TopicPartition]) -> None:
        self.assigned += [place.partition for place in places]

    def incremental_unassign(self, places: list[TopicPartition]) -> None:
        self.assigned = [one for one in self.assigned if one not in {place.partition for place in places}]


class Broker:
    """Returns the start offsets of partitions, except those in `silent`."""

    def __init__(self, *silent: int) -> None:
        self.silent = set(silent)
        self.asked: list[list[int]] = []

    def resume(self, partitions: list[int]) -> dict[int, int]:
        self.asked.append(partitions)
        if self.silent & set(partitions):
            raise KafkaException(KafkaError(KafkaError._UNKNOWN_PARTITION))
        return dict.fromkeys(partitions, 0)


def member(broker: Broker, given: int) -> tuple[Assignment, Consumer, list[float]]:
    consumer, now = Consumer(), [0.0]
    one: Any = consumer
    assignment = Assignment(
        one, "live", "group", resume=broker.resume, drop_unowned=lambda _: None, clock=lambda: now[0]
    )
    assignment.subscribe()
    consumer.callbacks["on_assign"](consumer, [TopicPartition("live", partition) for partition in range(given)])
    assert (broker.asked, consumer.assigned) == ([], []), "a request inside a callback ends the process"
    assignment.step()
    return assignment, consumer, now


def test_all_partitions_are_asked_for_together() -> None:
    broker = Broker()
    _, consumer, _ = member(broker, 4)
    assert (broker.asked, consumer.assigned) == ([[0, 1, 2, 3]], [0, 1, 2, 3])


def test_a_new_partition_that_is_not_known_yet_leaves_the_others_alone() -> None:
    broker = Broker(3)
    assignment, consumer, now = member(broker, 4)
    assert sorted(assignment.owned) == consumer.assigned == [0, 1, 2]
    broker.silent.clear()
    now[0] = 2.0
    assignment.step()
    assert sorted(assignment.owned) == [0, 1, 2, 3]


def test_a_partition_without_a_leader_is_asked_for_after_the_others() -> None:
    broker = Broker(0)
    assignment, _, now = member(broker, 3)
    assert sorted(assignment.owned) == []
    now[0] = 2.0
    assignment.step()
    assert sorted(assignment.owned) == [1, 2]
    assignment.resume_owned()
    assert assignment.owned == {}
    now[0] = 4.0
    assignment.step()
    now[0] = 6.0
    assignment.step()
    assert sorted(assignment.owned) == [1, 2]


def test_a_silent_broker_is_asked_twice_and_then_waited_for() -> None:
    broker = Broker(*range(9))
    assignment, consumer, now = member(broker, 9)
    assert len(broker.asked) == 2
    now[0] = 0.5
    assignment.step()
    assert (len(broker.asked), consumer.assigned) == (2, [])


def test_a_partition_that_is_taken_away_while_it_waits_is_not_asked_for_again() -> None:
    broker = Broker(1)
    assignment, consumer, now = member(broker, 2)
    consumer.callbacks["on_revoke"](consumer, [TopicPartition("live", 1)])
    broker.silent.clear()
    now[0] = 5.0
    assignment.step()
    assert sorted(assignment.owned) == [0]


def test_a_partition_that_is_given_twice_is_asked_for_once() -> None:
    broker = Broker(0, 1)
    assignment, consumer, now = member(broker, 2)
    consumer.callbacks["on_assign"](consumer, [TopicPartition("live", 0), TopicPartition("live", 1)])
    broker.silent.clear()
    now[0] = 5.0
    assignment.step()
    assert sorted(assignment.owned) == sorted(consumer.assigned) == [0, 1]


def test_partitions_are_settled_once_each_is_read() -> None:
    broker = Broker(1)
    assignment, _, now = member(broker, 2)
    assert not assignment.settled
    broker.silent.clear()
    now[0] = 5.0
    assignment.step()
    assert assignment.settled
