"""Whole joining jobs: captures and their outcomes from Kafka into PostgreSQL, exactly once, on one core."""

import subprocess
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg
from tests.support.servers import postgres

from benchmarks.harness import workload
from benchmarks.harness.running import COMMAND, PEERS_PYTHON, Job, Measured, cores
from benchmarks.jobs.scorer import Setting

GNOMON = "Gnomon"
QUIX = "Quix Streams, PostgreSQLSink, spared the join"

# Name, module, method of writing rows.
PEERS = (
    (QUIX, "join_quix", 1),
    ("dict join, executemany", "join_confluent", 0),
    ("dict join, COPY to a temporary table", "join_confluent", 1),
)
TABLE = """create table pairs (source_partition int, source_offset bigint, request_id text, captured_at bigint,
 features_numeric float8[], features_text text[], live_value float8, shadow_value float8, rank bigint,
 inclusion_probability float8, window_id text, primary key (source_partition, source_offset))"""
PROGRESS = "select sum(next_source_offset) from gnomon.join_progress"
_LOOK_S = 0.2


@dataclass(frozen=True)
class Joining:
    """A stream with scored captures, and a database server."""

    scoring: Setting
    server: str
    deployment: str

    @property
    def shadow(self) -> str:
        """Return the topic of the outcomes."""
        return f"gnomon.{self.scoring.stream}.shadow.{self.deployment}"


def score(setting: Setting) -> str:
    """Let the scorer write outcomes of all captures, in windows of some thousand; return the deployment's name."""
    deployment = f"d-{uuid.uuid4().hex[:8]}"
    topic = f"gnomon.{setting.stream}.shadow.{deployment}"
    workload.create(setting.bootstrap, topic, partitions=setting.partitions)
    command = [
        COMMAND, "score", "--bootstrap-servers", setting.bootstrap, "--stream", setting.stream, "--deployment",
        deployment, "--model", setting.folder / "trees.onnx", "--no-sampling", "--exit-when-idle", "1",
    ]  # fmt: skip
    environment = {"GNOMON_SCORE__RESERVOIR_ROWS": "20000", "PATH": "/usr/bin:/bin"}
    subprocess.run([str(part) for part in command], check=True, capture_output=True, timeout=300, env=environment)
    return deployment


class Counted:
    """The progress of a job, read at most every _LOOK_S so that the query costs the database little."""

    def __init__(self, url: str, query: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self._query = query
        self._asked = float("-inf")
        self._seen = 0

    def __enter__(self) -> "Counted":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def __call__(self) -> int:
        if time.monotonic() - self._asked >= _LOOK_S:
            row = self._connection.execute(self._query).fetchone()
            self._seen = int(row[0]) if row and row[0] is not None else 0
            self._asked = time.monotonic()
        return self._seen


def upgrade(url: str) -> None:
    """Migrate a database."""
    upgrading: list[str | Path] = [COMMAND, "db", "upgrade", "--database-url", url]
    subprocess.run(upgrading, check=True, capture_output=True, timeout=120)


def command(joining: Joining, url: str) -> list[object]:
    """Migrate a new database, and return the command that joins into it."""
    setting = joining.scoring
    upgrade(url)
    return [
        COMMAND, "join", "--bootstrap-servers", setting.bootstrap, "--stream", setting.stream,
        "--deployment", joining.deployment, "--database-url", url,
    ]  # fmt: skip


def gnomon(joining: Joining) -> Callable[[int], Measured]:
    """Return a run of `gnomon join` into a new database."""

    def run(_: int) -> Measured:
        setting = joining.scoring
        with postgres.database(joining.server) as url:
            started = command(joining, url)
            with Counted(url, PROGRESS) as counted, Job(started, cores()[0]) as job:
                return job.watch(counted, setting.rows, 4 * setting.seconds, stall_s=60.0)

    return run


def peer(joining: Joining, module: str, way: int) -> Callable[[int], Measured]:
    """Return a run of a peer into a new table."""

    def run(_: int) -> Measured:
        setting = joining.scoring
        with postgres.database(joining.server) as url:
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(TABLE)
            command = [
                PEERS_PYTHON, "-m", f"benchmarks.peers.{module}", "--bootstrap", setting.bootstrap, "--source",
                setting.live, "--target", joining.shadow, "--group", f"bench-{uuid.uuid4().hex[:8]}", "--folder",
                setting.folder, "--database", url, "--batch", str(way),
            ]  # fmt: skip
            with Counted(url, "select count(*) from pairs") as counted, Job(command, cores()[0]) as job:
                return job.watch(counted, setting.rows, 4 * setting.seconds, stall_s=60.0)

    return run


def joined(joining: Joining) -> dict[str, Callable[[int], Measured]]:
    """Return our joiner's and every peer's results."""
    return {
        GNOMON: gnomon(joining),
        **{name: peer(joining, module, way) for name, module, way in PEERS},
    }
