"""What the hook costs a live service, beside its peers: `python -m benchmarks.hook --python .venv-peers/bin/python`.

Each contender runs in a process of its own, all with the same interpreter and libraries, one after the other and then
all over again, at a steady rate. The tables go to benchmarks/results/.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.running import ROOT
from benchmarks.tables import RESULTS, machine

PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
NAMES = (
    "none",
    "gnomon",
    "fastavro inline",
    "AvroSerializer",
    "Quix Streams, Avro",
    "Quix Streams, JSON",
    "aiokafka",
    "kafka-python",
    "OpenTelemetry",
    "Sentry",
    "laboratory",
)
COLUMNS = ("call_p50", "call_p99", "call_p999", "request_p50", "request_p99", "request_p999")
BASELINE = "fastavro inline"

Runs = dict[str, list[dict[str, float]]]


def measure(
    python: Path, bootstrap: str, names: list[str], runs: int, rate: float, seconds: float
) -> tuple[Runs, dict[str, str]]:
    """Run every contender `runs` times, interleaved; return percentiles in microseconds, and errors by name."""
    found: Runs = defaultdict(list)
    errors: dict[str, str] = {}
    for number in range(runs):
        for name in names:
            if name in errors:
                continue
            done = subprocess.run(
                [python, "-m", "benchmarks.peers.hook", name, bootstrap, str(rate), str(seconds)],
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
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
            latest = found[name][-1]
            sys.stderr.write(f"run {number + 1}, {name}: {', '.join(f'{key} {latest[key]:.1f}' for key in COLUMNS)}\n")
    return found, errors


def make_topics(bootstrap: str) -> None:
    """Make what the contenders write to: a broker does not make topics by itself."""
    names = ("bench-hook", *(f"gnomon.bench.{part}" for part in ("live", "schemas", "producers")))
    admin = AdminClient({"bootstrap.servers": bootstrap})  # has to outlive its futures
    for future in admin.create_topics([NewTopic(name, 4, 1) for name in names]).values():
        future.result()


def median(runs: Runs, name: str, column: str) -> float:
    """The median of a contender's runs."""
    return float(statistics.median(run[column] for run in runs[name]))


def markdown(
    runs: Runs, errors: dict[str, str], where: dict[str, Any], rate: float, seconds: float, broker: str
) -> str:
    """The table: medians over the runs with their spread, and the call against plain fastavro-and-produce."""
    heads = [column.replace("_", " ").replace("p999", "p99.9") for column in COLUMNS]
    lines = [
        f"## What a capture costs the live service, {rate:,.0f} requests/s, one thread, on {broker}",
        "",
        f"{where['at']}, {where['processor']}, {where['cores']} cores, Python {where['python']},",
        f"librdkafka {where['librdkafka']}; load average at the end {where['load_average'][0]}.",
        f"Microseconds: median of the runs (least – most); each run {seconds:g} s.",
        "",
        f"| | {' | '.join(heads)} | runs | call p50 against {BASELINE} |",
        f"|---|{'---:|' * (len(COLUMNS) + 2)}",
    ]
    for name, found in runs.items():
        cells = []
        for column in COLUMNS:
            values = [run[column] for run in found]
            cells.append(f"{median(runs, name, column):.1f} ({min(values):.1f} – {max(values):.1f})")
        ratio = median(runs, name, "call_p50") / median(runs, BASELINE, "call_p50") if BASELINE in runs else 0.0
        lines.append(f"| {name} | {' | '.join(cells)} | {len(found)} | {ratio:.2f} × |")
    lines += [f"| {name} | could not be measured: {error} |" for name, error in errors.items()]
    return "\n".join([*lines, ""])


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hook", description=__doc__)
    parser.add_argument("names", nargs="*", default=list(NAMES), help=f"of {', '.join(NAMES)}; default: all")
    parser.add_argument("--python", type=Path, default=PEERS_PYTHON, help="interpreter that has the peers")
    parser.add_argument("--broker", choices=("mock", "kafka"), default="mock")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--rate", type=float, default=2000.0, help="requests a second; default: 2,000")
    parser.add_argument("--seconds", type=float, default=5.0, help="of a run; default: 5")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the tables")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if given.broker == "kafka":
            from tests.servers import kafka

            with kafka.running(Path(scratch)) as bootstrap:
                make_topics(bootstrap)
                runs, errors = measure(given.python, bootstrap, given.names, given.runs, given.rate, given.seconds)
        else:
            cluster = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "mock", "log_level": 0})
            brokers = cluster.list_topics(timeout=10).brokers.values()
            bootstrap = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
            runs, errors = measure(given.python, bootstrap, given.names, given.runs, given.rate, given.seconds)
    where = machine()
    place = "Apache Kafka" if given.broker == "kafka" else "librdkafka's mock"
    text = markdown(runs, errors, where, given.rate, given.seconds, place)
    given.output.mkdir(parents=True, exist_ok=True)
    (given.output / f"hook-{given.broker}.md").write_text(text)
    result = {"machine": where, "rate": given.rate, "seconds": given.seconds, "runs": runs, "errors": errors}
    (given.output / f"hook-{given.broker}.json").write_text(json.dumps(result, indent=1) + "\n")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
