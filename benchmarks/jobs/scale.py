"""`python -m benchmarks scale`: throughput and delay of the scorer as functions of its environment.

Each point is a run of the shipped command on one core, real Apache Kafka on the others. Throughput is measured over
full topics, delay while captures arrive at a steady rate. The points go to `benchmarks/results/scale.json` (a part
measured again replaces its own), and the picture is drawn again. All parts take about ten minutes.
"""

import argparse
import contextlib
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from benchmarks.harness import workload
from benchmarks.harness.brokers import broker
from benchmarks.harness.running import BenchmarkError, Job, Measured, cores, say
from benchmarks.jobs import scorer
from benchmarks.output import plots, tables
from gnomon_schemas.codec import Record
from gnomon_schemas.features import FeatureSchema

RESULT = tables.RESULTS / "scale.json"
# The scoring limit in the runs of the arrival rate: so low that ten times as many captures can be produced.
BUDGET = 3000
ARRIVALS = (0.1, 0.3, 1.0, 3.0, 10.0)
EFFICIENCY = 0.8  # of the planned budget: the default of `score.efficiency`
WINDOW_S = 1.0
# Captures a second if another quantity is varied: low enough for a thousand features.
STEADY = 200.0
_EVERYWHERE = os.sched_getaffinity(0)
# Windows of about half a second, so that progress is seen.
_SHORT = {"GNOMON_SCORE__RESERVOIR_ROWS": "4000", "GNOMON_SCORE__BATCH_ROWS": "500"}
_SETTLED_S = 6.0  # from the first window: the other members have joined by then
Point = dict[str, Any]
_WAITS = "benchmarks.harness.waits:model"


def main() -> None:
    """Measure the parts that the command line names, store them, and draw the stored points."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks scale", description=__doc__)
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--rows", type=int, default=300_000, help="captures of 25 features; default: 300,000")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each arrival rate; default: 8")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, cores()[1])
    with tempfile.TemporaryDirectory() as folder, broker("kafka", Path(folder)) as bootstrap:
        for part in arguments.parts:
            say(f"# {part}")
            points = PARTS[part](Bench(bootstrap, Path(folder), arguments.rows, arguments.seconds))
            kept = json.loads(RESULT.read_text()) if RESULT.exists() else {}
            kept[part] = {"machine": tables.machine(), "points": points}
            RESULT.write_text(json.dumps(kept, indent=1) + "\n")
    say(str(plots.draw()))


class Bench:
    """A broker and the amount to measure on it."""

    def __init__(self, bootstrap: str, folder: Path, rows: int, seconds: float) -> None:
        self.bootstrap, self.folder, self.rows, self.seconds = bootstrap, folder, rows, seconds

    def setting(self, rows: int, stream: str) -> scorer.Setting:
        """Return the setting of a run of `gnomon score`."""
        return scorer.Setting(self.bootstrap, stream, self.folder, rows, 5.0)

    def drained(self, setting: scorer.Setting, at: dict[str, Any], *arguments: str) -> Point:
        """Return one run over a full topic, every capture scored, as a point."""
        try:
            # Windows of a tenth of the topic at most: with one window, no progress could be measured.
            environment = {"GNOMON_SCORE__RESERVOIR_ROWS": str(min(200_000, setting.rows // 10))}
            measured = scorer.gnomon(setting, "--no-sampling", *arguments, environment=environment)(0)
        except BenchmarkError as error:
            say(f"{at}: FAILED: {error}")
            return {**at, "error": str(error)[-200:]}
        return told(at, measured)


def told(at: dict[str, Any], measured: Measured) -> Point:
    """Return a measured run as a point."""
    point = {
        **at,
        "rows_per_second": round(measured.rows_per_second),
        "cpu_us": round(measured.cpu_us, 2),
        "peak_mb": round(measured.peak_bytes / 1e6),
    }
    say(str(point))
    return point


def partitions(bench: Bench) -> list[Point]:
    """Score every capture, from topics of 1 to 64 partitions."""
    points = []
    for count in (1, 4, 16, 64):
        stream = scorer.fill(bench.bootstrap, bench.folder, bench.rows, workload.features(), partitions=count)
        setting = replace(bench.setting(bench.rows, stream), partitions=count)
        point = bench.drained(setting, {"partitions": count})
        with Arrivals(bench, stream, STEADY, partitions=count) as arrivals:
            points.append(point | delays(paced(bench, arrivals)))
    return points


def features(bench: Bench) -> list[Point]:
    """Score every capture, of 10 to 1,000 numbers."""
    points = []
    for count in (10, 30, 100, 300, 1000):
        rows = max(6_000, min(bench.rows, bench.rows * 30 // count))
        schema = workload.features(count, 0)
        stream = scorer.fill(bench.bootstrap, bench.folder, rows, schema)
        point = bench.drained(bench.setting(rows, stream), {"features": count})
        with Arrivals(bench, stream, STEADY, schema) as arrivals:
            points.append(point | delays(paced(bench, arrivals)))
    return points


def members(bench: Bench) -> list[Point]:
    """Measure one, two and four members of a group whose model is elsewhere, on all cores, after the group settled."""
    stream = scorer.fill(bench.bootstrap, bench.folder, max(bench.rows, 800_000), workload.features(), partitions=8)
    setting = replace(bench.setting(bench.rows, stream), partitions=8)
    points = []
    for count in (1, 2, 4):
        topic, started = scorer.command(setting, "--no-sampling")
        started[started.index(bench.folder / "trees.onnx")] = _WAITS
        workload.create(bench.bootstrap, topic, partitions=8)
        with contextlib.ExitStack() as stack:
            seals = stack.enter_context(scorer.Seals(bench.bootstrap, topic, partitions=8))
            jobs = [
                stack.enter_context(Job([*started, "--member", f"m{number}"], _EVERYWHERE, _SHORT))
                for number in range(count)
            ]
            jobs[0].until(seals.seen, 1)
            settled = time.monotonic() + _SETTLED_S
            while time.monotonic() < settled:
                time.sleep(0.05)  # reading the log from outside occasionally costs the members little
                seals.seen()
            before, began, spent = seals.seen(), time.monotonic(), sum(job.cpu_s() for job in jobs)
            while time.monotonic() < began + bench.seconds:
                time.sleep(0.05)  # as above
                seen = seals.seen()
                for job in jobs:
                    job.check()
            lasted = time.monotonic() - began
            point = {
                "members": count,
                "rows_per_second": round((seen - before) / lasted),
                "cpu_cores": round((sum(job.cpu_s() for job in jobs) - spent) / lasted, 2),
            }
        say(str(point))
        with Arrivals(bench, stream, STEADY, partitions=8) as arrivals:
            points.append(point | delays(paced(bench, arrivals, members=count, model=_WAITS)))
    return points


def window(bench: Bench) -> list[Point]:
    """Send three times the scoring limit, in windows of at most 0.25 to 20 seconds."""
    stream = scorer.fill(bench.bootstrap, bench.folder, bench.rows, workload.features())
    points = []
    for seconds in (0.25, 1.0, 5.0, 20.0):
        with Arrivals(bench, stream, 3 * BUDGET * EFFICIENCY) as arrivals:
            points.append({"window_s": seconds} | paced(bench, arrivals, seconds))
    return points


def arrival(bench: Bench) -> list[Point]:
    """Send from a tenth to ten times the scoring limit: sampled share, delay of a window, throughput."""
    stream = scorer.fill(bench.bootstrap, bench.folder, 5_000, workload.features())
    points = []
    for share in ARRIVALS:
        rate = share * BUDGET * EFFICIENCY
        with Arrivals(bench, stream, rate) as arrivals:
            points.append({"arrival": share, "captures_per_second": round(rate)} | paced(bench, arrivals))
    return points


def delays(point: Point) -> Point:
    """Return the results at the steady rate, with the throughput over a full topic."""
    return {name: point[name] for name in ("delay_median_s", "delay_most_s", "bound_s")}


def paced(
    bench: Bench, arrivals: "Arrivals", window_s: float = WINDOW_S, members: int = 1, model: str | None = None
) -> Point:
    """Score captures at a steady rate; a window's delay is from its first capture until it is readable.

    The bound is W + K/S of docs/scorer.md: a window's life, and the time to score its sample. Reading and writing are
    additional.
    """
    setting = replace(bench.setting(bench.rows, arrivals.stream), partitions=arrivals.partitions)
    topic, started = scorer.command(setting, "--budget", str(BUDGET), "--window", str(window_s), "--from", "latest")
    if model is not None:
        started[started.index(bench.folder / "trees.onnx")] = model
    workload.create(bench.bootstrap, topic, partitions=arrivals.partitions)
    pinned = cores()[0] if members == 1 else _EVERYWHERE
    seals: list[tuple[float, Record]] = []
    with contextlib.ExitStack() as stack:

        def note(record: Record) -> None:
            seals.append((time.time(), record))

        watched = stack.enter_context(scorer.Seals(bench.bootstrap, topic, note, arrivals.partitions))
        jobs = [stack.enter_context(Job([*started, "--member", f"m{at}"], pinned)) for at in range(members)]
        jobs[0].until(watched.seen, 1)
        warm = time.time() + max(_SETTLED_S if members > 1 else 1.0, window_s)
        until = warm + max(bench.seconds, 3 * window_s)
        cpu = 0.0
        while time.time() < until:
            watched.seen()
            if time.time() < warm:
                cpu = sum(job.cpu_s() for job in jobs)
            time.sleep(0.005)
        for job in jobs:
            job.check()
        spent = sum(job.cpu_s() for job in jobs) - cpu
    counted = [(when, record) for when, record in seals if when >= warm and record["gap"] is None]
    if not counted:
        raise BenchmarkError(f"no window in {until - warm:g} s at {arrivals.rate:g} captures/s")
    seen = sum(record["end_offset"] - record["start_offset"] for _, record in counted)
    sampled = sum(cell["sampled"] for _, record in counted for cell in record["cells"])
    waited = sorted(when - record["opened_at"] / 1e6 for when, record in counted)
    lasted = until - warm
    point = {
        "seen_per_second": round(seen / lasted),
        "scored_per_second": round(sampled / lasted),
        "sampled_share": round(sampled / seen, 4),
        "predicted_share": round(min(1.0, BUDGET * EFFICIENCY / arrivals.rate), 4),
        "delay_median_s": round(statistics.median(waited), 3),
        "delay_most_s": round(waited[-1], 3),
        "bound_s": round(window_s * (1 + EFFICIENCY), 3),
        "cpu_share_of_core": round(spent / lasted, 3),
    }
    say(f"{arrivals.rate:g}/s, {members} members, {window_s:g} s: {point}")
    return point


class Arrivals:
    """Produces captures at a steady rate to a stream's live topic, in a thread of its own, until the block ends."""

    def __init__(
        self,
        bench: Bench,
        stream: str,
        rate: float,
        schema: FeatureSchema | None = None,
        partitions: int = workload.PARTITIONS,
    ) -> None:
        self.stream, self.rate, self.partitions = stream, rate, partitions
        captures = workload.captures(schema or workload.features(), 10_000 if schema is None else 1_000)
        self._messages = [(key.encode(), value) for key, value in captures]
        self._producer = Producer({"bootstrap.servers": bench.bootstrap, "linger.ms": 5, "compression.type": "lz4"})
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Arrivals":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._producer.flush(10)

    def _run(self) -> None:
        began, sent = time.monotonic(), 0
        while not self._stop.wait(0.005):
            due = int((time.monotonic() - began) * self.rate)
            for number in range(sent, due):
                key, value = self._messages[number % len(self._messages)]
                with contextlib.suppress(BufferError):
                    self._producer.produce(f"gnomon.{self.stream}.live", value, key, partition=number % self.partitions)
            sent = due
            self._producer.poll(0)


PARTS: dict[str, Callable[[Bench], list[Point]]] = {
    "arrival": arrival,
    "partitions": partitions,
    "members": members,
    "features": features,
    "window": window,
}
