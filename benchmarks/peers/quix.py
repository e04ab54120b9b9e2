"""Common parts of the jobs of Quix Streams: an application for brokers that do not describe topics, too."""

import logging
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from quixstreams import Application
from quixstreams.models.topics import TopicAdmin, TopicConfig, TopicManager

from benchmarks.peers.common import Job


class Admin(TopicAdmin):
    """Uses the metadata if a broker (librdkafka's mock) has no DescribeConfigs."""

    def inspect_topics(self, topic_names: list[str], timeout: float = 30) -> dict[str, TopicConfig | None]:
        try:
            described: dict[str, TopicConfig | None] = super().inspect_topics(topic_names, timeout)
            return described
        except KafkaException as error:
            if error.args[0].code() != KafkaError._UNSUPPORTED_FEATURE:
                raise
        found = self.list_topics(timeout)
        return {name: TopicConfig(len(found[name].partitions), 1) if name in found else None for name in topic_names}


def topics(bootstrap: str, group: str) -> TopicManager:
    """Return the topics of an application, none of which it creates."""
    return TopicManager(Admin(bootstrap), group, auto_create_topics=False)


def application(run: Job, **settings: Any) -> Application:
    """Return an application that reads from the beginning and fetches again quickly."""
    return Application(
        broker_address=run.bootstrap,
        consumer_group=run.group,
        auto_offset_reset="earliest",
        auto_create_topics=False,
        topic_manager=topics(run.bootstrap, run.group),
        loglevel=logging.WARNING,
        consumer_extra_config={"fetch.queue.backoff.ms": 5},
        **settings,
    )
