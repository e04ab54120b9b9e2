"""The maximum batch size of the topics: requested from the broker once, outside of any request."""

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

ASK_SECONDS = 30.0


class TopicLimit:
    """A request for `max.message.bytes` of `topics`; nothing here waits for the answer.

    `config` is librdkafka's. The broker compares a topic's limit with whole batches, not with single messages.
    """

    def __init__(
        self, config: dict[str, Any], topics: Iterable[str], make_admin: Callable[[dict[str, Any]], Any] = AdminClient
    ) -> None:
        self._admin = make_admin(config)
        resources = [ConfigResource(ResourceType.TOPIC, topic) for topic in topics]
        asked: dict[ConfigResource, Future[Any]] = self._admin.describe_configs(resources, request_timeout=ASK_SECONDS)
        self._answers = {resource.name: answer for resource, answer in asked.items()}

    @property
    def answered(self) -> bool:
        """Return whether every answer has arrived."""
        return all(answer.done() for answer in self._answers.values())

    def least(self) -> tuple[str, int] | None:
        """Return the topic with the smallest limit, and that limit in bytes; None if no topic could be asked.

        A topic is left out if it does not exist yet, or if the hook may not read its settings (DescribeConfigs).
        """
        found = []
        for topic, answer in self._answers.items():
            try:
                found.append((int(answer.result(0)["max.message.bytes"].value), topic))
            except (KafkaException, KeyError, TypeError, ValueError):
                continue
        if not found:
            return None
        limit, topic = min(found)
        return topic, limit
