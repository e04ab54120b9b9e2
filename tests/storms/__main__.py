"""`python -m tests.storms`: storms of given seeds, each verified; a seed always draws the same faults."""

import argparse
import sys
import time

from tests.storms.storm import storm


def main() -> int:
    """Return 1 if something was lost, doubled or torn."""
    parser = argparse.ArgumentParser(prog="python -m tests.storms", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="how many storms; default 1")
    parser.add_argument("--first", type=int, default=int(time.time()), help="the first seed; default by the clock")
    parser.add_argument("--minutes", type=float, default=5.0, help="how long each storm blows; default 5")
    options = parser.parse_args()
    failed = 0
    for seed in range(options.first, options.first + options.seeds):
        print(f"seed {seed}", flush=True)
        report = storm(seed, options.minutes * 60)
        verdict = report.verdict
        assert verdict is not None
        failed += not verdict.holds
        print(
            f"  {sum(report.faults.values())} faults, {verdict.captures} captures, {verdict.windows} windows,"
            f" {verdict.pairs} pairs; {verdict.lost} lost, {verdict.doubled} doubled, {verdict.torn} torn;"
            f" recovered in {report.recovery_seconds:.1f} s"
        )
        for name, count in report.faults.most_common():
            print(f"    {count:4}  {name}")
        for line in verdict.wrong:
            print(f"  WRONG: {line}")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
