"""One storm: the shipped scorers and joiners under load, faults drawn from a seed, and the verification afterwards."""

import contextlib
import random
import signal
import subprocess
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from confluent_kafka.admin import AdminClient, NewPartitions

from tests.storms.cluster import Cluster
from tests.storms.verification import Verdict, verify
from tests.support.full_disk import fill
from tests.support.live_stream import Stream, sum_model
from tests.support.load import load
from tests.support.servers import postgres
from tests.support.servers.process import Gnomon, GnomonProcess
from tests.support.servers.stock import ServerUser

_DEPLOYMENT = "challenger"
_PARTITIONS, _MOST_PARTITIONS = 3, 6
_RECOVERY_S = 240.0
_DISK_MB = 256
_BATCH = 100  # captures in the air at once, about 500 a second without faults
_SETTINGS = {
    "GNOMON_SCORE__WINDOW_CAPTURES": "300",
    "GNOMON_SCORE__WINDOW_SECONDS": "1",
    "GNOMON_SCORE__BUDGET_ROWS_PER_SECOND": "400",
}


@dataclass
class Report:
    """The faults of a storm, the captures that Kafka acknowledged during each kind of fault, and the result."""

    seed: int
    faults: Counter[str] = field(default_factory=Counter)
    captures: Counter[str] = field(default_factory=Counter)
    verdict: Verdict | None = None
    recovery_seconds: float = 0.0


class Storm:
    """The processes of one storm; each is started again when it is killed."""

    def __init__(self, seed: int, cluster: Cluster, database_url: str, folder: Path, disk: Path) -> None:
        self.report = Report(seed)
        self._dice = random.Random(seed)
        self._cluster = cluster
        self._database_url = database_url
        self._disk = disk
        self._stream = f"storm-{uuid.uuid4().hex[:8]}"
        self._gnomon = Gnomon(folder)
        self._model = sum_model(folder / f"{self._stream}.onnx", "amount")
        self._env = _SETTINGS | {
            "GNOMON_BOOTSTRAP_SERVERS": cluster.bootstrap,
            "GNOMON_DATABASE_URL": database_url,
            "GNOMON_STREAM": self._stream,
        }
        self._newer = self._dice.random() < 0.5  # the newer group protocol, KIP-848
        self._running: dict[str, GnomonProcess] = {}
        self._live = Stream(cluster.bootstrap, self._stream)
        self._partitions = _PARTITIONS

    def rage(self, seconds: float) -> Report:
        """Cause faults for so long, let everything recover, and verify."""
        created = self._gnomon.enter(
            "topics", "create", "--deployment", _DEPLOYMENT, "--partitions", str(_PARTITIONS), env=self._env
        )
        assert created.returncode == 0, created.stderr
        with contextlib.closing(self._gnomon):
            self._live.publish_schema()
            for name in ("score-a", "score-b", "join-a", "join-b"):
                self._start(name)
            end = time.monotonic() + seconds
            with load(self._capture, 0.05):
                while time.monotonic() < end:
                    self._strike()
                self._cluster.heal()
            assert self._live.producer.flush(120) == 0
            self._heal()
            begun = time.monotonic()
            self._await_joined()
            self.report.recovery_seconds = time.monotonic() - begun
        self.report.verdict = verify(
            self._cluster.bootstrap, self._stream, _DEPLOYMENT, self._database_url, self._live.sent
        )
        return self.report

    def _capture(self) -> None:
        skew_ms = self._dice.choice((0, 0, -3_600_000, 3_600_000))  # a service whose clock is wrong by an hour
        timestamp = int(time.time() * 1000) + skew_ms if skew_ms else 0
        # brokers are unreachable for long; what is stored is recorded when they confirm it
        with contextlib.suppress(AssertionError):
            self._live.send(_BATCH, features=lambda at: {"amount": float(at)}, timestamp=timestamp)

    def _start(self, name: str) -> None:
        group = ("-X", "group.protocol=consumer") if self._newer else ()
        kind, member = name.split("-")
        own = ("--model", str(self._model), "--member", member) if kind == "score" else ()
        self._running[name] = self._gnomon.start(kind, "--deployment", _DEPLOYMENT, *own, *group, env=self._env)

    # Faults.

    def _strike(self) -> None:
        faults: list[tuple[str, Callable[[], None]]] = [
            ("process killed", self._kill),
            ("process killed", self._kill),
            ("process frozen", self._freeze),
            ("broker killed", self._kill_broker),
            ("broker frozen", self._freeze_broker),
            ("broker cut off", self._cut_broker),
            ("broker slow", self._slow_broker),
            ("database sessions ended", self._end_sessions),
            ("database's disk full", self._fill_disk),
            ("partition added", self._grow),
        ]
        name, fault = self._dice.choice(faults)
        self.report.faults[name] += 1
        before = len(self._live.sent)
        fault()
        time.sleep(self._dice.uniform(0.2, 2))  # a fault lasts as long as the seed determines
        self.report.captures[name] += len(self._live.sent) - before
        for name, process in list(self._running.items()):
            if process.popen.poll() is not None:
                self._start(name)

    def _kill(self) -> None:
        name = self._dice.choice(sorted(self._running))
        self._running[name].kill()
        self._start(name)

    def _freeze(self) -> None:
        process = self._running[self._dice.choice(sorted(self._running))]
        process.send(signal.SIGSTOP)
        time.sleep(self._dice.uniform(0.2, 9))
        process.send(signal.SIGCONT)

    def _kill_broker(self) -> None:
        node = self._dice.choice(self._cluster.nodes)
        node.kill()
        time.sleep(self._dice.uniform(0.1, 4))
        node.start()

    def _freeze_broker(self) -> None:
        node = self._dice.choice(self._cluster.nodes)
        node.process.send_signal(signal.SIGSTOP)
        time.sleep(self._dice.uniform(0.1, 7))
        node.process.send_signal(signal.SIGCONT)

    def _cut_broker(self) -> None:
        node = self._dice.choice(self._cluster.nodes)
        node.cut(True)
        time.sleep(self._dice.uniform(0.1, 7))
        node.cut(False)

    def _slow_broker(self) -> None:
        node = self._dice.choice(self._cluster.nodes)
        node.link.delay_s = self._dice.uniform(0.02, 1.5)
        time.sleep(self._dice.uniform(0.2, 9))
        node.link.delay_s = 0.0

    def _fill_disk(self) -> None:
        ballast = fill(self._disk)
        time.sleep(self._dice.uniform(0.2, 7))
        ballast.unlink()

    def _end_sessions(self) -> None:
        with psycopg.connect(self._database_url, autocommit=True) as connection:
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and pid <> pg_backend_pid()"
            )

    def _grow(self) -> None:
        if self._partitions < _MOST_PARTITIONS:
            admin = AdminClient({"bootstrap.servers": self._cluster.bootstrap})
            topic = f"gnomon.{self._stream}.live"
            asked = admin.create_partitions([NewPartitions(topic, self._partitions + 1)], request_timeout=30)
            with contextlib.suppress(Exception):  # the unreachable broker may be the controller
                asked[topic].result()
                self._partitions += 1

    # Recovery.

    def _heal(self) -> None:
        for name, process in list(self._running.items()):
            if process.popen.poll() is not None:
                self._start(name)

    def _await_joined(self) -> None:
        ends: dict[int, int] = {}
        for partition, offset in self._live.sent:
            ends[partition] = max(ends.get(partition, 0), offset + 1)
        deadline = time.monotonic() + _RECOVERY_S
        while any(self._joined().get(partition, 0) < end for partition, end in ends.items()):
            self._heal()
            if time.monotonic() > deadline:
                tails = "\n".join(f"{name}:\n{process.output[-2000:]}" for name, process in self._running.items())
                raise AssertionError(f"joined {self._joined()} of {ends} after {_RECOVERY_S:g} s:\n{tails}")
            time.sleep(0.2)

    def _joined(self) -> dict[int, int]:
        with psycopg.connect(self._database_url) as connection:
            return dict(
                connection.execute("select source_partition, next_source_offset from gnomon.join_progress").fetchall()
            )


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a file system of `_DISK_MB`, on which pairs and labels are stored; only root can."""
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_DISK_MB}m,mode=0755", "tmpfs", disk], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def _put_tables_on(disk: Path, url: str) -> None:
    space = disk / "space"
    space.mkdir()
    ServerUser.suitable().own(space)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"create tablespace small location '{space}'")
        connection.execute(f"alter database {connection.info.dbname} set default_tablespace = small")


def storm(seed: int, seconds: float) -> Report:
    """Run one storm on separate servers."""
    with tempfile.TemporaryDirectory(prefix="gnomon-storm-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # the database's account must be able to enter it
        with small_disk(folder) as disk, postgres.running(folder) as server:
            cluster = Cluster(folder)
            try:
                with postgres.database(server) as url:
                    _put_tables_on(disk, url)
                    upgraded = Gnomon(folder).run("db", "upgrade", env={"GNOMON_DATABASE_URL": url})
                    assert upgraded.returncode == 0, upgraded.stderr
                    return Storm(seed, cluster, url, folder, disk).rage(seconds)
            finally:
                cluster.close()
