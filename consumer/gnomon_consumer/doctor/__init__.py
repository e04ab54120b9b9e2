"""`gnomon doctor`: check the installation and the ledger."""

from collections.abc import Iterator
from contextlib import closing

from confluent_kafka import KafkaException

from gnomon_consumer.database import connections
from gnomon_consumer.doctor import broker, data, machine
from gnomon_consumer.doctor.finding import Finding, FindingStatus, exit_status
from gnomon_consumer.kafka.errors import kafka_error
from gnomon_consumer.settings import Settings

__all__ = ["Finding", "FindingStatus", "examine", "exit_status"]


def examine(settings: Settings) -> Iterator[Finding]:
    """Run every check that the settings allow, cheapest first; leave out checks whose prerequisite failed."""
    yield from machine.examine_sandbox(settings)
    metadata = yield from broker.answers(settings)
    first_offsets: dict[int, int] = {}
    if metadata is not None and settings.stream is not None:
        yield from broker.examine_topics(settings, metadata)
        yield from broker.examine_schemas(settings, metadata)
        try:
            first_offsets = broker.first_offsets(settings, metadata)
        except KafkaException as error:
            yield Finding("retention", "unreachable", kafka_error(error).str(), "check the live topic and its rights")
    if settings.database_url is None:
        yield Finding("database", "note", "no database_url is configured", "give --database-url to check it")
        return
    if (yield from data.answers(settings)) and settings.stream is not None:
        with closing(connections.connect(settings.database_url, "gnomon doctor")) as connection:
            if metadata is not None:
                cluster_id, topic_ids = broker.identity(settings, metadata)
                yield from data.examine_identity(connection, settings.stream, cluster_id, topic_ids)
            yield from data.examine_rows(connection, settings.stream, first_offsets)
