"""The schemas of the scorer's own records, published in the stream's schema topic for joiners of an earlier version.

Each version of Gnomon contains its own record schemas and the earlier ones, but cannot contain those of later versions.
"""

from confluent_kafka import KafkaError, KafkaException, Message

from gnomon_consumer.kafka import clients
from gnomon_consumer.kafka.errors import refusal, write
from gnomon_consumer.runtime.logging import get_logger
from gnomon_consumer.settings import Settings
from gnomon_schemas.errors import DependencyUnreachableError
from gnomon_schemas.schema import record_schema
from gnomon_schemas.store import TopicSchemas

WRITTEN = ("DeploymentStart", "ShadowPrediction", "SamplingWindow")
log = get_logger("score")


def publish(settings: Settings, topic: str) -> None:
    """Publish the schemas that are missing in the topic. If the broker refuses, log it and continue scoring."""
    try:
        refused = _publish(settings, topic)
    except (DependencyUnreachableError, KafkaException) as error:
        refused = str(error)
    if refused:
        log.info(
            "the schemas of the outcomes are not published: only joiners of this version can read them", reason=refused
        )


def _publish(settings: Settings, topic: str) -> str:
    """Return why a schema was not published, '' if all are there."""
    if topic not in clients.list_topics(settings).topics:
        # a broker with automatic topic creation would create the topic with other settings
        return f"the topic {topic} does not exist"
    store = TopicSchemas(clients.client_config(settings), topic, timeout_s=settings.kafka.timeout_seconds)
    try:
        store.refresh()
        schemas = [record_schema(name) for name in WRITTEN]
        missing = [schema for schema in schemas if not store.holds(schema.fingerprint)]
    finally:
        store.close()
    refused: list[str] = []

    def delivered(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            refused.append(str(refusal(error, write(topic)) or error.str()))

    if missing:
        producer = clients.make_producer(settings)
        for schema in missing:
            producer.produce(topic, schema.text, str(schema.fingerprint), partition=0, on_delivery=delivered)
        if producer.flush(settings.kafka.timeout_seconds):
            producer.purge()
            refused.append("Kafka does not acknowledge them")
    return refused[0] if refused else ""
