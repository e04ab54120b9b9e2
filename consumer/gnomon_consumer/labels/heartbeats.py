"""The producers' heartbeats: a small compacted topic, which every member reads completely without a group."""

import uuid
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition

from gnomon_consumer.kafka import clients
from gnomon_consumer.kafka.errors import join, read, refusal
from gnomon_consumer.labels.declared import as_declared
from gnomon_consumer.runtime.outage import KafkaErrorLog
from gnomon_consumer.settings import Settings
from gnomon_consumer.times import EARLIEST_US, LATEST_US
from gnomon_schemas.codec import Reader, Record
from gnomon_schemas.errors import DecodeError
from gnomon_schemas.schema import Schema


class Heartbeats:
    """Reads the producers' topic from its beginning; `pending` are the reports that are not yet stored.

    Raises ConfigurationError if this user may not see the topic.
    """

    def __init__(
        self, settings: Settings, topic: str, *, reader: Reader, kafka_errors: KafkaErrorLog, log: Any
    ) -> None:
        self._reader = reader
        self._needs = (read(topic), join(clients.reader_group(settings)))
        self._kafka_errors = kafka_errors
        self._log = log
        self._batch = settings.labels.batch_messages
        self.pending: list[Record] = []
        self._consumer: Consumer = clients.make_consumer(settings, None, {"enable.partition.eof": True})
        # Ask for the topic by its name: a list of all topics leaves out those that this user may not see.
        found = clients.list_topics(settings, topic, self._consumer).topics[topic]
        if found.error is not None and (denied := refusal(found.error, *self._needs)):
            self._consumer.close()
            raise denied
        partitions = sorted(found.partitions) if found.error is None else []
        self._left = set(partitions)
        self._consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions])
        if not partitions:
            log.warning("no heartbeats: the topic is missing", topic=topic)

    @property
    def read_whole(self) -> bool:
        """Return whether every partition was read to its end once, and all of its reports are stored."""
        return not self._left and not self.pending

    def read(self) -> None:
        """Read the arrived messages without waiting."""
        for message in self._consumer.consume(self._batch, 0):
            error = message.error()
            if error is None:
                self._read_report(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                self._left.discard(message.partition() or 0)
            else:
                self._kafka_errors.handle(error, *self._needs)

    def _read_report(self, message: Message) -> None:
        if message.value() is None:
            return
        try:
            record = _report(*self._reader.decode(message.value()))
        except (DecodeError, ValueError) as error:
            self._log.warning("unreadable heartbeat", offset=message.offset(), reason=str(error))
            return
        self.pending.append(record)

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()


def _report(name: str, writer: Schema, record: Record) -> Record:
    """Return a report that PostgreSQL can store; raise ValueError for any other record."""
    if name != "gnomon.v1.ProducerReport":
        raise ValueError(f"a {name}")
    report = as_declared("ProducerReport", writer, record)
    if not all(EARLIEST_US <= report[time] <= LATEST_US for time in ("started_at", "reported_at")):
        raise ValueError("its times are out of range")
    counts = [report[count] for count in ("offered", "delivered", "sampled_out", "switched_off")]
    if min(*counts, *report["dropped"].values()) < 0:
        raise ValueError("it has a negative count")
    return report | {"producer_id": str(uuid.UUID(report["producer_id"]))}  # UUID takes more forms than PostgreSQL
