"""Write the coverage of the intervals into docs/statistics.md: `python -m docs.coverage_simulations`, ten minutes.

The figures are those of one seed; tests/property/reports/test_coverage_simulations.py checks their limits.
"""

import argparse
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from tests.support import label_simulation
from tests.support.coverage_settings import SETTINGS
from tests.support.coverage_simulation import METRICS, covered

PAGE = Path(__file__).parent / "statistics.md"
POPULATIONS = 500
PERIODS = 200
END = "<!-- end of coverage -->"
Coverage = Mapping[str, tuple[float, int]]


def main() -> None:
    """Simulate every setting and write the tables."""
    parser = argparse.ArgumentParser(prog="python -m docs.coverage_simulations", description=__doc__)
    parser.add_argument("--only", choices=("estimates", "labels"), help="write one of the two tables")
    only = parser.parse_args().only
    if only != "labels":
        write("coverage", METRICS, SETTINGS, lambda name: covered(SETTINGS[name].setting, POPULATIONS, seed=2013))
    if only != "estimates":
        settings = label_simulation.SETTINGS
        write(
            "coverage of labels", label_simulation.METRICS, settings,
            lambda name: label_simulation.covered(settings[name].traffic, PERIODS, seed=2013),
        )  # fmt: skip


def write(table: str, metrics: Iterable[str], names: Iterable[str], simulate: Callable[[str], Coverage]) -> None:
    """Write one table of the page between its marks."""
    begin = f"<!-- {table}: written by python -m docs.coverage_simulations -->\n"
    metrics = list(metrics)
    lines = ["| traffic | " + " | ".join(metrics) + " |\n", "|---" * (len(metrics) + 1) + "|\n"]
    for name in names:
        shares = ["none" if math.isnan(share) else f"{share:.1%}" for share, _ in simulate(name).values()]
        lines.append(f"| {name} | " + " | ".join(shares) + " |\n")
        sys.stdout.write(lines[-1])
        sys.stdout.flush()
    page = PAGE.read_text(encoding="utf-8")
    before, after = page.split(begin)
    PAGE.write_text(before + begin + "".join(lines) + END + after.split(END, 1)[1], encoding="utf-8")


if __name__ == "__main__":
    main()
