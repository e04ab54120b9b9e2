"""The live topic at the start of a scorer, and the shadow topic with a partition for each of its partitions."""

from dataclasses import dataclass

from confluent_kafka.admin import ClusterMetadata

from gnomon_consumer.kafka import clients, topic_ids, topics
from gnomon_consumer.kafka.errors import Right
from gnomon_consumer.runtime.logging import get_logger
from gnomon_consumer.settings import Settings
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.topics import Topics

_ALL = 2**31
log = get_logger("assignment")


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveTopic:
    """The live topic as it was at the start.

    A partition from `first_partitions` on was added later, and is scored from its beginning, whatever --from is.
    `compacted`: an offset without a message may belong to a capture that compaction removed.
    """

    name: str
    cluster_id: str
    is_mock: bool
    ids: topic_ids.TopicIds
    first_partitions: int
    compacted: bool

    @property
    def topic_id(self) -> str | None:
        """Return the topic's id; None if the broker does not know ids."""
        return self.ids.known[self.name]

    def check(self) -> None:
        """Raise ConfigurationError if the topic was replaced since the start, so that offsets mean other captures.

        If this call returns, all messages read before it came from the right topic. Raises DependencyUnreachableError.
        """
        self.ids.check("scorer", "start another --deployment")


def prepared(settings: Settings, names: Topics, deployment: str, metadata: ClusterMetadata) -> LiveTopic:
    """Return the live topic, after the shadow topic has a partition for each of its partitions.

    Raises ConfigurationError if there is no live topic.
    """
    shadow_topic = names.shadow(deployment)
    is_mock = clients.is_mock(metadata)
    first_partitions = _ALL
    if is_mock:
        client = clients.make_producer(settings)
        for name in (names.live, shadow_topic, names.schemas, names.dead_letters):
            clients.list_topics(settings, name, client)  # the mock creates a topic when a client asks for it
    else:
        live = metadata.topics.get(names.live)
        if live is None or live.error is not None:
            raise topic_ids.denial_of(settings, names.live) or ConfigurationError(
                f"the topic {names.live} does not exist: run `gnomon topics create --stream {names.stream}"
                f" --deployment {deployment}`"
            )
        shadow = metadata.topics.get(shadow_topic)
        first_partitions = len(live.partitions) if shadow is None else len(shadow.partitions)
        grow_shadow(settings, names, deployment, len(live.partitions))
    return LiveTopic(
        name=names.live,
        cluster_id=str(metadata.cluster_id),
        is_mock=is_mock,
        ids=topic_ids.TopicIds(settings, metadata, names.live),
        first_partitions=first_partitions,
        compacted=not is_mock and _is_compacted(settings, names.live),
    )


def _is_compacted(settings: Settings, name: str) -> bool:
    compacted = topics.is_compacted(settings, name)
    if compacted is None:
        log.warning(
            "holes in the live topic count as markers of transactions: its policy is unknown",
            grant=str(Right("DescribeConfigs", "topic", name)),
        )
    elif compacted:
        log.warning("the live topic is compacted: captures are lost unread", topic=name)
    return bool(compacted)


def grow_shadow(settings: Settings, names: Topics, deployment: str, partitions: int) -> None:
    """Create a deployment's shadow topic with this number of partitions, or add those that it lacks."""
    shadow = [plan for plan in topics.plan(names, partitions, [deployment]) if plan.name == names.shadow(deployment)]
    for result in topics.create(settings, shadow):
        if result.outcome != "exists":
            log.info("shadow topic", outcome=result.outcome, topic=result.name, partitions=result.partitions)
