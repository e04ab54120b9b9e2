"""A real single-node Apache Kafka: one that is given, a container, or a native KRaft broker on `java`."""

import base64
import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import uuid
import xml.etree.ElementTree as ET
import zlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from confluent_kafka.admin import AdminClient

from gnomon_consumer.quickstart.leash import tie_to_parent
from tests.servers import docker
from tests.servers.shared import ROOT, ServerUnavailableError

POM = Path(__file__).with_name("pom.xml")
START_TIMEOUT_S = 60.0
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
        wait_until_ready(f"127.0.0.1:{port}")
        yield f"127.0.0.1:{port}"


@contextlib.contextmanager
def native(folder: Path) -> Iterator[str]:
    """Format a storage folder under `folder`, run the broker there, and take it down afterwards."""
    java = shutil.which("java")
    if java is None:
        raise ServerUnavailableError(
            "no real Kafka: GNOMON_TEST_KAFKA is not set, no Docker engine answers, no java here"
        )
    jars = broker_jars()
    port, controller_port = free_port(), free_port()
    bootstrap = f"127.0.0.1:{port}"
    settings = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://{bootstrap},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{bootstrap}",
        "log.dirs": str(folder / "kafka"),
        **SETTINGS,
    }
    properties = folder / "kafka.properties"
    properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    run = [java, "-Xmx640m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{jars}/*"]
    log_levels = [
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
    ]
    cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")
    format_storage = [
        *run,
        log_levels[0],
        "kafka.tools.StorageTool",
        "format",
        "-t",
        cluster_id,
        "-c",
        str(properties),
    ]
    formatted = subprocess.run(format_storage, capture_output=True, text=True, check=False)
    if formatted.returncode != 0:
        raise ServerUnavailableError(
            f"no real Kafka: formatting its storage failed:\n{formatted.stdout}{formatted.stderr}"
        )
    keeper = os.getpid()
    broker = subprocess.Popen(
        [*run, *log_levels, "kafka.Kafka", str(properties)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: tie_to_parent(keeper, signal.SIGKILL),
    )
    assert broker.stderr is not None
    try:
        last_lines: deque[str] = deque(maxlen=20)
        for line in broker.stderr:
            last_lines.append(line)
            if "Kafka Server started" in line:
                break
        else:
            raise ServerUnavailableError("no real Kafka: the broker did not start:\n" + "".join(last_lines))
        # The pipe must be emptied as long as the broker lives, or the broker would block on it.
        threading.Thread(target=copy_log, args=(broker, folder / "kafka-broker.log"), daemon=True).start()
        wait_until_ready(bootstrap)
        yield bootstrap
    finally:
        broker.kill()  # nothing of it is kept, so it need not shut down in order
        broker.wait()


def copy_log(broker: "subprocess.Popen[str]", file: Path) -> None:
    """Move what the broker still says to a file."""
    assert broker.stderr is not None
    with file.open("w") as log:
        for line in broker.stderr:
            log.write(line)
            log.flush()


def broker_jars() -> Path:
    """Folder of the broker's jars, resolved by Maven once and kept in `.cache/` of the checkout."""
    version = next(
        element.text
        for element in ET.parse(POM).iter()
        if element.tag.endswith("}dependency")
        for element in element
        if element.tag.endswith("}version")
    )
    jars = ROOT / ".cache" / f"kafka-{version}-{zlib.crc32(POM.read_bytes()):08x}"
    jars.parent.mkdir(exist_ok=True)
    with (jars.parent / "kafka.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not jars.exists():
            maven = shutil.which("mvn")
            if maven is None:
                raise ServerUnavailableError(
                    "no real Kafka: its jars are not in .cache/ and Maven (mvn) is not installed"
                )
            partial = jars.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            resolve = [
                maven,
                "-q",
                "-B",
                "-f",
                str(POM),
                "dependency:copy-dependencies",
                f"-DoutputDirectory={partial}",
            ]
            resolved = subprocess.run(resolve, capture_output=True, text=True, check=False)
            if resolved.returncode != 0:
                raise ServerUnavailableError(
                    f"no real Kafka: Maven cannot resolve its jars:\n{resolved.stdout[-2000:]}"
                )
            partial.rename(jars)
    return jars


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


def free_port() -> int:
    """Return a loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
