"""A real single-node Apache Kafka: one that is given, a container, or a native KRaft broker on `java`."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from confluent_kafka.admin import AdminClient

from tests.support.servers import docker
from tests.support.servers.kafka_node import START_TIMEOUT_S, KafkaNode, single_node
from tests.support.servers.ports import free_port
from tests.support.servers.shared import ServerUnavailableError

# Small internal topics and no waiting for further members: the broker serves one test run on one machine.
SETTINGS = {
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "group.initial.rebalance.delay.ms": "0",
    "group.coordinator.rebalance.protocols": "classic,consumer",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.min.session.timeout.ms": "1000",
    "num.partitions": "1",
    "auto.create.topics.enable": "false",
    "log.message.timestamp.after.max.ms": "9223372036854775807",
}


@contextlib.contextmanager
def running(folder: Path) -> Iterator[str]:
    """Yield the bootstrap servers of a broker that answers.

    Raises:
        ServerUnavailableError: none is given and neither Docker nor java and Maven can provide one.
    """
    given = os.environ.get("GNOMON_TEST_KAFKA")
    if given:
        wait_until_ready(given)
        yield given
    elif docker.engine_answers():
        with container() as bootstrap:
            yield bootstrap
    else:
        with native(folder) as bootstrap:
            yield bootstrap


@contextlib.contextmanager
def container() -> Iterator[str]:
    """Run the broker's image; the port is chosen beforehand because the broker has to advertise it."""
    from testcontainers.core.container import DockerContainer

    port = free_port()
    settings = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": "1@localhost:9093",
        "controller.listener.names": "CONTROLLER",
        "listeners": "PLAINTEXT://:9092,CONTROLLER://:9093",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        **SETTINGS,
    }
    broker = DockerContainer(docker.image("GNOMON_KAFKA_IMAGE")).with_bind_ports(9092, port)
    for name, value in settings.items():
        broker = broker.with_env("KAFKA_" + name.replace(".", "_").upper(), value)
    with broker:
        try:
            wait_until_ready(f"127.0.0.1:{port}")
        except ServerUnavailableError as error:
            said = b"".join(broker.get_logs()).decode(errors="replace").strip().splitlines()
            raise ServerUnavailableError(f"{error}; the container's last line: {said[-1:]}") from None
        yield f"127.0.0.1:{port}"


@contextlib.contextmanager
def native(folder: Path) -> Iterator[str]:
    """Run a node whose storage is under `folder`; nothing of it is kept, so it is killed at the end."""
    port = free_port()
    node = KafkaNode(folder, "kafka", single_node(port) | SETTINGS, megabytes=640)
    try:
        node.wait_until_started()
        wait_until_ready(f"127.0.0.1:{port}")
        yield f"127.0.0.1:{port}"
    finally:
        node.kill()


def wait_until_ready(bootstrap: str) -> None:
    """Return when the broker answers a metadata request.

    Raises:
        ServerUnavailableError: it does not within a minute.
    """
    client = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0, "reconnect.backoff.max.ms": 200})
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(
            Exception
        ):  # librdkafka raises one type for "not yet" and "never"; the deadline decides
            if client.list_topics(timeout=2).brokers:
                return
    raise ServerUnavailableError(f"no real Kafka: nothing answers at {bootstrap}")
