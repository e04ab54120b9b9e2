"""Properties that Gnomon owns are refused with the reason; what librdkafka says becomes a line with the way out."""

import pytest
from confluent_kafka import KafkaError, KafkaException

from gnomon_consumer.kafka.errors import explain, no_broker, refusal
from gnomon_consumer.settings import OWNED_PROPERTIES, load_settings
from gnomon_schemas.errors import ConfigurationError, DependencyUnreachableError


@pytest.mark.parametrize("name", OWNED_PROPERTIES)
def test_a_property_that_gnomon_sets_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load_settings({"kafka": {"properties": {name: "x"}}})
    assert f"{name} is set by Gnomon: {OWNED_PROPERTIES[name]}" in str(raised.value)


@pytest.mark.parametrize("strategy", ["roundrobin", "range,roundrobin", "", "sticky"])
def test_a_strategy_that_would_end_the_process_is_refused(strategy: str) -> None:
    with pytest.raises(ConfigurationError, match="range or cooperative-sticky"):
        load_settings({"kafka": {"properties": {"partition.assignment.strategy": strategy}}})


def test_other_properties_pass_through() -> None:
    given = {"linger.ms": "7", "sasl.password": "p", "group.protocol": "consumer", "client.rack": "a"}
    assert load_settings({"kafka": {"properties": given}}).kafka.properties == given


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (KafkaError._AUTHENTICATION, "refuses the login"),
        (KafkaError._SSL, "by this protocol"),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, "Describe and Read to consume"),
        (KafkaError.GROUP_AUTHORIZATION_FAILED, "Read on the consumer group"),
        (KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, "transactional id"),
        (KafkaError.CLUSTER_AUTHORIZATION_FAILED, "a right to the cluster"),
    ],
)
def test_a_refusal_says_what_to_change(code: int, words: str) -> None:
    found = explain(KafkaException(KafkaError(code, "said\nby librdkafka")))
    assert isinstance(found, ConfigurationError)
    assert words in str(found)
    assert "said by librdkafka" in str(found)


def test_what_was_heard_meanwhile_is_the_reason() -> None:
    down = KafkaError(KafkaError._ALL_BROKERS_DOWN, "2/2 brokers are down")
    asked = KafkaError(KafkaError._TRANSPORT, "failed")
    connect = KafkaError(KafkaError._TRANSPORT, "Connect to h failed: Connection refused")
    login = KafkaError(KafkaError._AUTHENTICATION, "invalid credentials")
    assert "Connection refused" in str(no_broker("h:1", asked, [connect, down]))
    assert "check security.protocol" in str(no_broker("h:1", asked, [down]))
    assert isinstance(no_broker("h:1", asked, [login, down]), ConfigurationError)
    assert isinstance(no_broker("h:1", asked, []), DependencyUnreachableError)


def test_what_passes_is_waited_for() -> None:
    assert refusal(KafkaError(KafkaError._TRANSPORT, "Connection refused")) is None
    assert isinstance(explain(KafkaException(KafkaError(KafkaError._TIMED_OUT))), DependencyUnreachableError)
    assert explain(ValueError("no Kafka error")) is None
