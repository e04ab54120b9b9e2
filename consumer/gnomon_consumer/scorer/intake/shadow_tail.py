"""The shadow log is the authority on progress: the start of each of its partitions, and the end of its last seal."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from gnomon_consumer.kafka import clients, log_reading
from gnomon_consumer.runtime.logging import get_logger
from gnomon_consumer.settings import Settings
from gnomon_schemas.codec import Reader, Record
from gnomon_schemas.errors import ConfigurationError, DecodeError
from gnomon_schemas.records import DeploymentStart, from_dict
from gnomon_schemas.store import ChainedSchemas, TopicSchemas, packaged_schemas

START = "gnomon.v1.DeploymentStart"
WINDOW = "gnomon.v1.SamplingWindow"
_FIRST_STEP = 64  # records to read at first; doubled until a seal is found
_WAIT_SECONDS = 60.0
log = get_logger("shadow_tail")


@dataclass(frozen=True, slots=True)
class Tail:
    """The state of one shadow partition: its first record, and the end of its last sealed window (None: no seal).

    `expired`: retention has removed the beginning of the partition, including its first record.
    """

    start: DeploymentStart | None
    end_offset: int | None
    expired: bool = False


class ShadowLog:
    """Reads the ends of a deployment's shadow partitions, without a group.

    Records of a later version of Gnomon are decoded with the schemas that it published in the topic `schemas`.
    """

    def __init__(self, settings: Settings, topic: str, schemas: str, clock: Callable[[], float]) -> None:
        self._topic = topic
        self._clock = clock
        self._settings = settings
        eof = {"enable.partition.eof": True, "fetch.wait.max.ms": 10}
        self._committed = clients.make_consumer(settings, defaults=eof)
        self._all = clients.make_consumer(settings, defaults=eof | {"isolation.level": "read_uncommitted"})
        self._published = TopicSchemas(
            clients.client_config(settings), schemas, timeout_s=settings.kafka.timeout_seconds
        )
        self._reader = Reader(ChainedSchemas(packaged_schemas(), self._published))

    def close(self) -> None:
        """Leave the broker."""
        self._committed.close()
        self._all.close()
        self._published.close()

    def tail(self, partition: int, stopping: Callable[[], bool]) -> Tail:
        """Read one partition's tail, as soon as no transaction is open there.

        The last stable offset must reach the high watermark first: until then a predecessor's commit may still be
        running, and its seal would appear after we have read the tail. Raises ConfigurationError for a record that is
        not readable: it may be a seal, and we would score its window again.
        """
        deadline = self._clock() + _WAIT_SECONDS
        waited = False
        while True:
            low, high = self._watermarks(self._all, partition)
            stable = self._watermarks(self._committed, partition)[1]
            if stable >= high or stopping():
                break
            if self._clock() > deadline:
                raise ConfigurationError(
                    f"{self._topic} [{partition}]: a transaction has been open for over {_WAIT_SECONDS:g} s"
                )
            if not waited:
                log.info("waiting for an open transaction", partition=partition, stable=stable, end=high)
                waited = True
            self._committed.poll(0.2)
        if high <= low:
            return Tail(None, None, expired=low > 0)
        end = None
        step = _FIRST_STEP
        while end is None:
            first = max(low, high - step)
            for name, record in self._read(partition, first, high, every=True):
                if name == WINDOW:
                    end = record["end_offset"]
            if first == low:
                break
            step *= 4
        beginning = self._first(partition, low, high)
        start = from_dict(DeploymentStart, beginning[1]) if beginning and beginning[0] == START else None
        return Tail(start, end, expired=start is None and low > 0)

    def records(self, partition: int) -> Iterator[tuple[str, Record]]:
        """Yield every readable record of committed transactions in a partition, up to its current end."""
        low, high = self._watermarks(self._committed, partition)
        return self._read(partition, low, high)

    def _watermarks(self, consumer: Consumer, partition: int) -> tuple[int, int]:
        return log_reading.watermarks(self._settings, consumer, TopicPartition(self._topic, partition))

    def _first(self, partition: int, low: int, high: int) -> tuple[str, Record] | None:
        return next(iter(self._read(partition, low, min(high, low + _FIRST_STEP), every=True)), None)

    def _read(self, partition: int, first: int, end: int, every: bool = False) -> Iterator[tuple[str, Record]]:
        """Yield the readable records of [first, end); with `every`, raise ConfigurationError for an unreadable one.

        Transaction markers leave holes, aborted records are left out.
        """
        start = TopicPartition(self._topic, partition, first)
        for message in log_reading.read(self._settings, self._committed, start, end):
            try:
                name, _, record = self._reader.decode(message.value())
            except DecodeError as error:
                if every:
                    raise ConfigurationError(
                        f"{self._topic} [{partition}], offset {message.offset()}: {error}; if a later version of Gnomon"
                        " wrote it, install that version; otherwise use another --deployment name"
                    ) from None
                log.warning("unreadable record", topic=self._topic, offset=message.offset(), reason=str(error))
            else:
                yield name, record


def check_identity(wanted: DeploymentStart, found: DeploymentStart, topic: str) -> None:
    """Refuse to continue under another identity; raise ConfigurationError that names the difference.

    The sampling policy may change during a deployment, because every window records its own.
    """
    for name in ("deployment", "role", "cluster_id", "topic_id", "source_partition", "model", "seed"):
        old, new = getattr(found, name), getattr(wanted, name)
        if old != new and not (name == "topic_id" and (old is None or new is None)):
            raise ConfigurationError(
                f"{topic} [{found.source_partition}] was started with {name} {_format_value(old)}, but this is"
                f" {_format_value(new)}: use another --deployment name"
            )


def _format_value(value: Any) -> str:
    return f"{value.name} {value.version} ({value.sha256[:12]})" if hasattr(value, "sha256") else repr(value)
