"""Client factories: this module creates every Kafka client of the shadow side, with the user's properties.

Works with Apache Kafka and with librdkafka's mock cluster, which has no admin API and stores no
transactional offsets.
"""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, ClusterMetadata

from gnomon_consumer.kafka.errors import Right, kafka_error, no_broker, one_line, refusal
from gnomon_consumer.settings import Settings
from gnomon_schemas.errors import ConfigurationError, DependencyUnreachableError, GnomonError
from gnomon_schemas.registry import PREFIX as REGISTRY

_LIBRDKAFKA = logging.getLogger("librdkafka")
# librdkafka reports an unreachable broker every second; the error of `list_topics` reports it once.
_LIBRDKAFKA.addFilter(
    lambda record: not any(word in record.getMessage() for word in ("Connect to", "brokers are down"))
)
MOCK_CLUSTER_PREFIX = "mockCluster"

SESSION_TIMEOUT_MS = 10_000
TRANSACTION_TIMEOUT_MS = 10_000
METADATA_REFRESH_MS = 20_000  # how soon new partitions are noticed
QUEUED_KBYTES = 16_384
_ASK_S = 1.0
MESSAGE_TIMEOUT_MS = 8_000  # below the transaction's own, so a failed delivery aborts before the broker fences us


def client_config(settings: Settings, defaults: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the librdkafka configuration: our defaults, then the bootstrap servers, then the user's properties."""
    own = {name: value for name, value in settings.kafka.properties.items() if not name.startswith(REGISTRY)}
    return {
        "log.connection.close": False,
        **(defaults or {}),
        "bootstrap.servers": settings.bootstrap_servers,
        **own,
    }


def reader_group(settings: Settings) -> str:
    """Return the group name of readers without a group."""
    return f"{settings.topic_prefix}.reader"


def make_consumer(
    settings: Settings, group: str | None = None, defaults: Mapping[str, Any] | None = None, **callbacks: Any
) -> Consumer:
    """Return a consumer of `group`, or without a group one that never commits (librdkafka insists on a name).

    The consumer never jumps: an offset out of range is an error, and a read beyond the last stable offset waits.
    """
    base: dict[str, Any] = {
        "group.id": group or reader_group(settings),
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
        "topic.metadata.refresh.interval.ms": METADATA_REFRESH_MS,
        "fetch.queue.backoff.ms": 5,
        "fetch.wait.max.ms": 100,
        # Prefetched messages take about three times their bytes in memory; these limits are half a second of reading.
        "queued.max.messages.kbytes": QUEUED_KBYTES,
        **(defaults or {}),
    }
    if group is not None and settings.kafka.properties.get("group.protocol", "classic").lower() == "classic":
        # With the newer group protocol, the broker sets this, and refuses a value from the client.
        base.setdefault("session.timeout.ms", SESSION_TIMEOUT_MS)
    consumer: Consumer = _client(Consumer, client_config(settings, base), **callbacks)
    return consumer


def make_producer(settings: Settings, defaults: Mapping[str, Any] | None = None) -> Producer:
    """Return an idempotent producer for plain topics (schemas, labels)."""
    base = {"enable.idempotence": True, "linger.ms": 5, **(defaults or {})}
    producer: Producer = _client(Producer, _for_producer(client_config(settings, base)))
    return producer


def make_transactional_producer(
    settings: Settings, transactional_id: str, defaults: Mapping[str, Any] | None = None
) -> Producer:
    """Return a producer whose writes become visible together; `init_transactions` fences others of the same id."""
    base = {
        "linger.ms": 5,
        "compression.type": "lz4",
        "queue.buffering.max.messages": 1_000_000,  # never full: the writer waits long before
        # nobody reads the other deliveries' reports: the commit confirms that all messages arrived
        "delivery.report.only.error": True,
        "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
        "message.timeout.ms": MESSAGE_TIMEOUT_MS,
        **(defaults or {}),
    }
    config = _for_producer(client_config(settings, base))
    config["transactional.id"] = transactional_id
    producer: Producer = _client(Producer, config)
    return producer


def make_admin(settings: Settings) -> AdminClient:
    """Return an admin client; useless on the mock cluster (see `is_mock`)."""
    admin: AdminClient = _client(AdminClient, _for_producer(client_config(settings)))
    return admin


def list_topics(settings: Settings, topic: str | None = None, client: Any = None) -> ClusterMetadata:
    """Return the metadata of the cluster, or of `topic` only.

    Raises ConfigurationError if the login or TLS is refused, DependencyUnreachableError if no broker answers.
    """
    heard: list[KafkaError] = []
    own = None
    if client is None:
        quiet = {"error_cb": heard.append, "log_level": 2}
        client = own = _client(AdminClient, _for_producer(client_config(settings)) | quiet)
    arguments = () if topic is None else (topic,)
    deadline = time.monotonic() + settings.kafka.timeout_seconds
    while True:
        left = deadline - time.monotonic()
        try:
            # In short steps: librdkafka reports a refused login at once, but retries until the timeout.
            metadata: ClusterMetadata = client.list_topics(*arguments, timeout=max(0.01, min(_ASK_S, left)))
            return metadata
        except KafkaException as error:
            # Polling a consumer of the caller would take a message or call its group's callbacks.
            if own is not None:
                own.poll(0)  # calls error_cb
            if left <= _ASK_S or any(refusal(one) for one in (kafka_error(error), *heard)):
                raise no_broker(settings.bootstrap_servers, kafka_error(error), heard) from None


def unreachable(settings: Settings, error: KafkaException, *needed: Right) -> GnomonError:
    """Return the one-line error for a broker that does not answer, or that refuses for want of a right of `needed`."""
    return no_broker(settings.bootstrap_servers, kafka_error(error), needed=needed)


def no_transaction(settings: Settings, producer: Any, error: KafkaException, *needed: Right) -> GnomonError:
    """Return the error for a producer that cannot begin transactions: without a broker, a right or a coordinator."""
    found = unreachable(settings, error, *needed)
    if not isinstance(found, DependencyUnreachableError):
        return found
    try:
        producer.list_topics(timeout=_ASK_S)
    except KafkaException:
        return found
    return DependencyUnreachableError(
        f"Kafka at {settings.bootstrap_servers} answers, but begins no transaction"
        f" ({one_line(kafka_error(error).str())}): a broker that has just started needs a moment; `gnomon doctor`"
        " checks what brokers need for transactions"
    )


def is_mock(metadata: ClusterMetadata) -> bool:
    """Return whether this is librdkafka's mock cluster: no admin API, no transactional offsets, no isolation."""
    return str(getattr(metadata, "cluster_id", None) or "").startswith(MOCK_CLUSTER_PREFIX)


def _for_producer(config: dict[str, Any]) -> dict[str, Any]:
    """Drop consumer-only properties, so that one `[kafka.properties]` serves every client."""
    return {
        key: value
        for key, value in config.items()
        if not key.startswith(("group.", "fetch.", "session.", "heartbeat.", "auto.offset", "max.poll", "queued."))
        and key not in ("isolation.level", "partition.assignment.strategy")
    }


def _is_missing_file(name: str, path: Any) -> bool:
    return name.startswith("ssl.") and name.endswith(".location") and not Path(str(path)).exists()


def _client(kind: Any, config: dict[str, Any], **callbacks: Any) -> Any:
    try:
        return kind(config, logger=_LIBRDKAFKA, **callbacks)
    except KafkaException as error:
        missing = [f"{name}: no file {path}" for name, path in config.items() if _is_missing_file(name, path)]
        reason = "; ".join(missing) or kafka_error(error).str()
        if "ssl.key.location failed" in reason:
            reason += ": check ssl.key.password"
        raise ConfigurationError(f"librdkafka refuses the configuration: {reason}") from None
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"librdkafka refuses the configuration: {error}") from None
