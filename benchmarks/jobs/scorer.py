"""Whole scoring jobs: captures from Kafka through a hundred trees to outcomes in Kafka, on one core."""

import contextlib
import os
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from benchmarks.harness import workload
from benchmarks.harness.brokers import MOCKS, broker
from benchmarks.harness.running import COMMAND, PEERS_PYTHON, Job, Measured, cores
from gnomon_schemas.codec import Reader, Record
from gnomon_schemas.features import FeatureSchema
from gnomon_schemas.store import packaged_schemas

GNOMON = "Gnomon, 1 worker"
PLAIN = "confluent-kafka, by message"
ALONE = "consume() alone"

# Name, module, batch.
PEERS = (
    ("Quix Streams", "score_quix", 1),
    (PLAIN, "score_confluent", 1),
    ("confluent-kafka, batches of 500", "score_confluent", 500),
    ("bytewax", "score_bytewax", 1),
    ("bytewax, batched", "score_bytewax", 1000),
    ("FastStream", "score_faststream", 1),
    ("FastStream, batches of 500", "score_faststream", 500),
    ("faust-streaming", "score_faust", 1),
    ("faust-streaming, take(256)", "score_faust", 256),
    ("aiokafka, getmany(500)", "score_aiokafka", 500),
    ("kafka-python, poll(500)", "score_kafka_python", 500),
)


@dataclass(frozen=True)
class Setting:
    """A broker with a filled live topic, and a folder with the peers' files."""

    bootstrap: str
    stream: str
    folder: Path
    rows: int
    seconds: float
    partitions: int = workload.PARTITIONS

    @property
    def live(self) -> str:
        """Return the topic that all contenders read."""
        return f"gnomon.{self.stream}.live"


@contextlib.contextmanager
def filled(rows: int, seconds: float) -> Iterator[Setting]:
    """Yield a full topic of captures on a separate Apache Kafka, which stays off the core of the jobs."""
    os.sched_setaffinity(0, cores()[1])
    with tempfile.TemporaryDirectory() as scratch, broker("kafka", Path(scratch)) as bootstrap:
        stream = fill(bootstrap, Path(scratch), rows, workload.features())
        yield Setting(bootstrap, stream, Path(scratch), rows, seconds)


def fill(
    bootstrap: str, folder: Path, rows: int, features: FeatureSchema, partitions: int = workload.PARTITIONS
) -> str:
    """Make a stream with captures and its schema; return its name."""
    stream = f"bench-{uuid.uuid4().hex[:8]}"
    workload.write(folder, features)
    workload.create(bootstrap, f"gnomon.{stream}.live", partitions=partitions)
    workload.create(bootstrap, f"gnomon.{stream}.dlq")
    workload.publish_schema(bootstrap, f"gnomon.{stream}.schemas", features)
    workload.fill(bootstrap, f"gnomon.{stream}.live", features, rows, partitions)
    return stream


def peer(setting: Setting, module: str, batch: int) -> Callable[[int], Measured]:
    """Return a run of a peer."""

    def run(_: int) -> Measured:
        name = f"bench-{uuid.uuid4().hex[:8]}"
        workload.create(setting.bootstrap, name, partitions=setting.partitions)
        command = [
            PEERS_PYTHON, "-m", f"benchmarks.peers.{module}", "--bootstrap", setting.bootstrap, "--source",
            setting.live, "--target", name, "--group", name, "--folder", setting.folder, "--batch", str(batch),
        ]  # fmt: skip
        watcher = Consumer({"bootstrap.servers": setting.bootstrap, "group.id": "bench-watch"})
        try:
            with Job(command, cores()[0]) as job:

                def written() -> int:
                    return workload.high_watermarks(watcher, name, setting.partitions)

                return job.watch(written, setting.rows, setting.seconds)
        finally:
            watcher.close()

    return run


def command(setting: Setting, *arguments: str) -> tuple[str, list[object]]:
    """Return the topic of a new deployment, and the command that scores for it."""
    name = f"d-{uuid.uuid4().hex[:8]}"
    started = [
        COMMAND, "score", "--bootstrap-servers", setting.bootstrap, "--stream", setting.stream,
        "--deployment", name, "--model", setting.folder / "trees.onnx", *arguments,
    ]  # fmt: skip
    return f"gnomon.{setting.stream}.shadow.{name}", started


def gnomon(
    setting: Setting, *arguments: str, environment: Mapping[str, str] | None = None
) -> Callable[[int], Measured]:
    """Return a run of `gnomon score`; a row is a capture that a committed window has counted."""

    def run(_: int) -> Measured:
        topic, started = command(setting, *arguments)
        workload.create(setting.bootstrap, topic, partitions=setting.partitions)
        # With one window for a whole short topic, no progress could be measured.
        short = {"GNOMON_SCORE__RESERVOIR_ROWS": str(min(200_000, setting.rows // 5))}
        with watching(setting, topic) as progress, Job(started, cores()[0], environment or short) as job:
            # A window is committed whole, so a short measurement would see no progress at all.
            return job.watch(progress.seen, setting.rows, 10 * setting.seconds, stall_s=40.0)

    return run


def watching(setting: Setting, topic: str) -> "Committed | Seals":
    """Return how many captures a scorer's committed windows have counted, at the lowest cost."""
    if setting.bootstrap in MOCKS:
        return Seals(setting.bootstrap, topic, partitions=setting.partitions)
    return Committed(setting, topic.rpartition(".")[2])


class Committed:
    """Reads the offsets that a scorer commits with its windows, without reading its records."""

    def __init__(self, setting: Setting, deployment: str) -> None:
        group = f"gnomon.{setting.stream}.score.{deployment}"
        self._consumer = Consumer(
            {"bootstrap.servers": setting.bootstrap, "group.id": group, "isolation.level": "read_uncommitted"}
        )
        self._places = [TopicPartition(setting.live, partition) for partition in range(setting.partitions)]
        self._seen = 0

    def __enter__(self) -> "Committed":
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def seen(self) -> int:
        """Return the captures counted so far."""
        with contextlib.suppress(KafkaException):  # the coordinator moves, or loads
            self._seen = sum(max(0, place.offset) for place in self._consumer.committed(self._places, timeout=5))
        return self._seen


class Seals:
    """Counts the captures of the windows in a shadow topic, by the last record of each; calls `each` with it."""

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        each: Callable[[Record], None] = lambda _: None,
        partitions: int = workload.PARTITIONS,
    ) -> None:
        self._each = each
        self._reader = Reader(packaged_schemas())
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "bench-watch",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "fetch.queue.backoff.ms": 5,
            }
        )
        self._consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
        self._seen = 0

    def __enter__(self) -> "Seals":
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def seen(self) -> int:
        """Read new records, and return the captures counted so far."""
        while messages := self._consumer.consume(10_000, timeout=0.0):
            for message in messages:
                error = message.error()
                if error is not None:
                    if error.code() != KafkaError._PARTITION_EOF and not error.retriable():
                        raise RuntimeError(str(error))
                elif message.key() is None:
                    read = self._reader.decode(message.value())
                    if read.name.endswith("SamplingWindow"):
                        self._seen += read.record["end_offset"] - read.record["start_offset"]
                        self._each(read.record)
        return self._seen


def drain(setting: Setting) -> Callable[[int], Measured]:
    """Return a run of `consume()` alone."""

    def run(_: int) -> Measured:
        name = f"bench-{uuid.uuid4().hex[:8]}"
        workload.create(setting.bootstrap, name)
        command = [
            PEERS_PYTHON, "-m", "benchmarks.peers.drain_confluent", "--bootstrap", setting.bootstrap,
            "--source", setting.live, "--target", name, "--group", name, "--folder", setting.folder,
        ]  # fmt: skip
        with Tally(setting.bootstrap, name) as tally, Job(command, cores()[0]) as job:
            return job.watch(tally.seen, setting.rows, setting.seconds)

    return run


class Tally:
    """The last number that a job reported in a topic."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "bench-watch"})
        self._consumer.assign([TopicPartition(topic, 0, 0)])
        self._seen = 0

    def __enter__(self) -> "Tally":
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def seen(self) -> int:
        """Return the number."""
        for message in self._consumer.consume(10_000, timeout=0.0):
            if message.error() is None:
                self._seen = int(message.value() or b"0")
        return self._seen


def scored(setting: Setting) -> dict[str, Callable[[int], Measured]]:
    """Compare ours and every peer's scoring."""
    return {
        GNOMON: gnomon(setting, "--no-sampling"),
        **{name: peer(setting, module, batch) for name, module, batch in PEERS},
    }


def sampled_out(setting: Setting) -> dict[str, Callable[[int], Measured]]:
    """Compare ours with almost nothing sampled, and reading alone."""
    # Short windows, each of which shows the scorer's progress.
    ours = gnomon(setting, "--budget", "100", "--window", "0.25")
    return {ALONE: drain(setting), "Gnomon, sampled out": ours}
