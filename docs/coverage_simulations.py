"""Write the coverage of the intervals into docs/statistics.md: `python -m docs.coverage_simulations`, ten minutes.

The figures are those of one seed; tests/property/test_coverage_simulations.py checks their limits.
"""

import math
import sys
from pathlib import Path

from tests.support.coverage_settings import SETTINGS
from tests.support.coverage_simulation import METRICS, covered

PAGE = Path(__file__).parent / "statistics.md"
POPULATIONS = 500
BEGIN, END = "<!-- coverage: written by python -m docs.coverage_simulations -->\n", "<!-- end of coverage -->"


def main() -> None:
    """Simulate every setting and write the table."""
    lines = ["| traffic | " + " | ".join(METRICS) + " |\n", "|---" * (len(METRICS) + 1) + "|\n"]
    for name, case in SETTINGS.items():
        found = covered(case.setting, POPULATIONS, seed=2013)
        shares = ["none" if math.isnan(share) else f"{share:.1%}" for share, _ in found.values()]
        lines.append(f"| {name} | " + " | ".join(shares) + " |\n")
        sys.stdout.write(lines[-1])
        sys.stdout.flush()
    page = PAGE.read_text(encoding="utf-8")
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    PAGE.write_text(before + BEGIN + "".join(lines) + END + after, encoding="utf-8")


if __name__ == "__main__":
    main()
