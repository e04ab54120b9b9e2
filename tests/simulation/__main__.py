"""`python -m tests.simulation`: simulate many seeds, or replay one."""

import argparse
import sys
import time
from collections import Counter

from tests.simulation.processes import be_quiet
from tests.simulation.simulation import Course, Result, lasting, quiet, run


def main() -> int:
    """Return 1 if a seed failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000, help="how many seeds; default 2000")
    parser.add_argument("--first", type=int, default=0, help="the first seed; default 0")
    parser.add_argument("--seconds", type=float, help="end after so many seconds of real time, whatever --seeds says")
    parser.add_argument("--hours", type=float, help="simulate so many hours a seed, with little traffic; default 45 s")
    parser.add_argument(
        "--quiet", action="store_true", help="with --hours: hardly any traffic, and faults an hour apart"
    )
    parser.add_argument("--stop", action="store_true", help="end at the first seed that fails")
    parser.add_argument("--replay", type=int, metavar="SEED", help="run one seed and print its history")
    options = parser.parse_args()
    if options.quiet and options.hours is None:
        parser.error("--quiet needs --hours")
    course = Course() if options.hours is None else (quiet if options.quiet else lasting)(options.hours)
    be_quiet()
    if options.replay is not None:
        result = run(options.replay, course)
        print(*result.history, sep="\n")
        print(result.violation or f"seed {result.seed} holds")
        return bool(result.violation)
    begun = time.monotonic()
    results: list[Result] = []
    for seed in range(options.first, options.first + options.seeds):
        results.append(run(seed, course))
        if results[-1].violation:
            print(f"seed {seed}: {results[-1].violation} (python -m tests.simulation --replay {seed})", flush=True)
            if options.stop:
                break
        if options.seconds is not None and time.monotonic() - begun > options.seconds:
            break
    summary(results, time.monotonic() - begun, time.process_time())
    return any(result.violation for result in results)


def summary(results: list[Result], seconds: float, cpu_seconds: float) -> None:
    """Print the simulated time and faults, and what a simulated hour holds."""
    faults: Counter[str] = Counter()
    for result in results:
        faults.update(result.faults)
    minutes, captures = sum(one.minutes for one in results), sum(one.captures for one in results)
    windows, hours = sum(one.windows for one in results), minutes / 60
    print(
        f"{len(results)} seeds, {minutes:.0f} simulated minutes in {seconds:.0f} s ({cpu_seconds:.0f} CPU seconds);"
        f" {captures} captures, {windows} windows,"
        f" {sum(one.pairs for one in results)} pairs, {sum(one.steps for one in results)} steps;"
        f" {sum(bool(one.violation) for one in results)} violations"
    )
    print(
        f"  a simulated hour holds {captures / hours:.2f} captures, {windows / hours:.2f} windows,"
        f" {faults.total() / hours:.2f} faults"
    )
    for name, count in faults.most_common():
        print(f"  {count:8}  {name}")


if __name__ == "__main__":
    sys.exit(main())
