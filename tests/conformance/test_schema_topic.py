"""The `schemas` topic gives the same answers on the mock and on real Kafka."""

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from gnomon_schemas.errors import DependencyUnreachableError
from gnomon_schemas.features import FeatureSchema
from gnomon_schemas.framing import Fingerprint, RegistryId
from gnomon_schemas.schema import Schema
from gnomon_schemas.store import TopicSchemas
from gnomon_schemas.topics import Topics

FIRST = FeatureSchema.of({"amount": "double"}).live
SECOND = FeatureSchema.of({"amount": "double", "country": ["null", "string"]}).live


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def make_topic(broker: str, topic: str) -> None:
    """Create the topic if the broker has an admin API; the mock creates it on first use."""
    admin = AdminClient({"bootstrap.servers": broker})
    if not str(admin.list_topics(timeout=20).cluster_id).startswith("mockCluster"):
        try:
            admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(20)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise


def publish(broker: str, topic: str, *pairs: tuple[str, bytes | None]) -> None:
    make_topic(broker, topic)
    producer = Producer({"bootstrap.servers": broker})
    for key, value in pairs:
        producer.produce(topic, key=key, value=value, partition=0)
    assert producer.flush(60) == 0


def published(schema: Schema) -> tuple[str, bytes]:
    return str(schema.fingerprint), schema.text.encode()


def test_an_unknown_schema_is_looked_for_once_and_found_after_it_was_published(broker: str, stream_name: str) -> None:
    topic, clock = Topics(stream_name).schemas, Clock()
    publish(broker, topic, published(FIRST))
    store = TopicSchemas({"bootstrap.servers": broker}, topic, retry_after_s=5, timeout_s=20, clock=clock)
    assert store.find(FIRST.fingerprint) == FIRST
    assert store.find(SECOND.fingerprint) is None
    publish(broker, topic, published(SECOND), published(FIRST))
    assert store.find(SECOND.fingerprint) is None, "asked again within five seconds"
    clock.now = 6
    assert store.find(SECOND.fingerprint) == SECOND
    assert store.live_schemas() == [FIRST, SECOND]
    assert store.find(RegistryId(1)) is None
    store.close()


def test_what_is_no_schema_or_not_its_own_is_left_out(broker: str, stream_name: str) -> None:
    topic = Topics(stream_name).schemas
    bad = [("00" * 8, FIRST.text.encode()), ("x", b"no json"), (str(FIRST.fingerprint), None), published(SECOND)]
    publish(broker, topic, *bad)
    store = TopicSchemas({"bootstrap.servers": broker}, topic, timeout_s=20)
    assert store.find(Fingerprint(bytes(8))) is None
    assert store.find(FIRST.fingerprint) is None
    assert store.find(SECOND.fingerprint) == SECOND
    assert store.rejected == 2
    store.close()


def test_an_empty_or_missing_topic_knows_nothing(broker: str, stream_name: str) -> None:
    store = TopicSchemas({"bootstrap.servers": broker}, Topics(stream_name).schemas, timeout_s=20)
    assert store.find(FIRST.fingerprint) is None
    store.close()


def test_a_broker_that_does_not_answer_is_named() -> None:
    store = TopicSchemas({"bootstrap.servers": "127.0.0.1:1", "log_level": 0}, "gnomon.s.schemas", timeout_s=0.5)
    for _ in range(3):
        with pytest.raises(DependencyUnreachableError, match=r"gnomon\.s\.schemas"):
            store.find(FIRST.fingerprint)
        assert store.failing
    store.close()


def test_a_schema_published_after_the_last_read_is_found_at_once(broker: str, stream_name: str) -> None:
    topic, clock = Topics(stream_name).schemas, Clock()
    publish(broker, topic, published(FIRST))
    store = TopicSchemas({"bootstrap.servers": broker}, topic, timeout_s=20, clock=clock)
    assert store.find(FIRST.fingerprint) == FIRST
    publish(broker, topic, published(SECOND))
    assert store.find(SECOND.fingerprint) == SECOND, "no read that began after it was asked for says that it is unknown"
    store.close()
