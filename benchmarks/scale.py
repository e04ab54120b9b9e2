"""`python -m benchmarks.scale`: how throughput and delay of the scorer move with what surrounds it.

Each line is a run of the shipped command on one core, real Apache Kafka on the others. The figures go to
`benchmarks/results/scale.json` (a part measured again replaces its own), the picture to `docs/images/scale.svg`.
"""

import argparse
import contextlib
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
from confluent_kafka import Producer
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from benchmarks import scorer, tables, workload
from benchmarks.__main__ import broker, say
from benchmarks.running import ROOT, BenchmarkError, Job, Measured, cores
from gnomon_schemas.codec import Record

RESULT = tables.RESULTS / "scale.json"
PICTURE = ROOT / "docs" / "images" / "scale.svg"
# What the scorer may score in the runs of the arrival rate: so low that ten times of it can still be produced.
BUDGET = 3000
ARRIVALS = (0.1, 0.3, 1.0, 3.0, 10.0)
EFFICIENCY = 0.8  # of the budget that is planned with: the default of `score.efficiency`
WINDOW_S = 1.0
_EVERYWHERE = os.sched_getaffinity(0)
# Windows of about half a second, so that progress is seen.
_SHORT = {"GNOMON_SCORE__RESERVOIR_ROWS": "4000", "GNOMON_SCORE__BATCH_ROWS": "500"}
_SETTLED_S = 6.0  # from the first window: the others have joined by then
Point = dict[str, Any]
Line = tuple[str, list[float], list[float]]


def main() -> None:
    """Measure the parts that the command line names, keep them, and draw what is kept."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
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
    draw(json.loads(RESULT.read_text()))
    say(str(PICTURE))


class Bench:
    """A broker and how much is to be measured on it."""

    def __init__(self, bootstrap: str, folder: Path, rows: int, seconds: float) -> None:
        self.bootstrap, self.folder, self.rows, self.seconds = bootstrap, folder, rows, seconds

    def setting(self, rows: int, stream: str) -> scorer.Setting:
        """What a run of `gnomon score` needs."""
        return scorer.Setting(self.bootstrap, stream, self.folder, rows, 5.0)

    def drained(self, setting: scorer.Setting, at: dict[str, Any], *arguments: str) -> Point:
        """One run over a full topic, every capture scored, as a point."""
        try:
            # Windows of a tenth of the topic at most: in one that holds it all no progress could be seen.
            environment = {"GNOMON_SCORE__RESERVOIR_ROWS": str(min(200_000, setting.rows // 10))}
            measured = scorer.gnomon(setting, "--no-sampling", *arguments, environment=environment)(0)
        except BenchmarkError as error:
            say(f"{at}: FAILED: {error}")
            return {**at, "error": str(error)[-200:]}
        return told(at, measured)


def told(at: dict[str, Any], measured: Measured) -> Point:
    """A measured run as a point."""
    point = {
        **at,
        "rows_per_second": round(measured.rows_per_second),
        "cpu_us": round(measured.cpu_us, 2),
        "peak_mb": round(measured.peak_bytes / 1e6),
    }
    say(str(point))
    return point


def partitions(bench: Bench) -> list[Point]:
    """Every capture scored, from topics of 1 to 64 partitions."""
    points = []
    for count in (1, 4, 16, 64):
        stream = scorer.fill(bench.bootstrap, bench.folder, bench.rows, workload.features(), partitions=count)
        setting = replace(bench.setting(bench.rows, stream), partitions=count)
        points.append(bench.drained(setting, {"partitions": count}))
    return points


def features(bench: Bench) -> list[Point]:
    """Every capture scored, of 10 to 1,000 numbers."""
    points = []
    for count in (10, 30, 100, 300, 1000):
        rows = max(6_000, min(bench.rows, bench.rows * 30 // count))
        stream = scorer.fill(bench.bootstrap, bench.folder, rows, workload.features(count, 0))
        points.append(bench.drained(bench.setting(rows, stream), {"features": count}))
    return points


def members(bench: Bench) -> list[Point]:
    """One, two and four members of a group whose model is elsewhere, on all cores, from when the group has settled."""
    stream = scorer.fill(bench.bootstrap, bench.folder, max(bench.rows, 800_000), workload.features(), partitions=8)
    setting = replace(bench.setting(bench.rows, stream), partitions=8)
    points = []
    for count in (1, 2, 4):
        topic, started = scorer.command(setting, "--no-sampling")
        started[started.index(bench.folder / "trees.onnx")] = "benchmarks.waits:model"
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
                time.sleep(0.05)  # a look at the log from outside now and then costs the members little
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
        points.append(point)
    return points


def window(bench: Bench) -> list[Point]:
    """Three times what may be scored arrives, in windows of at most 0.25 to 20 seconds."""
    stream = scorer.fill(bench.bootstrap, bench.folder, bench.rows, workload.features())
    points = []
    for seconds in (0.25, 1.0, 5.0, 20.0):
        with Arrivals(bench, stream, 3 * BUDGET * EFFICIENCY) as arrivals:
            point = paced(bench, arrivals, {"window_s": seconds}, seconds)
        points.append(point)
    return points


def arrival(bench: Bench) -> list[Point]:
    """From a tenth to ten times of what may be scored: sampled share, delay of a window, throughput."""
    stream = scorer.fill(bench.bootstrap, bench.folder, 5_000, workload.features())
    points = []
    for share in ARRIVALS:
        rate = share * BUDGET * EFFICIENCY
        with Arrivals(bench, stream, rate) as arrivals:
            points.append(paced(bench, arrivals, {"arrival": share, "captures_per_second": round(rate)}, WINDOW_S))
    return points


def paced(bench: Bench, arrivals: "Arrivals", at: dict[str, Any], window_s: float) -> Point:
    """Score what arrives at a steady rate; a window's delay is from its first capture to its being readable."""
    setting = bench.setting(bench.rows, arrivals.stream)
    topic, started = scorer.command(setting, "--budget", str(BUDGET), "--window", str(window_s), "--from", "latest")
    workload.create(bench.bootstrap, topic)
    seals: list[tuple[float, Record]] = []
    with (
        scorer.Seals(bench.bootstrap, topic, lambda record: seals.append((time.time(), record))) as watched,
        Job(started, cores()[0]) as job,
    ):
        job.until(watched.seen, 1)
        warm = time.time() + max(1.0, window_s)
        until = warm + max(bench.seconds, 3 * window_s)
        cpu = 0.0
        while time.time() < until:
            watched.seen()
            if time.time() < warm:
                cpu = job.cpu_s()
            time.sleep(0.005)
        spent = job.cpu_s() - cpu
    counted = [(when, record) for when, record in seals if when >= warm and record["gap"] is None]
    seen = sum(record["end_offset"] - record["start_offset"] for _, record in counted)
    sampled = sum(cell["sampled"] for _, record in counted for cell in record["cells"])
    delays = sorted(when - record["opened_at"] / 1e6 for when, record in counted)
    lasted = until - warm
    point = {
        **at,
        "seen_per_second": round(seen / lasted),
        "scored_per_second": round(sampled / lasted),
        "sampled_share": round(sampled / seen, 4) if seen else None,
        "delay_median_s": round(statistics.median(delays), 3) if delays else None,
        "delay_most_s": round(delays[-1], 3) if delays else None,
        "cpu_share_of_core": round(spent / lasted, 3),
    }
    say(str(point))
    return point


class Arrivals:
    """Produces captures at a steady rate to a stream's live topic, in a thread of its own, until the block ends."""

    def __init__(self, bench: Bench, stream: str, rate: float) -> None:
        self.stream = stream
        self._rate = rate
        self._messages = [(key.encode(), value) for key, value in workload.captures(workload.features(), 10_000)]
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
            due = int((time.monotonic() - began) * self._rate)
            for number in range(sent, due):
                key, value = self._messages[number % len(self._messages)]
                with contextlib.suppress(BufferError):
                    self._producer.produce(
                        f"gnomon.{self.stream}.live", value, key, partition=number % workload.PARTITIONS
                    )
            sent = due
            self._producer.poll(0)


PARTS: dict[str, Callable[[Bench], list[Point]]] = {
    "arrival": arrival,
    "partitions": partitions,
    "members": members,
    "features": features,
    "window": window,
}


def draw(kept: dict[str, Any]) -> None:
    """One panel for each part that there is."""
    panels = list(_panels(kept))
    style: Any = {"svg.fonttype": "none", "svg.hashsalt": "gnomon", "font.size": 8.5, "axes.grid": True}
    with mpl.rc_context(style):
        figure = Figure(figsize=(9.0, 2.6 * ((len(panels) + 1) // 2)), layout="constrained")
        FigureCanvasSVG(figure)
        for place, (title, xlabel, ylabel, lines) in enumerate(panels):
            axes = figure.add_subplot((len(panels) + 1) // 2, 2, place + 1)
            for label, across, up in lines:
                axes.plot(across, up, marker="o", markersize=3, label=label)
            axes.set_xscale("log")
            measured = lines[0][1]
            axes.set_xticks(measured, [f"{x:g}" for x in measured])
            axes.minorticks_off()
            axes.set_ylim(bottom=0)
            axes.set_title(title)
            axes.set_xlabel(xlabel)
            axes.set_ylabel(ylabel)
            if len(lines) > 1:
                axes.legend(frameon=False)
        figure.savefig(PICTURE, format="svg", metadata={"Date": None})


def _panels(kept: dict[str, Any]) -> Iterator[tuple[str, str, str, list[Line]]]:
    def column(part: str, name: str) -> list[float]:
        return [point[name] for point in kept[part]["points"] if "error" not in point]

    if "arrival" in kept:
        at = column("arrival", "arrival")
        what = "arrival rate, times what may be scored"
        share: list[Line] = [("measured", at, column("arrival", "sampled_share"))]
        share.append(("predicted", at, [min(1.0, 1 / x) for x in at]))
        yield "sampled share", what, "share", share
        delay: list[Line] = [
            ("median", at, column("arrival", "delay_median_s")),
            ("most", at, column("arrival", "delay_most_s")),
        ]
        yield f"delay of a window of {WINDOW_S:g} s", what, "seconds", delay
    for part, what in (("partitions", "partitions"), ("features", "features"), ("members", "members")):
        if part in kept:
            at = column(part, part)
            yield f"throughput by {what}", what, "rows/s", [("", at, column(part, "rows_per_second"))]
    if "window" in kept:
        at = column("window", "window_s")
        delay = [("median", at, column("window", "delay_median_s")), ("most", at, column("window", "delay_most_s"))]
        yield "delay by longest life of a window", "seconds", "seconds", delay


if __name__ == "__main__":
    main()
