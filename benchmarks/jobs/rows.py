"""`python -m benchmarks rows`: the joiner's rate as a function of the number of stored pairs.

Each size has a separate database, and the sizes take turns: the same logs are joined repeatedly, each time as a
new deployment. Before, the pairs of the first one are multiplied, all in the table partition that the joiner
writes to. A pair takes about 800 bytes of disk. The points are stored in `benchmarks/results/rows.json`.
"""

import argparse
import contextlib
import json
import statistics
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
from tests.support.servers import postgres

from benchmarks.harness.running import Job, Measured, cores, say
from benchmarks.jobs import joiner, scorer
from benchmarks.output import tables
from gnomon_consumer.joiner.pairs.assemble import PAIRS

RESULT = tables.RESULTS / "rows.json"
_COPIED = ", ".join(name for name in PAIRS.names if name != "source_partition")
_GROW = f"""insert into gnomon.pairs (source_partition, {_COPIED})
select copy, {_COPIED} from gnomon.pairs, generate_series(%s::int, %s::int, %s::int) as copy
where deployment_id = (select min(deployment_id) from gnomon.deployments) and source_partition = 0"""
# Connections that multiply pairs together, and how many copies each makes in a statement.
_HANDS, _COPIES = 2, 10


def main() -> None:
    """Measure what the command line asks for, and keep it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks rows", description=__doc__)
    parser.add_argument("--rows", type=int, default=250_000, help="captures joined in a run; default: 250,000")
    parser.add_argument("--runs", type=int, default=5, help="at each size; default: 5")
    parser.add_argument(
        "--sizes", type=int, nargs="*", default=[0, 1_000_000, 10_000_000], help="pairs; default: 0, 1 and 10 million"
    )
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        setting = stack.enter_context(scorer.filled(arguments.rows, 30.0))
        joining = joiner.Joining(setting, stack.enter_context(postgres.running(setting.folder)), joiner.score(setting))
        places = []
        for size in arguments.sizes:
            url = stack.enter_context(postgres.database(joining.server))
            started = joiner.command(joining, url)
            joined(joining, url, started)
            places.append((url, started, grow(url, size)))
        runs: list[list[Measured]] = [[] for _ in places]
        for _ in range(arguments.runs):
            for (url, started, held), own in zip(places, runs, strict=True):
                own.append(joined(joining, url, started))
                say(f"{held:,} pairs: {own[-1].rows_per_second:,.0f}/s, {own[-1].cpu_us:.2f} µs CPU a row")
            points = [point(held, own) for (_, _, held), own in zip(places, runs, strict=True)]
            RESULT.write_text(json.dumps({"machine": tables.machine(), "points": points}, indent=1) + "\n")


def point(held: int, runs: list[Measured]) -> dict[str, Any]:
    """Return the stored result of the runs at one size."""
    return {
        "rows": held,
        "rows_per_second": round(statistics.median(run.rows_per_second for run in runs)),
        "of_runs": [round(run.rows_per_second) for run in runs],
        "cpu_us": round(statistics.median(run.cpu_us for run in runs), 2),
    }


def joined(joining: joiner.Joining, url: str, started: list[object]) -> Measured:
    """Join the logs as a new deployment; afterwards rename it, so that the next run is new too."""
    name = joining.deployment
    mine = f"({joiner.PROGRESS} where deployment_id = (select max(deployment_id) from gnomon.deployments))"
    setting = joining.scoring
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("checkpoint")
        connection.execute("update gnomon.deployments set name = name || deployment_id where name = %s", [name])
        connection.execute(
            "insert into gnomon.deployments (stream_id, name) select stream_id, %s from gnomon.streams", [name]
        )
    with joiner.Counted(url, mine) as counted, Job(started, cores()[0]) as job:
        return job.watch(counted, setting.rows, 4 * setting.seconds, stall_s=60.0)


def grow(url: str, size: int) -> int:
    """Multiply the first deployment's pairs until there are at least so many; return their number."""
    with psycopg.connect(url, autocommit=True) as connection:
        found = connection.execute(
            "select count(*), count(*) filter (where source_partition = 0), max(source_partition) from gnomon.pairs"
        ).fetchone()
    assert found is not None
    held, copied, last = found
    copies = -(-max(0, size - held) // copied)

    def multiply(hand: int) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            for first in range(last + 1 + hand, last + copies + 1, _HANDS * _COPIES):
                until = min(first + _HANDS * _COPIES - 1, last + copies)
                connection.execute(_GROW, [first, until, _HANDS])
                say(f"copied up to partition {until} of {last + copies}")

    with ThreadPoolExecutor(_HANDS) as hands:
        list(hands.map(multiply, range(_HANDS)))
    return int(held + copies * copied)
