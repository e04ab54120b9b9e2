"""`make bench-guard`: fails when a stage costs over twice what it did, against the plain loop of the same run."""

import json
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks import stages, tables

BASELINE = tables.RESULTS / "guard.json"
GUARDED = (stages.OURS, stages.COLUMNS, stages.PAIRS)
FACTOR = 2.0
RUNS = 3


def main() -> None:
    """Measure; with `--write` keep the ratios as what later runs are compared with."""
    with tempfile.TemporaryDirectory() as folder:
        work = stages.stages(Path(folder))
        runs = [{name: stages.measured(work[name]).cpu_us for name in (stages.LOOP, *GUARDED)} for _ in range(RUNS)]
    found = {name: statistics.median(run[name] / run[stages.LOOP] for run in runs) for name in GUARDED}
    if "--write" in sys.argv:
        BASELINE.write_text(json.dumps({"machine": tables.machine(), "share_of_plain_loop": found}, indent=1) + "\n")
    before = json.loads(BASELINE.read_text())["share_of_plain_loop"]
    worse = [name for name, share in found.items() if share > FACTOR * before[name]]
    for name, share in found.items():
        sys.stdout.write(f"{name}: {share:.4f} of the plain loop's CPU (kept: {before[name]:.4f})\n")
    if worse:
        sys.stderr.write(f"over {FACTOR:g} times what was kept: {'; '.join(worse)}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
