"""The ways to send a prediction from a live service with which the hook is compared, one context manager each.

All publish the same 25 features and answer, with the same Kafka settings if they have them. Those that write Avro
write the hook's own record.
"""

import contextlib
import functools
import io
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

TOPIC = "bench-hook"
NUMERIC, TEXTS = 20, 5
FIELDS: dict[str, str] = {f"n{i}": "double" for i in range(NUMERIC)} | {f"c{i}": "string" for i in range(TEXTS)}
Publish = Callable[[str, dict[str, Any], float], None]
PRODUCER = {"linger.ms": 20, "compression.type": "lz4", "enable.idempotence": True, "log_level": 0}


def row(number: int) -> dict[str, Any]:
    """Return the features of a request."""
    features: dict[str, Any] = {f"n{i}": (number * 31 + i * 17) % 1000 / 7.0 for i in range(NUMERIC)}
    features.update({f"c{i}": f"value-{(number + i) % 50}" for i in range(TEXTS)})
    return features


WEIGHTS = {f"n{i}": (i - 10) / 1000 for i in range(NUMERIC)}


def predict(features: dict[str, Any]) -> float:
    """Run the live model: about 40 microseconds of Python, as in a small service."""
    total = 0.0
    for _ in range(8):
        for name, weight in WEIGHTS.items():
            total += weight * math.log1p(features[name])
    return 1 / (1 + math.exp(-total))


def envelope(number: int, request_id: str, features: dict[str, Any], value: float) -> dict[str, Any]:
    """Return the whole record, for contenders that take a dict."""
    return {
        "producer_id": "5b1f5c9c-6b0e-4b0f-8a53-5c0a9a1b2c3d",
        "sequence": number,
        "captured_at": time.time_ns() // 1000,
        "request_id": request_id,
        "capture_probability": 1.0,
        "stratum": None,
        "segments": {},
        "cluster": None,
        "model": {"name": "m", "version": "1"},
        "features": features,
        "prediction": {"value": value, "label": None, "scores": None, "items": None},
        "error": None,
        "latency_us": 40,
        "feature_state": None,
    }


def live_schema() -> dict[str, Any]:
    from gnomon_schemas.features import FeatureSchema
    from gnomon_schemas.schema import without_logical_types

    plain: dict[str, Any] = without_logical_types(FeatureSchema.of(FIELDS).live.json)
    return plain


@contextlib.contextmanager
def nothing(_bootstrap: str) -> Iterator[Publish]:
    yield lambda request_id, features, value: None


@contextlib.contextmanager
def gnomon(bootstrap: str) -> Iterator[Publish]:
    from gnomon_producer import Tap

    tap = Tap(stream="bench", model=("m", "1"), features=FIELDS, bootstrap_servers=bootstrap, handle_sigterm=False)

    def publish(request_id: str, features: dict[str, Any], value: float) -> None:
        with tap.capture(request_id, features) as shot:
            shot.predicted(value)

    yield publish
    tap.close(10)
    dropped = tap.stats().dropped
    if dropped:
        raise Lost(sum(dropped.values()))


class Lost(Exception):  # noqa: N818 - an outcome, not an error
    """So many calls lost their arguments."""


@contextlib.contextmanager
def fastavro_inline(bootstrap: str) -> Iterator[Publish]:
    import fastavro
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": bootstrap, **PRODUCER})
    schema = fastavro.parse_schema(live_schema())
    failed: list[Any] = []

    def delivered(error: Any, _message: Any) -> None:
        if error:
            failed.append(error)

    def publish(request_id: str, features: dict[str, Any], value: float) -> None:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, schema, envelope(0, request_id, features, value))
        producer.produce(TOPIC, out.getvalue(), request_id, on_delivery=delivered)
        producer.poll(0)

    yield publish
    producer.flush(10)


@contextlib.contextmanager
def avro_serializer(bootstrap: str) -> Iterator[Publish]:
    from confluent_kafka import Producer
    from confluent_kafka.schema_registry import SchemaRegistryClient
    from confluent_kafka.schema_registry.avro import AvroSerializer
    from confluent_kafka.serialization import MessageField, SerializationContext

    producer = Producer({"bootstrap.servers": bootstrap, **PRODUCER})
    serialize = AvroSerializer(SchemaRegistryClient.new_client({"url": "mock://"}), json.dumps(live_schema()))
    context = SerializationContext(TOPIC, MessageField.VALUE)

    def publish(request_id: str, features: dict[str, Any], value: float) -> None:
        producer.produce(TOPIC, serialize(envelope(0, request_id, features, value), context), request_id)
        producer.poll(0)

    yield publish
    producer.flush(10)


@contextlib.contextmanager
def quix(bootstrap: str, *, avro: bool = False) -> Iterator[Publish]:
    from quixstreams import Application
    from quixstreams.models.serializers.avro import AvroSerializer

    from benchmarks.peers.quix import topics

    extra = {name: value for name, value in PRODUCER.items() if name != "log_level"}
    app = Application(
        broker_address=bootstrap,
        topic_manager=topics(bootstrap, TOPIC),
        producer_extra_config=extra,
        loglevel="ERROR",
    )
    topic = app.topic(TOPIC, value_serializer=AvroSerializer(live_schema()) if avro else "json")
    with app.get_producer() as producer:

        def publish(request_id: str, features: dict[str, Any], value: float) -> None:
            message = topic.serialize(key=request_id, value=envelope(0, request_id, features, value))
            producer.produce(topic.name, message.value, message.key)

        yield publish


@contextlib.contextmanager
def kafka_python(bootstrap: str) -> Iterator[Publish]:
    import fastavro
    from kafka import KafkaProducer

    from benchmarks.peers.kafka_python import versions

    producer = KafkaProducer(bootstrap_servers=bootstrap, **versions(bootstrap), linger_ms=20, compression_type="lz4")
    schema = fastavro.parse_schema(live_schema())

    def publish(request_id: str, features: dict[str, Any], value: float) -> None:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, schema, envelope(0, request_id, features, value))
        producer.send(TOPIC, key=request_id.encode(), value=out.getvalue())

    yield publish
    producer.flush(10)
    producer.close(5)


@contextlib.contextmanager
def opentelemetry(_bootstrap: str) -> Iterator[Publish]:
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Encoded(SpanExporter):
        """Does everything but the sending."""

        def export(self, spans: Any) -> SpanExportResult:
            encode_spans(spans).SerializeToString()
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Encoded()))
    tracer = provider.get_tracer("bench")

    def publish(request_id: str, features: dict[str, Any], value: float) -> None:
        with tracer.start_as_current_span("predict", attributes=features) as span:
            span.set_attribute("request_id", request_id)
            span.set_attribute("value", value)

    yield publish
    provider.shutdown()


@contextlib.contextmanager
def sentry(_bootstrap: str) -> Iterator[Publish]:
    import sentry_sdk
    from sentry_sdk.transport import Transport

    class Encoded(Transport):
        """Does everything but the sending."""

        def capture_envelope(self, envelope: Any) -> None:
            envelope.serialize()

    sentry_sdk.init("http://key@localhost:1/1", transport=Encoded, default_integrations=False)

    def publish(request_id: str, features: dict[str, Any], value: float) -> None:
        sentry_sdk.capture_event(
            {"message": "prediction", "contexts": {"features": features}, "extra": {"id": request_id, "value": value}}
        )

    yield publish
    sentry_sdk.flush(2)


@contextlib.contextmanager
def laboratory(_bootstrap: str) -> Iterator[Publish]:
    import laboratory

    class Published(laboratory.Experiment):
        """A Scientist experiment whose result is converted to JSON; the candidate is the live model again."""

        def publish(self, result: Any) -> None:
            json.dumps({"match": result.match, "value": result.control.value, **self.get_context()})

    def publish(request_id: str, features: dict[str, Any], value: float) -> None:
        experiment = Published("bench", context={"request_id": request_id, "features": features})
        experiment.control(lambda: value)
        experiment.candidate(lambda: predict(features))
        experiment.conduct()

    yield publish


COLLECTOR = """
import http.server
class Taking(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Taking)
print(server.server_port, flush=True)
server.serve_forever()
"""


@contextlib.contextmanager
def evidently(_bootstrap: str) -> Iterator[Publish]:
    """Use its collector's client; a server of the standard library replaces the collector."""
    import pandas as pd
    from evidently.legacy.collector.client import CollectorClient

    with subprocess.Popen([sys.executable, "-c", COLLECTOR], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        client = CollectorClient(f"http://127.0.0.1:{server.stdout.readline().strip()}")

        def publish(request_id: str, features: dict[str, Any], value: float) -> None:
            client.send_data("bench", pd.DataFrame([{**features, "request_id": request_id, "value": value}]))

        yield publish
        server.terminate()


CONTENDERS: dict[str, Callable[[str], contextlib.AbstractContextManager[Publish]]] = {
    "none": nothing,
    "gnomon": gnomon,
    "fastavro inline": fastavro_inline,
    "AvroSerializer": avro_serializer,
    "Quix Streams, Avro": functools.partial(quix, avro=True),
    "Quix Streams, JSON": quix,
    "kafka-python": kafka_python,
    "OpenTelemetry": opentelemetry,
    "Sentry": sentry,
    "laboratory": laboratory,
    "Evidently": evidently,
}
