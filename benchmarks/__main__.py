"""`make bench ARGS=…`: measure Gnomon and its peers side by side and write the tables into benchmarks/results/."""

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks import joiner, scorer, tables, workload
from benchmarks.running import Series, cores, interleaved
from benchmarks.tables import Result

JOBS = ("scorer", "drain", "joiner")
# The mock keeps about 5 MB a partition.
MOCK_ROWS = 48_000
# What is only drained goes by in a second otherwise.
DRAINED = 5


def main() -> None:
    """Run the jobs that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("jobs", nargs="*", default=list(JOBS), help=f"of {', '.join(JOBS)}; default: all")
    parser.add_argument("--broker", choices=("kafka", "mock"), default="kafka", help="default: kafka")
    parser.add_argument("--runs", type=int, default=5, help="of each contender; default: 5")
    parser.add_argument("--rows", type=int, default=400_000, help="captures in the topic; default: 400,000")
    parser.add_argument("--seconds", type=float, default=5.0, help="longest measurement of a run; default: 5")
    parser.add_argument("--only", help="contenders whose names hold one of these texts (a;b;c)")
    parser.add_argument("--output", type=Path, default=tables.RESULTS, help="folder of the tables")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.jobs) - set(JOBS))
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; there are: {', '.join(JOBS)}")
    # Everything that is started from here on, brokers above all, stays off the core of the jobs.
    os.sched_setaffinity(0, cores()[1])
    with tempfile.TemporaryDirectory() as scratch, broker(arguments.broker, Path(scratch)) as bootstrap:
        for job in arguments.jobs:
            say(f"# {job} on {arguments.broker}")
            with contextlib.ExitStack() as stack:
                say(str(run(job, bootstrap, Path(scratch), arguments, stack)))


def run(job: str, bootstrap: str, scratch: Path, arguments: argparse.Namespace, stack: contextlib.ExitStack) -> Path:
    """Run one job; its table is written anew after every round. Returns where."""
    rows = MOCK_ROWS if arguments.broker == "mock" else arguments.rows * (DRAINED if job == "drain" else 1)
    features = workload.features()
    stream = scorer.fill(bootstrap, scratch, rows, features)
    setting = scorer.Setting(bootstrap, stream, scratch, rows, arguments.seconds)
    where = "the embedded mock" if arguments.broker == "mock" else "Apache Kafka"
    if job == "scorer":
        contenders = scorer.scored(setting)
        title, base = f"Every capture scored by 100 trees, one core, on {where}", scorer.PLAIN
    elif job == "drain":
        contenders = scorer.sampled_out(setting)
        title, base = f"Captures read and not sampled, one core, on {where}", "consume() alone"
    else:
        from tests.servers import postgres

        url = stack.enter_context(postgres.running(scratch))
        contenders = joiner.joined(joiner.Joining(setting, url, joiner.score(setting)))
        title, base = f"Captures and outcomes joined into PostgreSQL, one core, on {where}", joiner.QUIX
    wanted = arguments.only.split(";") if arguments.only else [""]
    chosen = {name: call for name, call in contenders.items() if any(part in name for part in wanted)}

    def keep(series: list[Series]) -> None:
        tables.write(Result(f"{job}-{arguments.broker}", title, series, base), arguments.output)

    interleaved(chosen, arguments.runs, say, keep)
    return Path(arguments.output) / f"{job}-{arguments.broker}.md"


@contextlib.contextmanager
def broker(kind: str, folder: Path) -> Iterator[str]:
    """A broker of the benchmarks' own."""
    if kind == "mock":
        from gnomon_consumer.quickstart import kafka as mock

        with mock.running() as bootstrap:
            yield bootstrap
    else:
        from tests.servers import kafka as real

        with real.running(folder) as bootstrap:
            yield bootstrap


def say(line: str) -> None:
    """Show progress."""
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    main()
