"""Writes docs/report-examples.md and its pictures: `make report-examples`, while `gnomon demo --open` runs.

The numbers are those of one demo, so no test compares them; a test compares every table's head with the command's.
"""

import csv
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import psycopg
from PIL import Image

from gnomon_consumer.reports import REPORTS

HERE = Path(__file__).parent
# Apart from the challenger: options that make an example short or informative.
OPTIONS = {
    "agreement": [],
    "errors": [],
    "ledger": [],
    "resources": [],
    "producers": [],
    "coverage": ["--slice", "limit"],
    "quality": ["--horizon", "7 days", "--time-zone", "America/New_York"],
    "classes": ["--horizon", "7 days"],
    "truth-confusion": ["--horizon", "7 days"],
    "label-bounds": ["--horizon", "7 days"],
    "matches": ["--compare", "absolute", "--tolerance", "0.05"],
    "contrast": ["--horizon", "7 days"],
    "heterogeneity": ["--key", "origin", "--horizon", "7 days"],
    "label-delay": ["--step", "2 days"],
    "disagreements": ["--top", "3"],
    "time-of-day": ["--slice", "weekday", "--time-zone", "America/New_York"],
    "timeline": ["--unit", "week", "--time-zone", "America/New_York"],
}
BOTH = {"agreement", "errors", "ledger", "resources", "producers"}
BOUNDS = [
    "agreement.low[role=control] >= 0.99",
    "agreement.low[role=challenger] >= 0.9",
    "predictions.share[side=shadow,label=late] < 0.3 if n >= 50",
    "ledger.balanced = 1",
]
BEGINNING = """# Every report, on the demo

Written by `make report-examples` from the first 20,000 flights of the [demo](demo.md)
(`gnomon demo --captures 20000 --keep`, then `gnomon demo --open`); do not edit. [Reports](reports.md) explains
the reports, [Statistics](statistics.md) their formulas.

The first nine days were frozen as a reference before: `gnomon reference build 2013-04-01..2013-04-10`.
"""


def run(configuration: Path, *arguments: str) -> str:
    """Return the output of a command on a terminal of 80 columns; status 1 is an answer, too."""
    ended = subprocess.run(
        [sys.executable, "-m", "gnomon_consumer", *arguments, "--config", str(configuration)],
        env={**os.environ, "COLUMNS": "80"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if ended.returncode not in (0, 1):
        sys.exit(ended.stderr)
    return "\n".join(line.rstrip() for line in (ended.stdout + ended.stderr).splitlines() if line.strip())


def example(configuration: Path, title: str, *arguments: str) -> str:
    """Return a section: the command, and its output."""
    said = " ".join(f"'{word}'" if " " in word else word for word in arguments)
    return f"\n## {title}\n\n```console\n$ gnomon {said}\n{run(configuration, *arguments)}\n```\n"


def recomputed(url: str, file: Path) -> None:
    """Return two features: wind speed as it was sent, and visibility as it was sent with the previous request."""
    with psycopg.connect(url) as connection:
        found = connection.execute("select name, position - 1 from report_v1.feature_columns where kind = 'numeric'")
        at: dict[str, int] = dict(found.fetchall())
        rows = connection.execute(
            "select distinct event_time, request_id, features_numeric from report_v1.pairs order by 1, 2"
        ).fetchall()
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["request_id", "wind_speed", "visibility"])
        for (_, request_id, numbers), (*_, before) in zip(rows, [rows[0], *rows], strict=False):
            writer.writerow([request_id, numbers[at["wind_speed"]], before[at["visibility"]]])


def pictures(page: Path) -> None:
    """Save the first screen of the page, light and dark, as small PNG files."""
    browser = shutil.which("chromium")
    if browser is None:
        sys.exit("no chromium on this machine")
    for name, scheme in (("light", 1), ("dark", 0)):
        file = HERE / "images" / f"report-{name}.png"
        subprocess.run(
            [browser, "--headless", "--no-sandbox", "--hide-scrollbars", f"--user-data-dir={page.parent / 'profile'}",
             "--window-size=1080,1000", f"--blink-settings=preferredColorScheme={scheme}", f"--screenshot={file}",
             page.as_uri()], check=True, capture_output=True,
        )  # fmt: skip
        with Image.open(file) as picture:
            picture.convert("RGB").quantize(256).save(file, optimize=True)


def main(configuration: Path) -> None:
    """Write the page and the pictures."""
    url = tomllib.loads(configuration.read_text())["database_url"]
    parts = [BEGINNING]
    for name in (name.replace("_", "-") for name in REPORTS):
        narrowed = [] if name in BOTH else ["--deployment", "gradient-boosting"]
        parts.append(example(configuration, f"`{name}`", "report", name, *narrowed, *OPTIONS.get(name, [])))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "recomputed.csv"
        recomputed(url, file)
        narrowed = ["--deployment", "gradient-boosting"]
        section = example(configuration, "`skew`", "report", "skew", str(file), *narrowed)
        parts.append(section.replace(str(file), file.name))
        page = Path(folder) / "report.html"
        run(configuration, "report", "html", "-o", str(page), "--time-zone", "America/New_York")
        pictures(page)
    bounds = [word for bound in BOUNDS for word in ("--bound", bound)]
    parts.append(example(configuration, "`check`", "report", "check", *bounds))
    (HERE / "report-examples.md").write_text("".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
