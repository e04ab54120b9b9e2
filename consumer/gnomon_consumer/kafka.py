"""Client factories: every Kafka client of the shadow side is made here, with the passed-through properties.

Works with Apache Kafka and with librdkafka's mock cluster, which has no admin API and stores no
transactional offsets.
"""

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, ClusterMetadata

from gnomon_consumer.settings import Settings
from gnomon_schemas.errors import ConfigurationError, DependencyUnreachableError
from gnomon_schemas.registry import PREFIX as REGISTRY

_LIBRDKAFKA = logging.getLogger("librdkafka")
# A broker that cannot be reached is said again every second; the error of `list_topics` says it once.
_LIBRDKAFKA.addFilter(
    lambda record: not any(word in record.getMessage() for word in ("Connect to", "brokers are down"))
)
MOCK_CLUSTER_PREFIX = "mockCluster"

SESSION_TIMEOUT_MS = 10_000
TRANSACTION_TIMEOUT_MS = 10_000
QUEUED_KBYTES = 16_384
_READ_WAIT_S = 0.2
_ELECTING = (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE)
_ELECTION_WAIT_S = 0.1
MESSAGE_TIMEOUT_MS = 8_000  # below the transaction's own, so a failed delivery aborts before the broker fences us


def client_config(settings: Settings, defaults: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """librdkafka configuration: our defaults, then the bootstrap servers, then what is passed through."""
    own = {name: value for name, value in settings.kafka.properties.items() if not name.startswith(REGISTRY)}
    return {
        "log.connection.close": False,
        **(defaults or {}),
        "bootstrap.servers": settings.bootstrap_servers,
        **own,
    }


def make_consumer(
    settings: Settings, group: str | None = None, defaults: Mapping[str, Any] | None = None, **callbacks: Any
) -> Consumer:
    """A consumer of `group`; without one a reader that never commits (librdkafka insists on a name).

    Never jumps: an offset out of range is an error, and a read beyond the last stable offset waits.
    """
    base: dict[str, Any] = {
        "group.id": group or "gnomon-reader",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
        "fetch.queue.backoff.ms": 5,
        "fetch.wait.max.ms": 100,
        # What waits to be read takes about three times its bytes in memory; these are half a second of reading.
        "queued.max.messages.kbytes": QUEUED_KBYTES,
        **(defaults or {}),
    }
    if group is not None and settings.kafka.properties.get("group.protocol", "classic").lower() == "classic":
        # The newer protocol takes this from the broker and refuses the client's own.
        base.setdefault("session.timeout.ms", SESSION_TIMEOUT_MS)
    consumer: Consumer = _client(Consumer, client_config(settings, base), **callbacks)
    return consumer


def make_producer(settings: Settings, defaults: Mapping[str, Any] | None = None) -> Producer:
    """An idempotent producer for plain topics (schemas, labels)."""
    base = {"enable.idempotence": True, "linger.ms": 5, **(defaults or {})}
    producer: Producer = _client(Producer, _for_producer(client_config(settings, base)))
    return producer


def make_transactional_producer(
    settings: Settings, transactional_id: str, defaults: Mapping[str, Any] | None = None
) -> Producer:
    """A producer whose writes become visible together; `init_transactions` fences its namesake."""
    base = {
        "linger.ms": 5,
        "compression.type": "lz4",
        "queue.buffering.max.messages": 1_000_000,  # never full: the writer waits long before
        "delivery.report.only.error": True,  # of the others nobody asks: the commit says that all are there
        "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
        "message.timeout.ms": MESSAGE_TIMEOUT_MS,
        **(defaults or {}),
    }
    config = _for_producer(client_config(settings, base))
    config["transactional.id"] = transactional_id
    producer: Producer = _client(Producer, config)
    return producer


def make_admin(settings: Settings) -> AdminClient:
    """An admin client; useless on the mock cluster (see `is_mock`)."""
    admin: AdminClient = _client(AdminClient, _for_producer(client_config(settings)))
    return admin


def list_topics(settings: Settings, topic: str | None = None, client: Any = None) -> ClusterMetadata:
    """Metadata of the cluster (of `topic` only, if given); raises DependencyUnreachableError."""
    client = client or _client(AdminClient, _for_producer(client_config(settings)))
    arguments = () if topic is None else (topic,)
    try:
        metadata: ClusterMetadata = client.list_topics(*arguments, timeout=settings.kafka.timeout_seconds)
        return metadata
    except KafkaException as error:
        raise unreachable(settings, error) from None


def span(consumer: Consumer, place: TopicPartition, timeout: float) -> tuple[int, int]:
    """The first offset of a partition that is there, and the end; raises KafkaException.

    A broker that does not lead the partition yet, as of a new topic, is asked again for `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            low, high = consumer.get_watermark_offsets(place, timeout=timeout)
        except KafkaException as error:
            if kafka_error(error).code() not in _ELECTING or time.monotonic() >= deadline:
                raise
            time.sleep(_ELECTION_WAIT_S)
        else:
            return low, high


def watermarks(settings: Settings, consumer: Consumer, place: TopicPartition) -> tuple[int, int]:
    """Like `span`, but raises DependencyUnreachableError."""
    try:
        return span(consumer, place, settings.kafka.timeout_seconds)
    except KafkaException as error:
        raise unreachable(settings, error) from None


def read(settings: Settings, consumer: Consumer, place: TopicPartition, end: int) -> Iterator[Message]:
    """What the log holds from `place` on, below the offset `end`; it passes over what retention has removed.

    The consumer is in no group and tells the end of a partition (`enable.partition.eof`). Raises
    DependencyUnreachableError.
    """
    consumer.assign([place])
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
                    low, high = watermarks(settings, consumer, place)
                    if high <= max(low, place.offset):
                        return
                    consumer.assign([TopicPartition(place.topic, place.partition, max(low, place.offset))])
                elif error.fatal() or not error.retriable():
                    raise unreachable(settings, KafkaException(error))
            if consumer.position([place])[0].offset >= end:
                return
        raise unreachable(settings, KafkaException(KafkaError(KafkaError._TIMED_OUT)))
    finally:
        with contextlib.suppress(RuntimeError):  # it was closed before this generator
            consumer.unassign()


def unreachable(settings: Settings, error: KafkaException) -> DependencyUnreachableError:
    """The one line that is shown when no broker answers."""
    return DependencyUnreachableError(
        f"no Kafka broker answers at {settings.bootstrap_servers} ({kafka_error(error).str()}):"
        " start it, or set --bootstrap-servers or GNOMON_BOOTSTRAP_SERVERS"
    )


def kafka_error(error: KafkaException) -> KafkaError:
    """The librdkafka error inside an exception."""
    inner: KafkaError = error.args[0]
    return inner


def is_mock(metadata: ClusterMetadata) -> bool:
    """Whether this is librdkafka's mock cluster: no admin API, no transactional offsets, no isolation."""
    return str(getattr(metadata, "cluster_id", None) or "").startswith(MOCK_CLUSTER_PREFIX)


class TopicIds:
    """The broker's ids of topics, which a re-created topic loses; `known` as they are at first, None where untold."""

    def __init__(self, settings: Settings, metadata: ClusterMetadata, *topics: str) -> None:
        """Raises ConfigurationError for a topic that is missing, DependencyUnreachableError."""
        self._settings = settings
        self._topics = topics
        self._admin = None if is_mock(metadata) else make_admin(settings)
        self.known = self._ask(settings.kafka.timeout_seconds)

    def check(self, reader: str, way_out: str, timeout: float = 2.0) -> None:
        """What was read before this call is of the known topics if it returns.

        Raises ConfigurationError for `reader`, with the `way_out`, where one was re-created; else
        DependencyUnreachableError.
        """
        found = self._ask(timeout)
        for topic in self._topics:
            if found[topic] != self.known[topic]:
                raise ConfigurationError(
                    f"{topic} was re-created under this {reader}, its offsets begin anew: {way_out}"
                )

    def same(self, reader: str, way_out: str) -> bool:
        """Like `check`, but False while no broker says."""
        try:
            self.check(reader, way_out)
        except DependencyUnreachableError:
            return False
        return True

    def _ask(self, timeout: float) -> dict[str, str | None]:
        if self._admin is None:
            return dict.fromkeys(self._topics)
        futures = self._admin.describe_topics(TopicCollection(list(self._topics)), request_timeout=timeout)
        return {topic: self._answer(topic, future) for topic, future in futures.items()}

    def _answer(self, topic: str, future: Any) -> str | None:
        try:
            return str(future.result().topic_id)
        except KafkaException as error:
            if kafka_error(error).code() in (
                KafkaError._UNSUPPORTED_FEATURE,
                KafkaError.TOPIC_AUTHORIZATION_FAILED,
            ):
                return None
            if kafka_error(error).code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise ConfigurationError(f"no topic {topic}: run `gnomon topics create`") from None
            raise unreachable(self._settings, error) from None


def topic_id(settings: Settings, topic: str, metadata: ClusterMetadata) -> str | None:
    """The broker's id of a topic; raises as TopicIds do."""
    return TopicIds(settings, metadata, topic).known[topic]


def _for_producer(config: dict[str, Any]) -> dict[str, Any]:
    """Drop what only a consumer knows, so that one `[kafka.properties]` serves every client."""
    return {
        key: value
        for key, value in config.items()
        if not key.startswith(("group.", "fetch.", "session.", "heartbeat.", "auto.offset", "max.poll", "queued."))
        and key not in ("isolation.level", "partition.assignment.strategy")
    }


def _client(kind: Any, config: dict[str, Any], **callbacks: Any) -> Any:
    try:
        return kind(config, logger=_LIBRDKAFKA, **callbacks)
    except KafkaException as error:
        raise ConfigurationError(f"librdkafka refuses the configuration: {kafka_error(error).str()}") from None
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"librdkafka refuses the configuration: {error}") from None
