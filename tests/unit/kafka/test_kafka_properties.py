"""Properties that Gnomon sets itself are refused with the reason; librdkafka's errors become one line."""

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
        (KafkaError._SSL, "with this protocol"),
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


@pytest.mark.parametrize(
    "servers",
    ["h:99999", "h:0", "h:", "h:kafka", "http://h:9092", "kafka://h:9092", "::1:9092", "h/path:9092", "a:9092,b:70000"],
)
def test_a_broker_that_librdkafka_would_look_for_elsewhere_is_refused(servers: str) -> None:
    with pytest.raises(ConfigurationError, match=r"bootstrap_servers\): .*(host:port|port is not)"):
        load_settings({"bootstrap_servers": servers})


@pytest.mark.parametrize(
    "servers", ["h", "h:9092", "[::1]:9092", "[::1]", " a:1 , b:2 ", "SASL_SSL://h:9092", "a:1,b:2,", "127.0.0.1:65535"]
)
def test_every_form_of_a_broker_is_taken_as_it_is(servers: str) -> None:
    assert load_settings({"bootstrap_servers": servers}).bootstrap_servers == servers


def test_a_mechanism_that_waits_for_tokens_of_a_program_is_refused() -> None:
    given = {"sasl.mechanism": "OAUTHBEARER", "sasl.oauthbearer.client.secret": "oauth-Secret-7"}
    with pytest.raises(ConfigurationError, match=r"sasl\.oauthbearer\.method=oidc") as raised:
        load_settings({"kafka": {"properties": given}})
    assert "oauth-Secret-7" not in str(raised.value)
    for more in ({"sasl.oauthbearer.method": "OIDC"}, {"enable.sasl.oauthbearer.unsecure.jwt": "true"}):
        assert load_settings({"kafka": {"properties": given | more}}).kafka.properties == given | more


@pytest.mark.parametrize(
    ("said", "away"),
    [
        (
            "Failed to acquire SASL OAUTHBEARER token: Failed to connect to 127.0.0.1:1: Could not connect to server",
            True,
        ),
        ("Failed to acquire SASL OAUTHBEARER token: Could not resolve host: idp.example", True),
        ("Failed to acquire SASL OAUTHBEARER token: HTTP 503", True),
        ("Failed to acquire SASL OAUTHBEARER token: HTTP 401: invalid_client", False),
        ("SASL authentication error: invalid credentials", False),
    ],
)
def test_a_server_of_tokens_that_is_away_is_waited_for(said: str, away: bool) -> None:
    error = KafkaError(KafkaError._AUTHENTICATION, said)
    assert (refusal(error) is None) == away
    found = no_broker("h:1", KafkaError(KafkaError._TRANSPORT, "failed"), [error])
    assert isinstance(found, DependencyUnreachableError if away else ConfigurationError)
    assert said in str(found)


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ("inside.example:9092/1: Failed to resolve 'inside.example:9092': Name or service not known", True),
        ("sasl_ssl://10.0.0.1:9092/3: Connect to ipv4#10.0.0.1:9092 failed: Connection refused", True),
        ("h:1/1: Connect to ipv4#127.0.0.1:1 failed: Connection refused", False),
        ("h:1/bootstrap: Failed to resolve 'h:1': Name or service not known", False),
    ],
)
def test_an_address_that_the_cluster_gave_and_nobody_reaches_is_named(said: str, named: bool) -> None:
    found = no_broker("h:1", KafkaError(KafkaError._TIMED_OUT), [KafkaError(KafkaError._RESOLVE, said)])
    assert isinstance(found, DependencyUnreachableError)
    assert ("advertised.listeners" in str(found)) == named
    assert said in str(found)
