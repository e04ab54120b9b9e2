"""`python -m benchmarks whole`: from the live topic to rows in PostgreSQL, everything on this machine's cores at once.

First the sustained rate over a full topic, then the delay at a given rate: of each window, from its first capture's
arrival at the scorer until its rows are visible in the database. Stored in `benchmarks/results/whole.json`.
"""

import argparse
import contextlib
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import psycopg
from tests.support.servers import postgres

from benchmarks.harness import workload
from benchmarks.harness.brokers import broker
from benchmarks.harness.running import Job, say
from benchmarks.jobs import joiner, scorer
from benchmarks.jobs.scale import Arrivals, Bench
from benchmarks.output import tables

RESULT = tables.RESULTS / "whole.json"
_SEEN = "select coalesce(sum(sampled), 0) from gnomon.cells"
_WINDOWS = """select window_id, seen, extract(epoch from opened_at)::float8, extract(epoch from sealed_at)::float8
from gnomon.windows"""
Floats = npt.NDArray[Any]
# Windows of some thousand captures each, so that both services have work from the first second on.
_SHORT = {"GNOMON_SCORE__RESERVOIR_ROWS": "20000"}
_CAUGHT_UP_S = 5.0
_LOOK_S = 0.02  # how often the database is queried from outside, because nothing announces a row


def main() -> None:
    """Measure and store both."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks whole", description=__doc__)
    parser.add_argument("--rows", type=int, default=400_000, help="captures in the full topic; default: 400,000")
    parser.add_argument("--runs", type=int, default=3, help="over the full topic; default: 3")
    parser.add_argument("--rate", type=float, help="captures a second of the delay; default: half of what is sustained")
    parser.add_argument("--seconds", type=float, default=20.0, help="of the delay's measurement; default: 20")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bench = Bench(stack.enter_context(broker("kafka", folder)), folder, arguments.rows, arguments.seconds)
        server = stack.enter_context(postgres.running(folder))
        stream = scorer.fill(bench.bootstrap, folder, bench.rows, workload.features())
        sustained = [full(bench, stream, server) for _ in range(arguments.runs)]
        say(str(sustained))
        rate = arguments.rate or statistics.median(one["pairs_per_second"] for one in sustained) / 2
        delays = delay(bench, server, rate)
        say(str(delays))
    RESULT.write_text(
        json.dumps({"machine": tables.machine(), "sustained": sustained, "delay": delays}, indent=1) + "\n"
    )


@contextlib.contextmanager
def pipeline(bench: Bench, stream: str, server: str, *arguments: str) -> Any:
    """Both services on all cores, and a connection to their database."""
    everywhere = os.sched_getaffinity(0)
    setting = bench.setting(bench.rows, stream)
    topic, scores = scorer.command(setting, *arguments)
    workload.create(bench.bootstrap, topic)
    deployment = topic.rpartition(".")[2]
    with postgres.database(server) as url:
        joins = joiner.command(joiner.Joining(setting, server, deployment), url)
        with (
            Job(joins, everywhere) as joining,
            Job(scores, everywhere, _SHORT) as scoring,
            psycopg.connect(url, autocommit=True) as connection,
        ):
            yield connection, (joining, scoring)


def full(bench: Bench, stream: str, server: str) -> dict[str, float]:
    """Return pairs a second from the first to the last of a full topic, and the CPU time a pair of each service."""
    with pipeline(bench, stream, server, "--no-sampling") as (connection, jobs):
        began, first, done = 0.0, 0, 0
        spent = [0.0, 0.0]
        deadline = time.monotonic() + 180
        while done < bench.rows and time.monotonic() < deadline:
            time.sleep(10 * _LOOK_S)
            for job in jobs:
                job.check()
            done = int(connection.execute(_SEEN).fetchone()[0])
            if done and not first:
                began, first, spent = time.monotonic(), done, [job.cpu_s() for job in jobs]
        rate = (done - first) / (time.monotonic() - began)
        joiner_us, scorer_us = (
            round(1e6 * (job.cpu_s() - before) / (done - first), 2) for job, before in zip(jobs, spent, strict=True)
        )
        return {"pairs_per_second": round(rate), "joiner_cpu_us": joiner_us, "scorer_cpu_us": scorer_us}


def delay(bench: Bench, server: str, rate: float) -> dict[str, Any]:
    """Return the seconds from a window's first capture to its rows, weighted by its captures, at a steady rate."""
    stream = scorer.fill(bench.bootstrap, bench.folder, 5_000, workload.features())
    with (
        Arrivals(bench, stream, rate),
        pipeline(bench, stream, server, "--from", "latest", "--no-sampling") as (connection, jobs),
    ):
        while not connection.execute(_WINDOWS).fetchall():
            for job in jobs:
                job.check()
            time.sleep(_LOOK_S)
        time.sleep(_CAUGHT_UP_S)  # captures that arrived while the services started
        known = {row[0] for row in connection.execute(_WINDOWS).fetchall()}
        spent, busy = [job.cpu_s() for job in jobs], _busy_s()
        found: list[tuple[float, float, float, int]] = []
        began = time.time()
        while time.time() < began + bench.seconds:
            time.sleep(_LOOK_S)
            rows = connection.execute(_WINDOWS).fetchall()
            now = time.time()
            found += [(now, opened, sealed, seen) for one, seen, opened, sealed in rows if one not in known]
            known |= {row[0] for row in rows}
        lasted = time.time() - began
        cores = [round((job.cpu_s() - before) / lasted, 2) for job, before in zip(jobs, spent, strict=True)]
        all_cores = round((_busy_s() - busy) / lasted, 2)
    there, opened, sealed, seen = (np.array(column) for column in zip(*found, strict=True))
    return {
        "captures_per_second": round(rate),
        "joined_per_second": round(seen.sum() / lasted),
        "windows": len(found),
        **_quantiles("", there - opened, seen),
        **_quantiles("open_", sealed - opened, seen),
        **_quantiles("scored_and_joined_", there - sealed, seen),
        "joiner_cores": cores[0],
        "scorer_cores": cores[1],
        "busy_cores": all_cores,
    }


def _quantiles(name: str, seconds: Floats, weights: Floats) -> dict[str, float]:
    """Return median, 99th percentile and maximum of delays, weighted."""
    order = np.argsort(seconds)
    shares = np.cumsum(weights[order]) / weights.sum()
    places = {"p50_s": int(np.searchsorted(shares, 0.5)), "p99_s": int(np.searchsorted(shares, 0.99)), "most_s": -1}
    return {f"{name}{label}": round(float(seconds[order][place]), 3) for label, place in places.items()}


def _busy_s() -> float:
    """Return the busy seconds of all cores together so far."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)
