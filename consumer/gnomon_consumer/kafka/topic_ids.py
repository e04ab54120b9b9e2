"""Detect re-created topics: a topic's id differs from that of an earlier topic of the same name."""

from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import ClusterMetadata

from gnomon_consumer.kafka.clients import is_mock, make_admin, unreachable
from gnomon_consumer.kafka.errors import Right, kafka_error, read, refusal
from gnomon_consumer.settings import Settings
from gnomon_schemas.errors import ConfigurationError, DependencyUnreachableError


class TopicIds:
    """The broker's ids of topics, which change when a topic is re-created;

    `known` are the first ids, None if unknown.
    """

    def __init__(self, settings: Settings, metadata: ClusterMetadata, *topics: str) -> None:
        """Read the ids; raise ConfigurationError for a missing topic, DependencyUnreachableError without an answer."""
        self._settings = settings
        self._topics = topics
        self._admin = None if is_mock(metadata) else make_admin(settings)
        self.known = self._ask(settings.kafka.timeout_seconds)

    def check(self, reader: str, way_out: str, timeout: float = 2.0) -> None:
        """Check that all messages read before this call came from the known topics.

        Raises ConfigurationError for `reader`, with the `way_out`, if one was re-created; DependencyUnreachableError
        without an answer.
        """
        found = self._ask(timeout)
        for topic in self._topics:
            if found[topic] != self.known[topic]:
                raise ConfigurationError(
                    f"{topic} was re-created under this {reader}, its offsets begin again: {way_out}"
                )

    def same(self, reader: str, way_out: str) -> bool:
        """Return whether `check` succeeds; False while no broker answers."""
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
            if kafka_error(error).code() == KafkaError._UNSUPPORTED_FEATURE:
                return None
            if denied := refusal(kafka_error(error), read(topic)):
                raise denied from None
            if kafka_error(error).code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise ConfigurationError(f"no topic {topic}: run `gnomon topics create`") from None
            raise unreachable(self._settings, error) from None


def denial_of(settings: Settings, topic: str) -> ConfigurationError | None:
    """Return the refused right that hides a topic from a listing; None if the topic does not exist."""
    admin = make_admin(settings)
    asked = admin.describe_topics(TopicCollection([topic]), request_timeout=settings.kafka.timeout_seconds)
    try:
        asked[topic].result()
    except KafkaException as error:
        return refusal(kafka_error(error), read(topic))
    return None


def lacking(settings: Settings, *needed: Right) -> list[Right]:
    """Return those of `needed`, rights on topics, that this user lacks; all of them if the broker does not tell."""
    admin = make_admin(settings)
    asked = admin.describe_topics(
        TopicCollection(sorted({right.name for right in needed})),
        include_authorized_operations=True,
        request_timeout=settings.kafka.timeout_seconds,
    )
    given: dict[str, set[str]] = {}
    for name, future in asked.items():
        try:
            given[name] = {one.name.replace("_", "").lower() for one in future.result().authorized_operations or ()}
        except KafkaException:
            given[name] = set()  # it may not even be seen
    return [right for right in needed if right.operation.lower() not in given[right.name]] or list(needed)


def topic_id(settings: Settings, topic: str, metadata: ClusterMetadata) -> str | None:
    """Return the broker's id of a topic; raise as TopicIds does."""
    return TopicIds(settings, metadata, topic).known[topic]
