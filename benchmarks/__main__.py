"""`make bench`: the one entry of all benchmarks.

`python -m benchmarks NAME …` (or `make bench ARGS="NAME …"`) runs one of the measurements of Gnomon alone, or writes
pages from the results; `python -m benchmarks NAME --help` shows its options. All other calls measure Gnomon and
its peers side by side and write the tables into benchmarks/results/.

Without arguments: every job, on Apache Kafka, five runs of each contender in turns. On two cores that takes about 40
minutes: scorer 12, drain 3, joiner 10, hook 14. Afterwards `python -m benchmarks page` puts the tables into README.md
and docs/.
"""

import argparse
import contextlib
import importlib
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.harness import workload
from benchmarks.harness.brokers import broker
from benchmarks.harness.running import Measured, Series, cores, interleaved, say
from benchmarks.jobs import hook, joiner, scorer
from benchmarks.output import tables
from benchmarks.output.tables import Result

# Captures in the topic, unless the command line sets the number; with fewer, a drain would take only a second.
ROWS = {"scorer": 1_000_000, "drain": 2_000_000, "joiner": 400_000}
HOOK = "hook"
JOBS = (*ROWS, HOOK)
# The mock keeps about 5 MB a partition: with four, less than a second's work.
MOCK_PARTITIONS = 16
MOCK_ROWS = 12_000 * MOCK_PARTITIONS
PLACES = {"kafka": "Apache Kafka", "mock": "librdkafka's mock"}


# NAME of the command line: the module whose main() does it.
ALONE = {
    "guard": "benchmarks.jobs.guard",
    "hook-loads": "benchmarks.jobs.hook",
    "whole": "benchmarks.jobs.whole",
    "split": "benchmarks.jobs.split",
    "rows": "benchmarks.jobs.rows",
    "scale": "benchmarks.jobs.scale",
    "fleet": "benchmarks.jobs.fleet",
    "replay": "benchmarks.jobs.replay",
    "reports": "benchmarks.jobs.reports",
    "stock": "benchmarks.jobs.stock",
    "planner": "benchmarks.jobs.planner",
    "verdict": "benchmarks.jobs.verdict",
    "copying": "benchmarks.jobs.copying",
    "flame": "benchmarks.output.flame",
    "plots": "benchmarks.output.plots",
    "page": "benchmarks.output.page",
}


def main() -> None:
    """Run what the command line names."""
    if len(sys.argv) > 1 and sys.argv[1] in ALONE:
        name = sys.argv[1]
        sys.argv[:2] = [f"{sys.argv[0]} {name}"]
        importlib.import_module(ALONE[name]).main()
        return
    measure_beside_peers()


def measure_beside_peers() -> None:
    """Run the jobs that the command line names, Gnomon and its peers in turns."""
    parser = argparse.ArgumentParser(
        prog="make bench, python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    rows = ", ".join(f"{job} {count:,}" for job, count in ROWS.items())
    parser.add_argument("jobs", nargs="*", default=list(JOBS), help=f"of {', '.join(JOBS)}; default: all")
    parser.add_argument("--broker", choices=tuple(PLACES), default="kafka", help="default: kafka")
    parser.add_argument("--runs", type=int, default=5, help="of each contender; default: 5")
    parser.add_argument("--rows", type=int, help=f"captures in the topic; default: {rows}; the mock has {MOCK_ROWS:,}")
    parser.add_argument("--seconds", type=float, default=5.0, help="longest measurement of a run; default: 5")
    parser.add_argument("--only", help="contenders whose names hold one of these texts (a;b;c)")
    parser.add_argument("--output", type=Path, default=tables.RESULTS, help="folder of the tables")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.jobs) - set(JOBS))
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; there are: {', '.join(JOBS)}")
    for job in arguments.jobs:
        say(f"# {job} on {PLACES[arguments.broker]}")
        if job == HOOK:
            hook.measure_all(arguments.broker, arguments.runs, arguments.output, only=arguments.only)
        else:
            say(str(run(job, arguments)))


def run(job: str, arguments: argparse.Namespace) -> Path:
    """Run one job on its own broker; write its table again after every round. Return the table's path."""
    # All processes started from here on, especially brokers, stay off the core of the jobs.
    os.sched_setaffinity(0, cores()[1])
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bootstrap = stack.enter_context(broker(arguments.broker, folder))
        mock = arguments.broker == "mock"
        rows = min(arguments.rows or ROWS[job], MOCK_ROWS) if mock else arguments.rows or ROWS[job]
        partitions = MOCK_PARTITIONS if mock else workload.PARTITIONS
        stream = scorer.fill(bootstrap, folder, rows, workload.features(), partitions)
        setting = scorer.Setting(bootstrap, stream, folder, rows, arguments.seconds, partitions)
        what, base, contenders = contending(job, setting, stack)
        wanted = arguments.only.split(";") if arguments.only else [""]
        chosen = {name: call for name, call in contenders.items() if any(part in name for part in wanted)}
        name, title = f"{job}-{arguments.broker}", f"{what}, one core, on {PLACES[arguments.broker]}"

        def keep(series: list[Series]) -> None:
            tables.write(Result(name, title, series, base, rows), arguments.output)

        interleaved(chosen, arguments.runs, say, keep)
        return Path(arguments.output) / f"{name}.md"


def contending(
    job: str, setting: scorer.Setting, stack: contextlib.ExitStack
) -> tuple[str, str, Mapping[str, Callable[[int], Measured]]]:
    """Return what a job does, the baseline of its ratios, and its contenders."""
    if job == "scorer":
        return "Every capture scored by 100 trees", scorer.PLAIN, scorer.scored(setting)
    if job == "drain":
        return "Captures read and not sampled", scorer.ALONE, scorer.sampled_out(setting)
    from tests.support.servers import postgres

    url = stack.enter_context(postgres.running(setting.folder))
    joining = joiner.Joining(setting, url, joiner.score(setting))
    return "Captures and outcomes joined into PostgreSQL", joiner.QUIX, joiner.joined(joining)


if __name__ == "__main__":
    main()
