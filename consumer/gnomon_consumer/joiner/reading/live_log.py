"""The second read of the live log: without a group, from explicit offsets, and never skipping messages silently."""

from collections.abc import Iterable

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from gnomon_consumer.kafka import clients
from gnomon_consumer.kafka.errors import join, read
from gnomon_consumer.settings import Settings

UNKNOWN_END = 2**63 - 1


class LiveLog:
    """The partitions of the live topic that this member follows; `needs` are the rights to read it."""

    def __init__(self, settings: Settings, topic: str) -> None:
        defaults = {"enable.partition.eof": True, "queued.max.messages.kbytes": 16_384}
        self._consumer: Consumer = clients.make_consumer(settings, None, defaults)
        # On a separate connection: a broker answers in order, so a request after a fetch waits until the fetch ends
        # (`fetch.wait.max.ms`).
        self._asking: Consumer = clients.make_consumer(settings)
        self._topic = topic
        self.needs = (read(topic), join(clients.reader_group(settings)))
        self._timeout = settings.kafka.timeout_seconds
        self._followed: set[int] = set()
        self._held: set[int] = set()

    def follow(self, partition: int, position: int) -> None:
        """Begin to read a partition at an offset, unless it is already followed."""
        if partition not in self._followed:
            self._consumer.incremental_assign([TopicPartition(self._topic, partition, position)])
            self._followed.add(partition)

    def leave(self, partitions: Iterable[int]) -> None:
        """Stop reading partitions; ignore those that are not followed."""
        gone = self._followed & set(partitions)
        if gone:
            self._consumer.incremental_unassign([TopicPartition(self._topic, partition) for partition in gone])
            self._followed -= gone
            self._held -= gone

    def hold(self, partition: int, held: bool) -> None:
        """Pause a partition, or resume it; its position is kept."""
        if partition in self._followed and held != (partition in self._held):
            change = self._consumer.pause if held else self._consumer.resume
            change([TopicPartition(self._topic, partition)])
            (self._held.add if held else self._held.discard)(partition)

    def consume(self, count: int, timeout: float) -> list[Message]:
        """Return messages and events of the followed partitions."""
        return self._consumer.consume(count, timeout) if self._followed else []

    def watermarks(self, partition: int) -> tuple[int, int] | None:
        """Return the first existing offset and the end; None while the broker does not answer."""
        try:
            return self._asking.get_watermark_offsets(TopicPartition(self._topic, partition), timeout=self._timeout)
        except KafkaException:
            return None

    def end(self, partition: int) -> int:
        """Return the end of a partition; UNKNOWN_END while the broker does not answer."""
        found = self.watermarks(partition)
        return UNKNOWN_END if found is None else found[1]

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()
        self._asking.close()
