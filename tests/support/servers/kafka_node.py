"""A native Kafka node: broker and controller in one process on `java`, with its own folder."""

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from gnomon_consumer.runtime.parent_death import tie_to_parent
from tests.support.servers.ports import free_port
from tests.support.servers.shared import ROOT, ServerUnavailableError

POM = Path(__file__).with_name("pom.xml")
START_TIMEOUT_S = 180.0
CLUSTER_ID = "AAAAAAAAAAAAAAAAAAAAAA"
_LOG_LEVELS = (
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
)


class KafkaNode:
    """A node with settings, which can be killed and restarted; its log is `NAME.log` in its folder.

    `format_options` are for the tool that formats the storage, such as users that exist from the start.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        settings: Mapping[str, str],
        *,
        format_options: Sequence[str] = (),
        megabytes: int = 400,
    ) -> None:
        """Format the storage and start.

        Raises:
            ServerUnavailableError: java or Maven is missing, or the storage is refused.
        """
        java = shutil.which("java")
        if java is None:
            raise ServerUnavailableError("no real Kafka: no java here")
        self._log = folder / f"{name}.log"
        properties = folder / f"{name}.properties"
        properties.write_text(
            "".join(f"{key}={value}\n" for key, value in {"log.dirs": str(folder / name), **settings}.items())
        )
        jars = broker_jars()
        run = _program(java, jars, f"-Xmx{megabytes}m", *_archived_classes(java, jars))
        self._storage = folder / name
        self._format = [*run, "kafka.tools.StorageTool", "format", "-c", str(properties), *format_options, "-t"]
        self._command = [*run, "kafka.Kafka", str(properties)]
        self.empty(CLUSTER_ID)

    def empty(self, cluster_id: str) -> None:
        """Start as a new cluster without topics, on the same address."""
        shutil.rmtree(self._storage, ignore_errors=True)
        formatted = subprocess.run([*self._format, cluster_id], capture_output=True, text=True, check=False)
        if formatted.returncode != 0:
            raise ServerUnavailableError(
                f"no real Kafka: formatting its storage failed:\n{formatted.stdout}{formatted.stderr}"
            )
        self.start()

    def start(self) -> None:
        """Start, or start again."""
        parent = os.getpid()
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                preexec_fn=lambda: tie_to_parent(parent, signal.SIGKILL),
            )

    def wait_until_started(self) -> None:
        """Return when the node reports that it has started.

        Raises:
            ServerUnavailableError: it ended, or does not report it in time.
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        while "Kafka Server started" not in (said := self._log.read_text(errors="replace")):
            if self.process.poll() is not None or time.monotonic() > deadline:
                last = "\n".join(said.splitlines()[-20:])
                raise ServerUnavailableError(f"no real Kafka: the broker did not start:\n{last}")
            time.sleep(0.05)

    def kill(self) -> None:
        """`kill -9`."""
        self.process.kill()
        self.process.wait()


def single_node(port: int, advertised: int | None = None) -> dict[str, str]:
    """Return the settings of a cluster of one on loopback; clients get `advertised` if a proxy listens there."""
    controller = free_port()
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{advertised or port}",
    }


def _program(java: str, jars: Path, *options: str) -> list[str]:
    return [java, *options, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{jars}/*", *_LOG_LEVELS]


def _archived_classes(java: str, jars: Path) -> list[str]:
    """Return the option with which a node starts from classes that an earlier node has loaded.

    It spares half of the CPU time of a start; a run starts some thirty nodes. The archive is made once in `.cache/` by
    a node that ends without an error; it is empty if none could be made.
    """
    program = Path(java).resolve()
    archive = jars.with_name(f"{jars.name}-{zlib.crc32(f'{program}{program.stat().st_mtime_ns}'.encode()):08x}.jsa")
    with (jars.parent / "classes.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not archive.exists():
            with tempfile.TemporaryDirectory(dir=jars.parent) as folder:
                made = Path(folder, "classes.jsa")
                _archive_classes(_program(java, jars, f"-XX:ArchiveClassesAtExit={made}"), Path(folder))
                made.touch()
                made.rename(archive)
    return [f"-XX:SharedArchiveFile={archive}"] if archive.stat().st_size else []


def _archive_classes(program: list[str], folder: Path) -> None:
    properties, said = folder / "properties", folder / "said"
    settings = {"log.dirs": str(folder / "logs"), **single_node(free_port())}
    properties.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
    tool = [*program, "kafka.tools.StorageTool", "format", "-c", str(properties), "-t", CLUSTER_ID]
    if subprocess.run(tool, capture_output=True, check=False).returncode != 0:
        return
    parent = os.getpid()
    with (
        said.open("w") as log,
        subprocess.Popen(
            [*program, "kafka.Kafka", str(properties)],
            stdout=log,
            stderr=log,
            preexec_fn=lambda: tie_to_parent(parent, signal.SIGKILL),
        ) as node,
    ):
        deadline = time.monotonic() + START_TIMEOUT_S
        while "Kafka Server started" not in said.read_text(errors="replace") and node.poll() is None:
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        node.terminate()
        try:
            node.wait(60)
        except subprocess.TimeoutExpired:
            node.kill()


def broker_jars() -> Path:
    """Return the folder of the broker's jars, resolved by Maven once and stored in `.cache/` of the checkout.

    GNOMON_KAFKA_VERSION names another version than the one in `pom.xml`.
    """
    version = os.environ.get("GNOMON_KAFKA_VERSION") or next(
        element.text for element in ET.parse(POM).iter() if element.tag.endswith("}kafka.version")
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
                f"-Dkafka.version={version}",
                f"-DoutputDirectory={partial}",
            ]
            resolved = subprocess.run(resolve, capture_output=True, text=True, check=False)
            if resolved.returncode != 0:
                raise ServerUnavailableError(
                    f"no real Kafka: Maven cannot resolve its jars:\n{resolved.stdout[-2000:]}"
                )
            partial.rename(jars)
    return jars
