"""What the hook costs a live service, beside its peers: `python -m benchmarks.hook`.

Each contender runs in a process of its own on one core, all with the same interpreter and libraries, one after the
other and then all over again; the broker has the other cores. There are four loads, a steady rate and as fast as it
goes, each on one thread and on eight; runs that are there already are kept, so that the loads may be measured one at a
time. The tables go to benchmarks/results/.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.__main__ import broker
from benchmarks.running import PEERS_PYTHON, ROOT, cores
from benchmarks.tables import RESULTS, machine

GNOMON = "gnomon"
BASELINE = "fastavro inline"
NAMES = (
    "none",
    GNOMON,
    BASELINE,
    "AvroSerializer",
    "Quix Streams, Avro",
    "Quix Streams, JSON",
    "aiokafka",
    "kafka-python",
    "OpenTelemetry",
    "Sentry",
    "laboratory",
    "Evidently",
)
COLUMNS = ("call_p50", "call_p99", "call_p999", "request_p50", "request_p99", "request_p999")

Runs = dict[str, list[dict[str, float]]]


@dataclass(frozen=True, slots=True)
class Load:
    """Requests a second, 0 for as many as there may be, and the threads that make them."""

    rate: float
    threads: int

    def __str__(self) -> str:
        pace = f"{self.rate:,.0f} requests/s" if self.rate else "as fast as it goes"
        return f"{pace}, {self.threads} thread{'s' if self.threads > 1 else ''}"


LOADS = {
    "paced-1": Load(2000.0, 1),
    "paced-8": Load(2000.0, 8),
    "saturated-1": Load(0.0, 1),
    "saturated-8": Load(0.0, 8),
}


def measure(
    python: Path, bootstrap: str, names: list[str], runs: int, load: Load, seconds: float
) -> tuple[Runs, dict[str, str]]:
    """Run every contender `runs` times, interleaved; return percentiles in microseconds, and errors by name."""
    found: Runs = defaultdict(list)
    errors: dict[str, str] = {}
    for number in range(runs):
        for name in names:
            if name in errors:
                continue
            told = [name, bootstrap, str(load.rate), str(seconds), str(load.threads)]
            done = subprocess.run(
                ["taskset", "-c", str(min(cores()[0])), python, "-m", "benchmarks.peers.hook", *told],
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=seconds * 4 + 60,
                env={name: value for name, value in os.environ.items() if not name.startswith("GNOMON_")},
                check=False,
            )
            if done.returncode:
                errors[name] = done.stderr.strip().splitlines()[-1][-300:]
                sys.stderr.write(f"{name}: FAILED: {errors[name]}\n")
                continue
            found[name].append(latest := json.loads(done.stdout.splitlines()[-1]))
            sys.stderr.write(f"run {number + 1}, {name}: {', '.join(f'{key} {latest[key]:.1f}' for key in COLUMNS)}\n")
    return found, errors


def make_topics(bootstrap: str) -> None:
    """Make what the contenders write to: a broker does not make topics by itself."""
    names = ("bench-hook", *(f"gnomon.bench.{part}" for part in ("live", "schemas", "producers")))
    admin = AdminClient({"bootstrap.servers": bootstrap})  # has to outlive its futures
    for future in admin.create_topics([NewTopic(name, 4, 1) for name in names]).values():
        future.result()


def median(runs: list[dict[str, float]], column: str) -> float:
    """The median of a contender's runs."""
    return float(statistics.median(run[column] for run in runs))


def rows(result: dict[str, Any]) -> Iterator[str]:
    """The lines of one load's table: medians over the runs with their spread, and the call against the baseline."""
    where, runs = result["machine"], result["runs"]
    heads = [column.replace("_", " ").replace("p999", "p99.9") for column in COLUMNS]
    yield f"### {Load(result['rate'], result['threads'])}"
    yield ""
    yield f"{where['at']}, {where['processor']}, {where['cores']} cores, Python {where['python']}, load average"
    yield f"at the end {where['load_average'][0]}; median of the runs (least – most), {result['seconds']:g} s each."
    yield ""
    yield f"| | {' | '.join(heads)} | requests/s | lost | runs | call p50 against {BASELINE} |"
    yield f"|---|{'---:|' * (len(COLUMNS) + 4)}"
    for name, found in runs.items():
        cells = []
        for column in COLUMNS:
            values = [run[column] for run in found]
            cells.append(f"{median(found, column):.1f} ({min(values):.1f} – {max(values):.1f})")
        lost = sum(run["lost"] for run in found) / sum(run["made"] for run in found)
        ratio = median(found, "call_p50") / median(runs[BASELINE], "call_p50") if BASELINE in runs else 0.0
        rate = median(found, "requests_per_second")
        yield f"| {name} | {' | '.join(cells)} | {rate:,.0f} | {lost:.1%} | {len(found)} | {ratio:.2f} × |"
    for name, error in result["errors"].items():
        yield f"| {name} | could not be measured: {error} |"
    yield ""


def main() -> None:
    """Measure the loads that the command line names, and write the tables of all that were measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hook", description=__doc__)
    parser.add_argument("loads", nargs="*", default=list(LOADS), help=f"of {', '.join(LOADS)}; default: all")
    parser.add_argument("--only", help="contenders, separated by semicolons; default: all")
    parser.add_argument("--python", type=Path, default=PEERS_PYTHON, help="interpreter that has the peers")
    parser.add_argument("--broker", choices=("mock", "kafka"), default="kafka")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of a run; default: 3")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the tables")
    given = parser.parse_args()
    names = given.only.split(";") if given.only else list(NAMES)
    kept = given.output / f"hook-{given.broker}.json"
    results: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    available = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores()[1])  # the broker's, which is started from here
    with tempfile.TemporaryDirectory() as scratch, broker(given.broker, Path(scratch)) as bootstrap:
        os.sched_setaffinity(0, available)
        if given.broker == "kafka":
            make_topics(bootstrap)
        for name in given.loads:
            load = LOADS[name]
            runs, errors = measure(given.python, bootstrap, names, given.runs, load, given.seconds)
            how = {"rate": load.rate, "threads": load.threads, "seconds": given.seconds}
            results[name] = {"machine": machine(), **how, "runs": runs, "errors": errors}
    place = "Apache Kafka" if given.broker == "kafka" else "librdkafka's mock"
    lines = [f"## What a capture costs the live service, in microseconds, on {place}", ""]
    for name in LOADS:
        lines += rows(results[name]) if name in results else []
    given.output.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(results, indent=1) + "\n")
    (given.output / f"hook-{given.broker}.md").write_text("\n".join(lines))
    sys.stdout.write("\n".join(lines))


if __name__ == "__main__":
    main()
