"""Confluent framing, in both directions with confluent-kafka's own serializers."""

import threading
from datetime import UTC, datetime
from typing import Any

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from tests.support.tap import FEATURES, GOOD, captures, make_tap, raw_messages

from gnomon_producer import registration
from gnomon_schemas.codec import Reader
from gnomon_schemas.errors import ConfigurationError, DecodeError, DependencyUnreachableError
from gnomon_schemas.features import FeatureSchema
from gnomon_schemas.framing import RegistryId
from gnomon_schemas.records import as_dict
from gnomon_schemas.registry import RegistrySchemas, register, registry_client


@pytest.fixture
def registry() -> Any:
    return SchemaRegistryClient.new_client({"url": "mock://"})


def test_their_deserializer_reads_what_the_hook_wrote(mock_bootstrap: str, stream_name: str, registry: Any) -> None:
    tap = make_tap(mock_bootstrap, stream_name, registry=registry)
    assert tap.start(60)
    tap.record("r1", GOOD, value=0.5, captured_at=1_357_041_600_000_001)
    assert tap.close()
    topic = f"gnomon.{stream_name}.live"
    (message,) = raw_messages(mock_bootstrap, topic)
    assert message.value[:1] == b"\x00"
    decoded = AvroDeserializer(registry)(message.value, SerializationContext(topic, MessageField.VALUE))
    assert isinstance(decoded, dict)
    assert decoded["features"] == GOOD
    assert decoded["prediction"]["value"] == 0.5
    assert decoded["captured_at"] == datetime(2013, 1, 1, 12, 0, 0, 1, tzinfo=UTC)
    assert registry.get_subjects() == [f"{topic}-value"]
    assert Reader(RegistrySchemas(registry)).decode(message.value).record["features"] == GOOD


def test_we_read_what_their_serializer_wrote(registry: Any) -> None:
    schema = FeatureSchema.of(FEATURES).live
    example: dict[str, Any] = {
        "producer_id": "p",
        "sequence": 7,
        "captured_at": datetime(2013, 1, 1, 12, 0, 0, 1, tzinfo=UTC),
        "request_id": "r1",
        "capture_probability": 1.0,
        "stratum": "a",
        "segments": {"x": "y"},
        "cluster": None,
        "model": {"name": "m", "version": "1"},
        "features": GOOD,
        "prediction": {"value": 0.5, "label": None, "scores": [0.5], "items": None},
        "error": None,
        "latency_us": 12,
        "feature_state": None,
    }
    serializer = AvroSerializer(registry, schema.text)
    message = serializer(example, SerializationContext("gnomon.s.live", MessageField.VALUE))
    name, _, record = Reader(RegistrySchemas(registry)).decode(message)
    assert name == "gnomon.v1.LivePrediction"
    assert record == example | {"captured_at": 1_357_041_600_000_001}


def test_labels_of_others_by_their_serializer(registry: Any) -> None:
    from gnomon_schemas.records import Label
    from gnomon_schemas.schema import record_schema

    serializer = AvroSerializer(registry, record_schema("Label").text)
    label = as_dict(Label("r1", 1, 2, "elsewhere", value=1.0))
    message = serializer(label, SerializationContext("gnomon.s.labels", MessageField.VALUE))
    assert Reader(RegistrySchemas(registry)).decode(message).record == label


class Flaky:
    """A registry that is unreachable until the test switches it on."""

    def __init__(self, registry: Any) -> None:
        self._registry = registry
        self.back = threading.Event()
        self.refused = threading.Event()

    def register_schema(self, *arguments: Any) -> int:
        if not self.back.is_set():
            self.refused.set()
            raise OSError("connection refused")
        return int(self._registry.register_schema(*arguments))


def test_without_an_answer_captures_are_framed_by_fingerprint_and_nothing_is_lost(
    mock_bootstrap: str, stream_name: str, registry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registration, "RETRY_SECONDS", 0.05)
    flaky = Flaky(registry)
    tap = make_tap(mock_bootstrap, stream_name, registry=flaky)
    assert not tap.start()
    assert flaky.refused.wait(60)
    tap.record("before", GOOD, value=1.0)
    flaky.back.set()
    assert tap.start(60)
    tap.record("after", GOOD, value=1.0)
    assert tap.close()
    framing = {raw.key: raw.value[:1] for raw in raw_messages(mock_bootstrap, f"gnomon.{stream_name}.live")}
    assert framing == {b"before": b"\xc3", b"after": b"\x00"}
    assert tap.stats().delivered == 2


def test_properties_make_the_client_and_stay_out_of_librdkafka(mock_bootstrap: str, stream_name: str) -> None:
    tap = make_tap(mock_bootstrap, stream_name, properties={"schema.registry.url": "mock://", "linger.ms": 1})
    assert tap.start(60)
    tap.record("r", GOOD, value=1.0)
    assert tap.close()
    assert tap.stats().delivered == 1
    with pytest.raises(DecodeError, match="no schema with registry id"):
        captures(mock_bootstrap, stream_name)  # the registry is in the other client's memory


def test_a_registry_that_cannot_be_asked() -> None:
    with pytest.raises(ConfigurationError, match="schema registry"):
        registry_client({"schema.registry.nosuch": "x", "schema.registry.url": "http://127.0.0.1:1"})
    client = registry_client({"schema.registry.url": "http://127.0.0.1:1", "schema.registry.max.retries": 0})
    with pytest.raises(DependencyUnreachableError):
        register(client, "t", FeatureSchema.of(FEATURES).live)
    with pytest.raises(DependencyUnreachableError):
        RegistrySchemas(client).find(RegistryId(1))


def test_an_unknown_id_is_asked_for_once_in_a_while(registry: Any) -> None:
    now = [0.0]
    store = RegistrySchemas(registry, clock=lambda: now[0])
    assert store.find(RegistryId(1)) is None
    key = register(registry, "t", FeatureSchema.of(FEATURES).live)
    assert store.find(key) is None
    now[0] = 6.0
    found = store.find(key)
    assert found is not None
    assert found.fingerprint == FeatureSchema.of(FEATURES).live.fingerprint
