"""Other tools read the hook's messages from a real broker: kcat and the Java console consumer."""

import json
import subprocess

import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from tests.support.servers.kafka_node import broker_jars
from tests.support.servers.shared import ServerUnavailableError
from tests.support.servers.tools import missing, tool
from tests.support.tap import FEATURES, GOOD, captures, make_tap

from gnomon_schemas.codec import Reader
from gnomon_schemas.features import FeatureSchema
from gnomon_schemas.store import MemorySchemas
from gnomon_schemas.topics import Topics

CAPTURES = 50
END = b"<end of the record>"


@pytest.fixture
def written(kafka_bootstrap: str, stream_name: str) -> Topics:
    """A stream with captures on a real broker."""
    topics = Topics(stream_name)
    admin = AdminClient({"bootstrap.servers": kafka_bootstrap})
    names = (topics.live, topics.schemas, topics.producers)
    for future in admin.create_topics([NewTopic(name, 1, 1) for name in names]).values():
        future.result(20)
    tap = make_tap(kafka_bootstrap, stream_name, strata=("country",))
    for number in range(CAPTURES):
        tap.record(f"r{number}", GOOD | {"visits": number}, value=0.5)
    assert tap.close(60)
    assert tap.stats().delivered == CAPTURES
    assert len(captures(kafka_bootstrap, stream_name)) == CAPTURES
    return topics


def visits(message: bytes) -> int:
    """Return a feature of a message that a tool printed."""
    record = Reader(MemorySchemas([FeatureSchema.of(FEATURES).live])).decode(message).record
    return int(record["features"]["visits"])


def test_kcat_reads_captures_and_schemas(kafka_bootstrap: str, written: Topics) -> None:
    kcat = tool("kcat", "kafkacat", package="kcat")

    def read(topic: str) -> list[bytes]:
        command = [kcat, "-C", "-q", "-e", "-b", kafka_bootstrap, "-t", topic, "-f", f"%k|%h|%s{END.decode()}"]
        done = subprocess.run(command, capture_output=True, timeout=60, check=True)
        return done.stdout.split(END)[:-1]

    found = [record.split(b"|", 2) for record in read(written.live)]
    assert [key for key, _, _ in found] == [f"r{number}".encode() for number in range(CAPTURES)]
    assert {headers for _, headers, _ in found} == {b"stratum=CH"}
    assert [visits(value) for _, _, value in found] == list(range(CAPTURES))
    (schema,) = read(written.schemas)
    fingerprint, _, text = schema.split(b"|", 2)
    assert json.loads(text)["name"] == "LivePrediction"
    assert fingerprint.decode() == str(FeatureSchema.of(FEATURES).live.fingerprint)


def test_the_java_console_consumer_reads_captures(kafka_bootstrap: str, written: Topics) -> None:
    java = tool("java", package="default-jre-headless")
    try:
        jars = broker_jars()
    except ServerUnavailableError as reason:
        missing(f"no console consumer: {reason}")
    command = [
        *(java, "-cp", f"{jars}/*", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"),
        "org.apache.kafka.tools.consumer.ConsoleConsumer",
        *("--bootstrap-server", kafka_bootstrap, "--topic", written.live, "--from-beginning"),
        *("--max-messages", str(CAPTURES), "--timeout-ms", "30000"),
        *("--property", "print.key=true", "--property", "print.headers=true"),
        *("--property", "key.separator=|", "--property", f"line.separator={END.decode()}"),
    ]
    done = subprocess.run(command, capture_output=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr.decode()
    found = [record.split(b"|", 2) for record in done.stdout.split(END)[:-1]]
    assert [(headers, key) for headers, key, _ in found] == [(b"stratum:CH", f"r{n}".encode()) for n in range(CAPTURES)]
    # Without a deserializer it prints the bytes unchanged.
    assert [visits(value) for _, _, value in found] == list(range(CAPTURES))
