"""`python -m benchmarks copying`: PostgreSQL's part of the join: a COPY of pairs that are laid out already, no more.

With the table as it is, without its BRIN indexes, and without any index. What is printed is kept in
`benchmarks/results/copying.json`.
"""

import argparse
import contextlib
import hashlib
import json
import os
import statistics
import tempfile
import time
import uuid
from pathlib import Path

import psycopg
import pyarrow as pa
from tests.support.servers import postgres

from benchmarks.harness import workload
from benchmarks.harness.running import cores, say
from benchmarks.jobs.joiner import upgrade
from benchmarks.output import tables
from gnomon_consumer.joiner.merge.matches import Matches
from gnomon_consumer.joiner.merge.shadow_records import read_shadow
from gnomon_consumer.joiner.pairs.assemble import LooseMatches, assemble
from gnomon_consumer.joiner.pairs.copy_format import COPY, copy_parts
from gnomon_consumer.joiner.pairs.feature_layout import Layout
from gnomon_consumer.joiner.postgres.day_partitions import DayPartitions
from gnomon_consumer.scorer.captures import Row, Rows
from gnomon_consumer.scorer.worker import models
from gnomon_consumer.scorer.worker.models import ModelSpec
from gnomon_consumer.scorer.worker.scoring import BatchScorer
from gnomon_schemas.columnar import ColumnarReader
from gnomon_schemas.schema import record_schema
from gnomon_schemas.store import MemorySchemas

RESULT = tables.RESULTS / "copying.json"
_NO_BRIN = """select format('drop index gnomon.%I', indexname) from pg_indexes
where schemaname = 'gnomon' and tablename = 'pairs' and indexdef like '%USING brin%'"""
_NO_KEY = """select format('alter table gnomon.pairs drop constraint %I', conname) from pg_constraint
where conrelid = 'gnomon.pairs'::regclass and contype = 'p'"""
TABLES = {"as it is": (), "without BRIN": (_NO_BRIN,), "without any index": (_NO_BRIN, _NO_KEY)}


def main() -> None:
    """Measure what the command line asks for, and keep it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks copying", description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000, help="of a COPY; default: 100,000")
    parser.add_argument("--runs", type=int, default=5, help="of each table; default: 5")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.sched_setaffinity(0, cores()[1])
        server = stack.enter_context(postgres.running(folder))
        os.sched_setaffinity(0, cores()[0])
        batch = pairs(folder, arguments.rows)
        parts = list(copy_parts(batch))
        connections = {}
        for name, changes in TABLES.items():
            url = stack.enter_context(postgres.database(server))
            connections[name] = stack.enter_context(psycopg.connect(url, autocommit=True))
            prepare(connections[name], url, batch, changes)
        taken: dict[str, list[float]] = {name: [] for name in TABLES}
        for _ in range(arguments.runs):
            for name, connection in connections.items():
                taken[name].append(copied(connection, parts) / arguments.rows * 1e6)
    row = sum(map(len, parts)) / arguments.rows
    found = [
        {"table": name, "us": round(statistics.median(runs), 2), "of_runs": [round(run, 2) for run in runs]}
        for name, runs in taken.items()
    ]
    for one in found:
        say(f"{one['table']}: {one['us']} µs a row of {row:.0f} bytes by the clock; each: {one['of_runs']}")
    RESULT.write_text(json.dumps({"machine": tables.machine(), "bytes": round(row), "tables": found}, indent=1) + "\n")


def pairs(folder: Path, count: int) -> pa.RecordBatch:
    """Return captures of the workload, scored and joined without a broker."""
    features = workload.features()
    workload.write(folder, features)
    model = folder / "trees.onnx"
    schemas = MemorySchemas([features.live, record_schema("ShadowPrediction")])
    reader = ColumnarReader(schemas)
    spec = ModelSpec(
        kind="onnx",
        location=str(model),
        sha256=hashlib.sha256(model.read_bytes()).hexdigest(),
        name="trees",
        version="1",
    )
    scorer = BatchScorer(
        spec, models.load(spec, features.features, folder), schemas, now_us=lambda: time.time_ns() // 1000
    )
    drawn = list(workload.captures(features, count))
    rows = Rows.of([Row(0, at, key.encode(), message, None, at, 1.0) for at, (key, message) in enumerate(drawn)])
    outcomes = [one.message for one in scorer.score(rows, str(uuid.UUID(int=1)), 0, single=False)]
    matches = Matches(read_shadow(reader, outcomes).outcomes, [message for _, message in drawn], [""] * count)
    names = tuple(feature.name for feature in features.features)
    layout = Layout(names[:20], names[20:], frozenset())
    return assemble(1, [LooseMatches(matches)], reader, lambda _: layout).batch


def prepare(connection: psycopg.Connection, url: str, batch: pa.RecordBatch, changes: tuple[str, ...]) -> None:
    """Migrate a new database, name the deployment, make the table partitions, and take indexes away."""
    upgrade(url)
    connection.execute("insert into gnomon.streams (stream_id, name) overriding system value values (1, 's')")
    connection.execute(
        "insert into gnomon.deployments (deployment_id, stream_id, name) overriding system value values (1, 1, 'd')"
    )
    DayPartitions(connection, 1).ensure(batch)
    for change in changes:
        for (statement,) in connection.execute(change.encode()).fetchall():
            connection.execute(statement)


def copied(connection: psycopg.Connection, parts: list[bytes]) -> float:
    """Seconds that a COPY and its commit take; the table is empty before."""
    connection.execute("truncate gnomon.pairs")
    connection.execute("checkpoint")
    began = time.perf_counter()
    with connection.cursor().copy(COPY) as copy:
        for part in parts:
            copy.write(part)
    return time.perf_counter() - began
