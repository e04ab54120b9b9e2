"""One topic read in a consumer group, from offsets stored in the database instead of the group."""

from collections.abc import Callable, Iterable, Mapping

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, TopicPartition

from gnomon_consumer.kafka import clients, log_reading
from gnomon_consumer.kafka.errors import join, kafka_error, read
from gnomon_consumer.settings import Settings


class GroupTopic:
    """This member's partitions of a topic; each is paused until it is opened at an offset.

    `unopened` are those that wait to be opened. `gone` is called with revoked partitions. `needs` are the rights.
    """

    def __init__(self, settings: Settings, group: str, topic: str, gone: Callable[[list[int]], None]) -> None:
        defaults = {"enable.partition.eof": True, "queued.max.messages.kbytes": 16_384}
        self._consumer: Consumer = clients.make_consumer(settings, group, defaults)
        self._topic = topic
        self.needs = (read(topic), join(group))
        self._timeout = settings.kafka.timeout_seconds
        self._gone = gone
        properties = settings.kafka.properties
        self._incremental = (
            "cooperative" in properties.get("partition.assignment.strategy", "")
            or properties.get("group.protocol", "classic").lower() == "consumer"
        )
        self.unopened: set[int] = set()
        self._consumer.subscribe([topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked)

    def consume(self, count: int, timeout: float) -> list[Message]:
        """Return messages and events; this keeps the member in its group, also while all partitions are paused."""
        return self._consumer.consume(count, timeout)

    def open(self, offsets: Mapping[int, int]) -> None:
        """Begin to read partitions, each at its offset."""
        for partition, offset in offsets.items():
            self._consumer.seek(TopicPartition(self._topic, partition, offset))
        self.hold(offsets, False)
        self.unopened -= offsets.keys()

    def close_again(self, partitions: Iterable[int]) -> None:
        """Pause partitions until they are opened again."""
        chosen = set(partitions)
        self.hold(chosen, True)
        self.unopened |= chosen

    def seek(self, partition: int, offset: int) -> None:
        """Continue at another offset."""
        self._consumer.seek(TopicPartition(self._topic, partition, offset))

    def hold(self, partitions: Iterable[int], held: bool) -> None:
        """Stop fetching partitions, or continue."""
        chosen = [TopicPartition(self._topic, partition) for partition in partitions]
        if chosen:
            (self._consumer.pause if held else self._consumer.resume)(chosen)

    def low(self, partition: int) -> int:
        """Return the first existing offset; raise KafkaException."""
        return log_reading.span(self._consumer, TopicPartition(self._topic, partition), self._timeout)[0]

    def commit_group_offsets(self, ends: Mapping[int, int]) -> str | None:
        """Commit offsets, which Gnomon never reads; return the reason if that was not possible."""
        try:
            self._consumer.commit(
                offsets=[TopicPartition(self._topic, partition, end) for partition, end in ends.items()],
                asynchronous=True,
            )
        except KafkaException as error:
            return kafka_error(error).str()
        return None

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for partition in partitions:
            partition.offset = OFFSET_BEGINNING
        if self._incremental:
            consumer.incremental_assign(partitions)
        else:
            consumer.assign(partitions)
        if partitions:
            consumer.pause(partitions)
        self.unopened |= {partition.partition for partition in partitions}

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        numbers = [partition.partition for partition in partitions]
        self.unopened -= set(numbers)
        try:
            self._gone(numbers)
        finally:
            if self._incremental:
                consumer.incremental_unassign(partitions)
            else:
                consumer.unassign()
