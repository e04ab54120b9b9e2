"""The topics of a stream with the settings of the contract: planned purely, created through the admin API."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import NewPartitions, NewTopic

from gnomon_consumer import kafka
from gnomon_consumer.settings import Settings
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.topics import Topics

DAY_MS = 86_400_000
LIVE_RETENTION_MS = 7 * DAY_MS
LABEL_RETENTION_MS = 400 * DAY_MS  # labels come late and are small


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """One topic as it should be; `config` are broker-side topic settings."""

    name: str
    partitions: int
    config: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TopicResult:
    """What became of a topic: `created`, `exists`, `grown` or `touched` (the mock has no admin)."""

    name: str
    partitions: int
    outcome: str


def plan(topics: Topics, partitions: int, deployments: Iterable[str] = ()) -> list[TopicPlan]:
    """The topics of one stream; shadow and dead letters like the live topic in partitions and retention."""
    kept = {"cleanup.policy": "delete", "retention.ms": str(LIVE_RETENTION_MS)}
    return [
        TopicPlan(topics.live, partitions, kept),
        *(TopicPlan(topics.shadow(name), partitions, kept) for name in deployments),
        TopicPlan(topics.labels, partitions, {"cleanup.policy": "delete", "retention.ms": str(LABEL_RETENTION_MS)}),
        TopicPlan(topics.schemas, 1, {"cleanup.policy": "compact"}),
        TopicPlan(topics.producers, 1, {"cleanup.policy": "compact,delete", "retention.ms": str(LABEL_RETENTION_MS)}),
        # No looser than the source: a dead letter may hold whatever the live message held.
        TopicPlan(topics.dead_letters, partitions, kept),
    ]


def create(settings: Settings, plans: list[TopicPlan], replication: int = -1) -> list[TopicResult]:
    """Create what is missing and grow what has too few partitions; never shrinks, never alters settings.

    `replication` -1 is the broker's default. Raises DependencyUnreachableError or ConfigurationError.
    """
    metadata = kafka.list_topics(settings)
    if kafka.is_mock(metadata):
        client = kafka.make_producer(settings)
        return [
            TopicResult(
                item.name,
                len(kafka.list_topics(settings, item.name, client).topics[item.name].partitions),
                "touched",
            )
            for item in plans
        ]
    existing = {name: len(topic.partitions) for name, topic in metadata.topics.items()}
    return [_create_one(settings, item, existing.get(item.name, 0), replication) for item in plans]


def _create_one(settings: Settings, item: TopicPlan, existing: int, replication: int) -> TopicResult:
    if existing >= item.partitions:
        return TopicResult(item.name, existing, "exists")
    admin = kafka.make_admin(settings)
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
        cause = kafka.kafka_error(error)
        if cause.code() == KafkaError.TOPIC_ALREADY_EXISTS:
            return TopicResult(item.name, item.partitions, "exists")
        if cause.code() in (KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN):
            raise kafka.unreachable(settings, error) from None
        raise ConfigurationError(f"topic {item.name} cannot be created: {cause.str()}") from None
    return TopicResult(item.name, item.partitions, "created")
