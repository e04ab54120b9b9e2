"""`python -m benchmarks split`: the CPU time of a live scorer by thread, and the model's own, in microseconds a row."""

import argparse
import contextlib
import json
import time
from pathlib import Path

import numpy as np
import onnxruntime

from benchmarks.harness import workload
from benchmarks.harness.running import Job, cores, say
from benchmarks.jobs import scorer
from benchmarks.output import tables

RESULT = tables.RESULTS / "split.json"
_FIRST, _LEAST_US = 5000, 0.02
_MODEL_ROWS, _MODEL_CALLS = 4096, 100


def main() -> None:
    """Score a full topic, every capture; print and store the time of each thread from the first windows to the last."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks split", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="captures in the topic; default: 1,000,000")
    rows = parser.parse_args().rows
    with scorer.filled(rows, 5.0) as setting:
        topic, started = scorer.command(setting, "--no-sampling")
        workload.create(setting.bootstrap, topic)
        with scorer.watching(setting, topic) as progress, Job(started, cores()[0]) as job:
            first = job.until(progress.seen, _FIRST)
            before, began = threads(job.pids()), time.perf_counter()
            job.until(progress.seen, rows, 120)
            seconds, after = time.perf_counter() - began, threads(job.pids())
        of_model = model(setting.folder)
    done = rows - first
    spent = {name: 1e6 * (after[name] - before.get(name, 0.0)) / done for name in after}
    kept = {
        "machine": tables.machine(),
        "rows_per_second": round(done / seconds),
        "cpu_us": round(sum(spent.values()), 2),
        "model_us": round(of_model, 2),
        "threads_us": {
            name: round(us, 2) for name, us in sorted(spent.items(), key=lambda one: -one[1]) if us > _LEAST_US
        },
    }
    RESULT.write_text(json.dumps(kept, indent=1) + "\n")
    say(json.dumps(kept, indent=1))


def threads(pids: list[int]) -> dict[str, float]:
    """Return the processor seconds so far by thread: the index of its process in `pids`, its name, its number there."""
    found: dict[str, float] = {}
    for place, pid in enumerate(pids):
        with contextlib.suppress(OSError):
            for number, task in enumerate(sorted(Path(f"/proc/{pid}/task").iterdir(), key=lambda one: int(one.name))):
                name = (task / "comm").read_text().strip()
                found[f"process {place}, {name} {number}"] = int((task / "schedstat").read_text().split()[0]) / 1e9
    return found


def model(folder: Path) -> float:
    """Return microseconds of CPU a row of the trees alone, in large batches on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(folder / "trees.onnx", options, providers=["CPUExecutionProvider"])
    columns = np.random.default_rng(0).normal(size=(_MODEL_ROWS, 20)).astype(np.float32)
    feed = {session.get_inputs()[0].name: columns}
    session.run(None, feed)
    began = time.process_time()
    for _ in range(_MODEL_CALLS):
        session.run(None, feed)
    return 1e6 * (time.process_time() - began) / (_MODEL_ROWS * _MODEL_CALLS)
