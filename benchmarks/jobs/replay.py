"""`python -m benchmarks replay`: the load test of `gnomon replay --batch 1` on the hundred trees, at several rates.

One worker; nothing is pinned, so that sender and worker have a core each, if there are two. The figures go to
`benchmarks/results/replay.json`, the table to the terminal.
"""

import argparse
import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import workload
from benchmarks.harness.brokers import broker
from benchmarks.harness.running import COMMAND, say
from benchmarks.jobs import scorer
from benchmarks.output import tables

RATES = (100, 300, 1000, 2000, 3000, 5000)
RESULT = tables.RESULTS / "replay.json"
COLUMNS = ("offered/s", "answered/s", "response p50", "p95", "p99", "service p50", "p95", "p99", "cores", "MiB")


def main() -> None:
    """Measure every rate, each with requests for the same time, and store the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks replay", description=__doc__)
    parser.add_argument("--rates", type=float, nargs="+", default=RATES, help="requests a second")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each rate; default: 10")
    arguments = parser.parse_args()
    rows = round(max(arguments.rates) * arguments.seconds)
    found = []
    with tempfile.TemporaryDirectory() as folder, broker("kafka", Path(folder)) as bootstrap:
        stream = scorer.fill(bootstrap, Path(folder), rows, workload.features())
        say(line(COLUMNS))
        say(line(["---:"] * len(COLUMNS)))
        for rate in arguments.rates:
            found.append(replayed(bootstrap, stream, Path(folder), rate, round(rate * arguments.seconds)))
            say(line(cells(found[-1])))
    RESULT.write_text(json.dumps({"machine": tables.machine(), "points": found}, indent=1) + "\n")


def replayed(bootstrap: str, stream: str, folder: Path, rate: float, captures: int) -> dict[str, Any]:
    """Return the output of `gnomon replay --json`."""
    command = [
        COMMAND, "replay", "--bootstrap-servers", bootstrap, "--stream", stream,
        "--model", folder / "trees.onnx", "--rate", rate, "--batch", 1, "--captures", captures, "--json",
    ]  # fmt: skip
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, text=True, check=True)
    report: dict[str, Any] = json.loads(done.stdout)
    if report["failed"] or report["requests"] != captures:
        raise RuntimeError(f"not every request was answered: {report}")
    return report


def cells(point: dict[str, Any]) -> list[str]:
    """Return one line of the table; times in milliseconds."""
    times = [f"{point[name][part]:.2f}" for name in ("response_ms", "service_ms") for part in ("p50", "p95", "p99")]
    rates = [f"{point[name]:,.0f}" for name in ("offered_per_second", "achieved_per_second")]
    return [*rates, *times, f"{point['cpu_cores']:.2f}", f"{point['peak_rss_bytes'] / 2**20:.0f}"]


def line(cells: Sequence[str]) -> str:
    """Return a line of a Markdown table."""
    return f"| {' | '.join(cells)} |"
