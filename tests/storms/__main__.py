"""`python -m tests.storms`: storms of given seeds, each verified; a seed always draws the same faults."""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence

from tests.storms.storm import Report, storm


def main() -> int:
    """Return 1 if something was lost, doubled or torn."""
    parser = argparse.ArgumentParser(prog="python -m tests.storms", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="how many storms; default 1")
    parser.add_argument("--first", type=int, default=int(time.time()), help="the first seed; default by the clock")
    parser.add_argument("--minutes", type=float, default=5.0, help="how long each storm blows; default 5")
    options = parser.parse_args()
    reports: list[Report] = []
    for seed in range(options.first, options.first + options.seeds):
        print(f"seed {seed}", flush=True)
        report = storm(seed, options.minutes * 60)
        verdict = report.verdict
        assert verdict is not None
        reports.append(report)
        print(
            f"  {sum(report.faults.values())} faults, {verdict.captures} captures, {verdict.windows} windows,"
            f" {verdict.pairs} pairs; {verdict.lost} lost, {verdict.doubled} doubled, {verdict.torn} torn;"
            f" recovered in {report.recovery_seconds:.1f} s"
        )
        for line in verdict.wrong:
            print(f"  WRONG: {line}")
        print_faults(reports)
    return not all(report.verdict and report.verdict.holds for report in reports)


def print_faults(reports: Sequence[Report]) -> None:
    """Print how often each fault struck in all storms so far, and how many captures were acknowledged during it."""
    faults: Counter[str] = Counter()
    captures: Counter[str] = Counter()
    for report in reports:
        faults += report.faults
        captures += report.captures
    print(f"  so far: {len(reports)} storms, {faults.total()} faults, {captures.total()} captures during a fault")
    for name, count in faults.most_common():
        print(f"    {count:4}  {name}, {captures[name]} captures", flush=True)


if __name__ == "__main__":
    sys.exit(main())
