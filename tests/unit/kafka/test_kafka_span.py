"""A partition during a leader election is asked again; any other error is raised at once."""

from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from gnomon_consumer.kafka import log_reading
from gnomon_consumer.kafka.errors import kafka_error

PLACE = TopicPartition("topic", 0)


class Answers:
    """A consumer that gives these answers one by one; an error is raised."""

    def __init__(self, answers: Iterator[Any]) -> None:
        self._answers = answers

    def get_watermark_offsets(self, place: TopicPartition, timeout: float) -> tuple[int, int]:
        assert place is PLACE
        answer: tuple[int, int] | int = next(self._answers)
        if isinstance(answer, int):
            raise KafkaException(KafkaError(answer))
        return answer


def ask(*answers: Any, timeout: float = 10) -> tuple[int, int]:
    consumer: Any = Answers(iter(answers))
    return log_reading.span(consumer, PLACE, timeout)


def test_it_is_asked_again_while_a_leader_is_being_chosen() -> None:
    assert ask(KafkaError.LEADER_NOT_AVAILABLE, KafkaError.NOT_LEADER_FOR_PARTITION, (3, 7)) == (3, 7)


@pytest.mark.parametrize("error", [KafkaError._TRANSPORT, KafkaError.TOPIC_AUTHORIZATION_FAILED])
def test_another_error_is_raised_at_once(error: int) -> None:
    with pytest.raises(KafkaException) as raised:
        ask(error, (3, 7))
    assert kafka_error(raised.value).code() == error


def test_it_is_not_asked_for_ever() -> None:
    with pytest.raises(KafkaException) as raised:
        ask(KafkaError.NOT_LEADER_FOR_PARTITION, (3, 7), timeout=0)
    assert kafka_error(raised.value).code() == KafkaError.NOT_LEADER_FOR_PARTITION
