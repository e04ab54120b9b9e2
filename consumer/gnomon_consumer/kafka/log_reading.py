"""Read a partition between two offsets, and ask for its end."""

import contextlib
import time
from collections.abc import Iterator

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from gnomon_consumer.kafka.clients import reader_group, unreachable
from gnomon_consumer.kafka.errors import Right, join, kafka_error
from gnomon_consumer.kafka.errors import read as read_right
from gnomon_consumer.settings import Settings

_READ_WAIT_S = 0.2
_ELECTING = (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE)
_GROWN = (KafkaError._UNKNOWN_PARTITION, KafkaError._UNKNOWN_TOPIC)
_ELECTION_WAIT_S = 0.1


def span(consumer: Consumer, source: TopicPartition, timeout: float) -> tuple[int, int]:
    """Return the first existing offset of a partition, and its end; raises KafkaException.

    A broker that does not yet lead the partition, for example of a new topic, is asked again for `timeout` seconds. A
    consumer that does not know a new partition asks for the topic's partitions first.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            low, high = consumer.get_watermark_offsets(source, timeout=timeout)
        except KafkaException as error:
            code = kafka_error(error).code()
            if code not in (*_ELECTING, *_GROWN) or time.monotonic() >= deadline:
                raise
            if code in _GROWN:
                consumer.list_topics(source.topic, timeout=timeout)
            time.sleep(_ELECTION_WAIT_S)  # the broker does not announce the end of an election
        else:
            return low, high


def watermarks(settings: Settings, consumer: Consumer, source: TopicPartition) -> tuple[int, int]:
    """Return `span`, but raise DependencyUnreachableError."""
    try:
        return span(consumer, source, settings.kafka.timeout_seconds)
    except KafkaException as error:
        raise unreachable(settings, error, *_needs(settings, source)) from None


def _needs(settings: Settings, source: TopicPartition) -> tuple[Right, ...]:
    return read_right(source.topic), join(reader_group(settings))


def read(settings: Settings, consumer: Consumer, source: TopicPartition, end: int) -> Iterator[Message]:
    """Yield the messages from `source` on, below the offset `end`; skip offsets that retention has removed.

    The consumer is in no group and reports the end of a partition (`enable.partition.eof`). Raises
    DependencyUnreachableError.
    """
    consumer.assign([source])
    silent = 0.0
    try:
        while silent <= settings.kafka.timeout_seconds:
            messages = consumer.consume(500, timeout=_READ_WAIT_S)
            silent = 0.0 if messages else silent + _READ_WAIT_S
            for message in messages:
                error = message.error()
                if error is None:
                    if (message.offset() or 0) >= end:
                        return
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:
                    return
                elif error.code() == KafkaError._AUTO_OFFSET_RESET:
                    low, high = watermarks(settings, consumer, source)
                    if high <= max(low, source.offset):
                        return
                    consumer.assign([TopicPartition(source.topic, source.partition, max(low, source.offset))])
                elif error.fatal() or not error.retriable():
                    raise unreachable(settings, KafkaException(error), *_needs(settings, source))
            if consumer.position([source])[0].offset >= end:
                return
        raise unreachable(settings, KafkaException(KafkaError(KafkaError._TIMED_OUT)))
    finally:
        with contextlib.suppress(RuntimeError):  # the caller closed it before this generator
            consumer.unassign()
