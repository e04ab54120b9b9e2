"""The topics of a stream with the settings of the contract: planned purely, created through the admin API."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import ConfigResource, NewPartitions, NewTopic, ResourceType

from gnomon_consumer.kafka import clients
from gnomon_consumer.kafka.errors import Right, kafka_error, refusal
from gnomon_consumer.settings import Settings
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.topics import Topics

DAY_MS = 86_400_000
LIVE_RETENTION_MS = 7 * DAY_MS
LABEL_RETENTION_MS = 400 * DAY_MS  # labels come late and are small
_SHOWN_S, _LOOK_S = 5.0, 0.05


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """The desired state of one topic; `config` are broker-side topic settings.

    `grows`: whether a topic that exists with fewer partitions gets more. Only topics that are read by partition number
    grow: in others, more partitions would only move keys.
    """

    name: str
    partitions: int
    config: dict[str, str] = field(default_factory=dict)
    grows: bool = False


@dataclass(frozen=True, slots=True)
class TopicResult:
    """The result for a topic: `created`, `exists`, `grown` or `touched` (the mock has no admin)."""

    name: str
    partitions: int
    outcome: str


def plan(topics: Topics, partitions: int, deployments: Iterable[str] = ()) -> list[TopicPlan]:
    """Return the topics of one stream; shadow and dead letters have the live topic's partitions and retention."""
    kept = {"cleanup.policy": "delete", "retention.ms": str(LIVE_RETENTION_MS)}
    return [
        TopicPlan(topics.live, partitions, kept, grows=True),
        *(TopicPlan(topics.shadow(name), partitions, kept, grows=True) for name in deployments),
        TopicPlan(topics.labels, partitions, {"cleanup.policy": "delete", "retention.ms": str(LABEL_RETENTION_MS)}),
        TopicPlan(topics.schemas, 1, {"cleanup.policy": "compact"}),
        TopicPlan(topics.producers, 1, {"cleanup.policy": "compact,delete", "retention.ms": str(LABEL_RETENTION_MS)}),
        # No longer than the source: a dead letter may hold anything that the live message held.
        TopicPlan(topics.dead_letters, partitions, kept),
    ]


def partitions_of(settings: Settings, topic: str) -> int | None:
    """Return the number of partitions of a topic, None if it does not exist; raise DependencyUnreachableError."""
    found = clients.list_topics(settings).topics.get(topic)
    return None if found is None or found.error is not None else len(found.partitions)


def is_compacted(settings: Settings, topic: str) -> bool | None:
    """Return whether the broker removes single records of a topic, None without an answer (no right to ask)."""
    resource = ConfigResource(ResourceType.TOPIC, topic)
    admin = clients.make_admin(settings)
    try:
        found = admin.describe_configs([resource], request_timeout=settings.kafka.timeout_seconds)[resource].result()
    except KafkaException:
        return None
    return "compact" in str(found["cleanup.policy"].value)


def create(settings: Settings, plans: list[TopicPlan], replication: int = -1) -> list[TopicResult]:
    """Create missing topics and add planned partitions; never shrink, never alter settings.

    `replication` -1 is the broker's default. Returns when a broker shows the topics, see `_wait_until_shown`. Raises
    DependencyUnreachableError or ConfigurationError.
    """
    metadata = clients.list_topics(settings)
    if clients.is_mock(metadata):
        client = clients.make_producer(settings)
        return [
            TopicResult(
                item.name,
                len(clients.list_topics(settings, item.name, client).topics[item.name].partitions),
                "touched",
            )
            for item in plans
        ]
    existing = {name: len(topic.partitions) for name, topic in metadata.topics.items()}
    results = [_create_one(settings, item, existing.get(item.name, 0), replication) for item in plans]
    if any(result.outcome != "exists" for result in results):
        _wait_until_shown(settings, results)
    return results


def _wait_until_shown(settings: Settings, results: Sequence[TopicResult]) -> None:
    """Wait until a broker shows the topics, at most _SHOWN_S: the controller answers before the brokers know them.

    The next command would otherwise report a topic as missing. Without the right to describe them nothing shows them.
    """
    until = time.monotonic() + _SHOWN_S
    while time.monotonic() < until:
        shown = clients.list_topics(settings).topics
        if all(one.name in shown and len(shown[one.name].partitions) >= one.partitions for one in results):
            return
        time.sleep(_LOOK_S)


def _create_one(settings: Settings, item: TopicPlan, existing: int, replication: int) -> TopicResult:
    if existing >= item.partitions or (existing and not item.grows):
        return TopicResult(item.name, existing, "exists")
    admin = clients.make_admin(settings)
    timeout = settings.kafka.timeout_seconds
    try:
        if existing:
            admin.create_partitions([NewPartitions(item.name, item.partitions)], request_timeout=timeout)[
                item.name
            ].result()
            return TopicResult(item.name, item.partitions, "grown")
        topic = NewTopic(item.name, item.partitions, replication, config=item.config)
        admin.create_topics([topic], request_timeout=timeout)[item.name].result()
    except KafkaException as error:
        cause = kafka_error(error)
        # Another process was faster; the broker refuses to grow a topic that has at least as many partitions.
        if cause.code() == (KafkaError.INVALID_PARTITIONS if existing else KafkaError.TOPIC_ALREADY_EXISTS):
            return TopicResult(item.name, item.partitions, "exists")
        if cause.code() in (KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN):
            raise clients.unreachable(settings, error) from None
        needed = Right("Alter" if existing else "Create", "topic", item.name)
        raise refusal(cause, needed) or ConfigurationError(
            f"topic {item.name} cannot be {'grown' if existing else 'created'}: {cause.str()}"
        ) from None
    return TopicResult(item.name, item.partitions, "created")
