"""The schemas of what a scorer writes, in the stream's topic of schemas: joiners of an earlier version find them there.

Each version of Gnomon brings its own records and those before it; a later one's it can only learn.
"""

from confluent_kafka import KafkaError, KafkaException, Message

from gnomon_consumer.kafka import clients
from gnomon_consumer.runtime.logging import get_logger
from gnomon_consumer.settings import Settings
from gnomon_schemas.errors import DependencyUnreachableError
from gnomon_schemas.schema import record_schema
from gnomon_schemas.store import TopicSchemas

WRITTEN = ("DeploymentStart", "ShadowPrediction", "SamplingWindow")
log = get_logger("score")


def publish(settings: Settings, topic: str) -> None:
    """Publish those that are not there yet. A broker that refuses is no reason not to score: it is logged."""
    try:
        refused = _publish(settings, topic)
    except (DependencyUnreachableError, KafkaException) as error:
        refused = str(error)
    if refused:
        log.info("the schemas of the outcomes are not published: joiners of this version read them", reason=refused)


def _publish(settings: Settings, topic: str) -> str:
    """Return why a schema was not taken, '' where all are there."""
    if topic not in clients.list_topics(settings).topics:
        return f"the topic {topic} does not exist"  # a broker that makes topics by itself would give it other settings
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
            refused.append(error.str())

    if missing:
        producer = clients.make_producer(settings)
        for schema in missing:
            producer.produce(topic, schema.text, str(schema.fingerprint), partition=0, on_delivery=delivered)
        if producer.flush(settings.kafka.timeout_seconds):
            producer.purge()
            refused.append("Kafka does not acknowledge them")
    return refused[0] if refused else ""
