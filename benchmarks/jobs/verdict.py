"""`python -m benchmarks verdict --pairs N`: fill a database with N pairs, seal them, and decide; seconds of each part.

Nine in ten pairs are the challenger's, in clusters, with labels and two segments; the rest are the control's. The plan
uses the Brier score, with accuracy and agreement as guardrails. Each run decides again.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import psycopg

from benchmarks.harness import traffic
from benchmarks.jobs.reports import SEAL, database, say
from benchmarks.output import tables
from gnomon_consumer.database.connections import engine_for
from gnomon_consumer.verdict import pair_arrays
from gnomon_consumer.verdict.collect import collect
from gnomon_consumer.verdict.database import Subject, deployment_row
from gnomon_consumer.verdict.plans import StoredPlan
from gnomon_consumer.verdict.rules.gate import decide
from gnomon_consumer.verdict.rules.plan import Plan
from gnomon_migrations import runner

PLAN = Plan(metric="brier", guardrails={"accuracy": 0.01, "agreement": 0.2})


def main() -> None:
    """Fill, seal, decide."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks verdict", description=__doc__)
    parser.add_argument("--pairs", type=int, default=1_000_000, help="default: 1,000,000")
    parser.add_argument("--runs", type=int, default=3, help="default: 3")
    parser.add_argument("--database", help="URL of a migrated, empty database; default: an embedded server's")
    parser.add_argument("--filled", action="store_true", help="the database was filled by an earlier run")
    arguments = parser.parse_args()
    with database(arguments.database) as url:
        runner.upgrade(engine_for(url))
        if not arguments.filled:
            traffic.fill(url, arguments.pairs, say)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(SEAL)
            row = deployment_row(connection, traffic.STREAM, "challenger")
            plan = StoredPlan(
                plan_id=0,
                plan=PLAN,
                sha256=PLAN.sha256,
                process=PLAN.process,
                evidence_from=None,
                recorded_at=row["created_at"],
            )
            where = tables.machine()
            say(f"{where['processor']}, {where['cores']} cores, load average {where['load_average'][0]}")
            for number in range(arguments.runs):
                with parts() as spent:
                    began = time.perf_counter()
                    found = collect(connection, row, [plan])
                    decide(PLAN, found)
                    whole = time.perf_counter() - began
                slowest = sorted(spent.items(), key=lambda item: -item[1])[:6]
                split = ", ".join(f"{name} {seconds:.2f}" for name, seconds in slowest)
                say(f"run {number + 1}: {whole:.2f} s, {found.rows:,} pairs, {len(found.days)} days ({split})")


@contextmanager
def parts() -> Iterator[dict[str, float]]:
    """Count the seconds that each of the database's functions takes."""
    spent: dict[str, float] = defaultdict(float)
    ask, read = Subject.ask, pair_arrays._read_columns

    def timed(call: Any) -> Any:
        def wrapped(subject: Subject, function: str, **arguments: Any) -> Any:
            began = time.perf_counter()
            answer = call(subject, function, **arguments)
            spent[function] += time.perf_counter() - began
            return answer

        return wrapped

    with mock.patch.object(Subject, "ask", timed(ask)), mock.patch.object(pair_arrays, "_read_columns", timed(read)):
        yield spent
