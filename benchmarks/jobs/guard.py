"""`make bench-guard`: fails if a stage costs more than twice its former share of the plain loop of the same run."""

import json
import statistics
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from benchmarks.jobs import stages
from benchmarks.output import tables

BASELINE = tables.RESULTS / "guard.json"
GUARDED = (stages.OURS, stages.COLUMNS, stages.PAIRS, stages.SAMPLE, stages.MARKED, stages.HOOK)
FACTOR = 2.0
RUNS = 3
TRIES = 4


def main() -> None:
    """Measure; with `--write` store the ratios for comparison with later runs."""
    with tempfile.TemporaryDirectory() as folder:
        work = stages.stages(Path(folder))
        if "--write" in sys.argv:
            found = shares(work, RUNS * TRIES)
            BASELINE.write_text(
                json.dumps({"machine": tables.machine(), "share_of_plain_loop": found}, indent=1) + "\n"
            )
        before: dict[str, float] = json.loads(BASELINE.read_text())["share_of_plain_loop"]
        # Other work on the machine makes some measurements expensive, slower code makes all of them expensive.
        for _ in range(TRIES):
            found = shares(work, RUNS)
            worse = [name for name, share in found.items() if share > FACTOR * before[name]]
            for name, share in found.items():
                sys.stdout.write(f"{name}: {share:.4f} of the plain loop's CPU (kept: {before[name]:.4f})\n")
            if not worse:
                return
    sys.stderr.write(f"over {FACTOR:g} times what was kept, {TRIES} times in a row: {'; '.join(worse)}\n")
    sys.exit(1)


def shares(work: Mapping[str, stages.Stage], runs: int) -> dict[str, float]:
    """Return the CPU time of each guarded stage divided by the plain loop's, the median of the runs."""
    measured = [{name: stages.measured(work[name]).cpu_us for name in (stages.LOOP, *GUARDED)} for _ in range(runs)]
    return {name: statistics.median(run[name] / run[stages.LOOP] for run in measured) for name in GUARDED}
