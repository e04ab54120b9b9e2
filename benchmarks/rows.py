"""`python -m benchmarks.rows`: the joiner's rate against how many pairs the database holds already.

The same logs are joined again and again into one database, each time as a new deployment; between two runs the pairs
of the first one are multiplied, all of them in the table partition that the joiner writes to. The points are kept in
`benchmarks/results/rows.json`.
"""

import argparse
import contextlib
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import psycopg
from tests.servers import postgres

from benchmarks import joiner, scorer, tables, workload
from benchmarks.brokers import broker
from benchmarks.running import Job, Measured, cores, say
from gnomon_consumer.joiner.assemble import PAIRS

RESULT = tables.RESULTS / "rows.json"
_COPIED = ", ".join(name for name in PAIRS.names if name != "source_partition")
_GROW = f"""insert into gnomon.pairs (source_partition, {_COPIED}) select %s, {_COPIED} from gnomon.pairs
where deployment_id = (select min(deployment_id) from gnomon.deployments) and source_partition = 0"""


def main() -> None:
    """Measure what the command line asks for, and keep it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rows", description=__doc__)
    parser.add_argument("--rows", type=int, default=250_000, help="captures joined in a run; default: 250,000")
    parser.add_argument("--runs", type=int, default=3, help="at each size; default: 3")
    parser.add_argument(
        "--sizes", type=int, nargs="*", default=[0, 1_000_000, 10_000_000], help="pairs; default: 0, 1 and 10 million"
    )
    arguments = parser.parse_args()
    os.sched_setaffinity(0, cores()[1])
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bootstrap = stack.enter_context(broker("kafka", folder))
        stream = scorer.fill(bootstrap, folder, arguments.rows, workload.features())
        setting = scorer.Setting(bootstrap, stream, folder, arguments.rows, 30.0)
        joining = joiner.Joining(setting, stack.enter_context(postgres.running(folder)), joiner.score(setting))
        url = stack.enter_context(postgres.database(joining.server))
        started = joiner.command(joining, url)
        points = []
        for size in arguments.sizes:
            held = grow(url, size)
            runs = [joined(joining, url, started) for _ in range(arguments.runs)]
            points.append(
                {
                    "rows": held,
                    "rows_per_second": round(statistics.median(run.rows_per_second for run in runs)),
                    "of_runs": [round(run.rows_per_second) for run in runs],
                    "cpu_us": round(statistics.median(run.cpu_us for run in runs), 2),
                }
            )
            say(str(points[-1]))
            RESULT.write_text(json.dumps({"machine": tables.machine(), "points": points}, indent=1) + "\n")


def joined(joining: joiner.Joining, url: str, started: list[object]) -> Measured:
    """Join the logs as a new deployment; afterwards it has another name, so that the next run is new too."""
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
    """Multiply the first deployment's pairs until there are about so many; return how many there are."""
    with psycopg.connect(url, autocommit=True) as connection:
        begun = time.monotonic()
        while True:
            found = connection.execute("select count(*), max(source_partition) from gnomon.pairs").fetchone()
            assert found is not None
            count, partition = found
            if count >= size or not count:
                return int(count)
            connection.execute(_GROW, [partition + 1])
            say(f"{count} pairs after {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
