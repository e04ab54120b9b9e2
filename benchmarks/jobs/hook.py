"""The cost of the hook for a live service, compared with its peers: `python -m benchmarks hook-loads`.

Each contender runs in a separate process on one core, all with the same interpreter and libraries, in turns; the broker
has the other cores. There are four loads: a steady rate and full speed, each on one thread and on eight. Existing runs
are kept, so that the loads may be measured one at a time. The tables go to benchmarks/results/.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import workload
from benchmarks.harness.brokers import broker
from benchmarks.harness.running import PEERS_PYTHON, ROOT, cores, say
from benchmarks.output import tables
from benchmarks.output.tables import RESULTS

GNOMON = "gnomon"
BASELINE = "fastavro inline"
NOTHING = "none"
NAMES = (
    NOTHING,
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
TOPICS = ("bench-hook", *(f"gnomon.bench.{part}" for part in ("live", "schemas", "producers")))
SECONDS = 1.5
_VERSION = "import confluent_kafka; print(confluent_kafka.libversion()[0])"

Runs = dict[str, list[dict[str, float]]]


@dataclass(frozen=True, slots=True)
class Load:
    """Requests a second, 0 for full speed, and the threads that make them."""

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


def measure(bootstrap: str, names: list[str], runs: int, load: Load, seconds: float) -> tuple[Runs, dict[str, str]]:
    """Run every contender `runs` times, interleaved; return percentiles in microseconds, and errors by name."""
    found: Runs = defaultdict(list)
    errors: dict[str, str] = {}
    for number in range(runs):
        for name in names:
            if name in errors:
                continue
            told = [name, bootstrap, str(load.rate), str(seconds), str(load.threads)]
            done = subprocess.run(
                ["taskset", "-c", str(min(cores()[0])), PEERS_PYTHON, "-m", "benchmarks.peers.hook", *told],
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=seconds * 4 + 60,
                env={name: value for name, value in os.environ.items() if not name.startswith("GNOMON_")},
                check=False,
            )
            if done.returncode:
                errors[name] = tables.reason(done.stderr)
                say(f"{name}: FAILED: {errors[name]}")
                continue
            found[name].append(latest := json.loads(done.stdout.splitlines()[-1]))
            say(f"run {number + 1}, {name}: {', '.join(f'{key} {latest[key]:.1f}' for key in COLUMNS)}")
    return found, errors


def rows(result: tables.Data, columns: Sequence[str] = COLUMNS) -> list[str]:
    """Return one load's table: medians over the runs with their spread in microseconds, and ratios to the baseline."""
    runs, errors = result["runs"], result["errors"]
    base = tables.median(runs[BASELINE], "call_p50") if BASELINE in runs else None
    heads = [column.replace("_", " ").replace("p999", "p99.9") for column in columns]

    def cells(name: str, found: list[dict[str, float]]) -> Iterator[str]:
        yield name
        for column in columns:
            yield "–" if column.startswith("call") and name == NOTHING else tables.spread(found, column, ",.1f")
        yield f"{tables.median(found, 'requests_per_second'):,.0f}"
        yield f"{sum(run['lost'] for run in found) / sum(run['made'] for run in found):.1%}"
        yield str(len(found))
        yield f"{tables.median(found, 'call_p50') / base:.2f} ×" if base and name != NOTHING else ""

    return tables.table(
        ["", *heads, "requests/s", "lost", "runs", f"call p50 against {BASELINE}"],
        [
            *([*cells(name, found)] for name, found in runs.items()),
            *([name, f"cannot run: {why}", *[""] * (len(heads) + 3)] for name, why in errors.items()),
        ],
    )


def how(result: tables.Data) -> str:
    """Return the load, and where and when it was measured."""
    load = Load(result["rate"], result["threads"])
    return f"{load}, runs of {result['seconds']:g} s: {tables.measured(result['machine'])}"


def measure_all(
    kind: str,
    runs: int,
    output: Path,
    loads: Iterable[str] = tuple(LOADS),
    only: str | None = None,
    seconds: float = SECONDS,
) -> Path:
    """Measure loads and add their runs to the stored ones; return the paths of the tables."""
    names = [name for name in NAMES if any(part in name for part in (only or "").split(";"))]
    kept = output / f"hook-{kind}.json"
    output.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    # All contenders have the peers' interpreter and libraries.
    version = subprocess.run([PEERS_PYTHON, "-c", _VERSION], capture_output=True, text=True, check=True).stdout.strip()
    os.sched_setaffinity(0, cores()[1])  # the broker's, which is started from here
    with tempfile.TemporaryDirectory() as scratch, broker(kind, Path(scratch)) as bootstrap:
        workload.create(bootstrap, *TOPICS)
        for name in loads:
            load = LOADS[name]
            found, errors = measure(bootstrap, names, runs, load, seconds)
            results[name] = {
                "machine": tables.machine() | {"librdkafka": version},
                "rate": load.rate,
                "threads": load.threads,
                "seconds": seconds,
                "runs": found,
                "errors": errors,
            }
            kept.write_text(json.dumps(results, indent=1) + "\n")
            kept.with_suffix(".md").write_text(markdown(kind, results))
    return kept.with_suffix(".md")


def markdown(kind: str, results: tables.Data) -> str:
    """Return the tables of all loads."""
    place = "Apache Kafka" if kind == "kafka" else "librdkafka's mock"
    lines = [f"## What a capture costs the live service, in microseconds, on {place}", ""]
    for name in LOADS:
        if name in results:
            lines += [how(results[name]), "", *rows(results[name]), ""]
    return "\n".join(lines)


def main() -> None:
    """Measure the loads that the command line names, and write the tables of all measured loads."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks hook-loads", description=__doc__)
    parser.add_argument("loads", nargs="*", default=list(LOADS), help=f"of {', '.join(LOADS)}; default: all")
    parser.add_argument("--only", help="contenders whose names hold one of these texts (a;b;c)")
    parser.add_argument("--broker", choices=("mock", "kafka"), default="kafka")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"of a run; default: {SECONDS:g}")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the tables")
    given = parser.parse_args()
    sys.stdout.write(
        measure_all(given.broker, given.runs, given.output, given.loads, given.only, given.seconds).read_text()
    )
