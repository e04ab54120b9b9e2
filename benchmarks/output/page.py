"""`python -m benchmarks page`: write the tables of README.md and docs/ from benchmarks/results/, and draw the plots.

A page marks the place of a table by `<!-- table NAME -->` and `<!-- end -->`; the text between is replaced. So no
figure of a table is copied by hand. A test checks that the pages agree with the results; so does `--check`.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.running import ROOT
from benchmarks.jobs import hook, joiner, replay, scorer
from benchmarks.output import plots, tables
from benchmarks.output.tables import Data

PAGES = ("README.md", "docs/performance.md", "docs/scorer.md")
PLACE = re.compile(r"(<!-- table ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_HOOK_COLUMNS = ("call_p50", "call_p99", "call_p999", "request_p999")
_MILLION = 1_000_000
# Heading, field, form.
Columns = Sequence[tuple[str, str, str]]
_DELAY: Columns = (
    ("delay, median, s", "delay_median_s", ".2f"),
    ("most, s", "delay_most_s", ".2f"),
    ("bound, s", "bound_s", ".2f"),
)
_PACED: Columns = (
    ("seen/s", "seen_per_second", ",.0f"),
    ("scored/s", "scored_per_second", ",.0f"),
    ("sampled", "sampled_share", ".1%"),
    ("predicted", "predicted_share", ".1%"),
    *_DELAY,
)
_FULL: Columns = (
    ("rows/s", "rows_per_second", ",.0f"),
    ("µs CPU a row", "cpu_us", ".2f"),
    ("most memory, MB", "peak_mb", ",.0f"),
    *_DELAY,
)
SCALE: dict[str, Columns] = {
    "arrival": (("arrival", "arrival", "g"), ("captures/s", "captures_per_second", ",.0f"), *_PACED),
    "window": (("longest life of a window, s", "window_s", "g"), *_PACED),
    "partitions": (("partitions", "partitions", "d"), *_FULL),
    "members": (("members", "members", "d"), _FULL[0], ("cores taken", "cpu_cores", ".2f"), *_DELAY),
    "features": (("features", "features", ",d"), *_FULL),
}


def main() -> None:
    """Write the pages and the picture, or name those that differ."""
    stale = []
    for page in PAGES:
        path = ROOT / page
        before = path.read_text()
        if (after := filled(before)) != before:
            stale.append(page)
            if "--check" not in sys.argv:
                path.write_text(after)
    if "--check" in sys.argv:
        sys.exit(f"not what benchmarks/results/ says: {', '.join(stale)}" if stale else 0)
    sys.stdout.write(f"written: {', '.join([*stale, str(plots.draw().relative_to(ROOT))])}\n")


def filled(text: str) -> str:
    """Return a page with its tables from the results."""
    return PLACE.sub(lambda found: f"{found[1]}{block(found[2])}\n\n{found[3]}", text)


def block(name: str) -> str:
    """Return the text between the marks of a table."""
    try:
        if name in BLOCKS:
            lines = BLOCKS[name]()
        elif name in SCALE:
            lines = scale(name)
        elif name.startswith("hook-"):
            lines = hooked(*name.removeprefix("hook-").split("-", 1))
        else:
            lines = job(name)
    except FileNotFoundError as missing:
        return f"Not measured: there is no `{Path(missing.filename).name}`."
    return "\n".join(lines)


def kept(name: str) -> Data:
    """Return a stored result."""
    data: Data = json.loads((tables.RESULTS / f"{name}.json").read_text())
    return data


def job(name: str) -> list[str]:
    """Return a whole job and its peers."""
    data = kept(name)
    return [tables.measured(data["machine"]), "", *tables.contenders(data)]


def hooked(kind: str, load: str) -> list[str]:
    """Return the hook and its peers under one load, in microseconds."""
    result = kept(f"hook-{kind}")[load]
    return [hook.how(result), "", *hook.rows(result, _HOOK_COLUMNS)]


def scale(part: str) -> list[str]:
    """Return the scorer's results as functions of one variable."""
    data = kept("scale")[part]
    return [tables.measured(data["machine"]), "", *pointed(SCALE[part], data["points"])]


def pointed(columns: Columns, points: Sequence[Data]) -> list[str]:
    """Return points as lines of a table; a missing field is empty."""
    return tables.table(
        [head for head, _, _ in columns],
        [[f"{point[of]:{form}}" if of in point else "" for _, of, form in columns] for point in points],
    )


def rows() -> list[str]:
    """Return the joiner's results by the number of stored pairs."""
    data = kept("rows")
    lines = [
        (
            f"{point['rows']:,}",
            f"{point['rows_per_second']:,}",
            f"{min(point['of_runs']):,} – {max(point['of_runs']):,}",
            str(len(point["of_runs"])),
            f"{point['cpu_us']:.2f}",
        )
        for point in data["points"]
    ]
    heads = ("pairs in the database", "rows/s, median", "least – most", "runs", "µs CPU a row")
    return [tables.measured(data["machine"]), "", *tables.table(heads, lines)]


def whole() -> list[str]:
    """Return the whole pipeline: over a full topic, then the delay at a rate."""
    data = kept("whole")
    runs, delay = data["sustained"], data["delay"]
    cells: dict[str, str] = {
        "pairs/s over a full topic: median (least – most)": tables.spread(runs, "pairs_per_second"),
        "runs": str(len(runs)),
        "µs CPU a pair, scorer": f"{tables.median(runs, 'scorer_cpu_us'):.2f}",
        "joiner": f"{tables.median(runs, 'joiner_cpu_us'):.2f}",
        "captures/s arriving": f"{delay['captures_per_second']:,}",
        "joined/s": f"{delay['joined_per_second']:,}",
        "windows": f"{delay['windows']:,}",
        "delay to the row: median, s": f"{delay['p50_s']:.3f}",
        "99th percentile, s": f"{delay['p99_s']:.3f}",
        "most, s": f"{delay['most_s']:.3f}",
    }
    if "busy_cores" in delay:  # which an earlier result does not contain
        cells |= {
            "of it until the window's seal: median, 99th percentile, s": _two(delay, "open"),
            "from the seal to the row": _two(delay, "scored_and_joined"),
            "cores at work: scorer, joiner, everything": " / ".join(
                f"{delay[name]:.2f}" for name in ("scorer_cores", "joiner_cores", "busy_cores")
            ),
        }
    return [tables.measured(data["machine"]), "", *tables.table(("", "both services"), cells.items())]


def _two(delay: Data, part: str) -> str:
    return f"{delay[f'{part}_p50_s']:.3f}, {delay[f'{part}_p99_s']:.3f}"


def split() -> list[str]:
    """Return a running scorer's CPU by thread."""
    data = kept("split")
    lines = [
        ("all", f"{data['cpu_us']:.2f}", f"{data['cpu_us'] / data['model_us']:.2f} ×"),
        ("the model alone", f"{data['model_us']:.2f}", "1.00 ×"),
        *((name, f"{us:.2f}", f"{us / data['model_us']:.2f} ×") for name, us in data["threads_us"].items()),
    ]
    heads = (f"{data['rows_per_second']:,} rows/s", "µs CPU a row", "of the model's own")
    return [tables.measured(data["machine"]), "", *tables.table(heads, lines)]


def guard() -> list[str]:
    """Return the stages' shares of a plain loop."""
    data = kept("guard")
    lines = [(name, f"{share:.3f}") for name, share in data["share_of_plain_loop"].items()]
    return [tables.measured(data["machine"]), "", *tables.table(("stage", "share of the plain loop's CPU"), lines)]


def reports() -> list[str]:
    """Return every report over one and ten million pairs, in seconds."""
    sizes = (_MILLION, 10 * _MILLION)
    data = [kept(f"reports-{size}") for size in sizes]
    found = [{one["report"]: one for one in each["reports"]} for each in data]
    names = list(dict.fromkeys(name for each in found for name in each))

    def cells(name: str) -> Iterator[str]:
        yield name
        for each in found:
            for field in ("whole_s", "day_s"):
                yield seconds(each.get(name, {}).get(field))

    heads = ["report", *(head for size in sizes for head in (f"{size // _MILLION} million", "a day of it"))]
    places = [tables.measured(each["machine"]).rstrip(":") for each in data]
    return [
        f"1 million: {places[0]}; 10 million: {places[1]}:",
        "",
        *tables.table(heads, [list(cells(name)) for name in names]),
    ]


def stocked() -> list[str]:
    """Return every report on the embedded server and on Debian's, in seconds."""
    data = kept("stock")
    debian = f"Debian's PostgreSQL {data['version']}"
    heads = ("report", "embedded", f"{debian}, owner", "gnomon_reader", "never analyzed")
    lines = [(name, *map(seconds, times)) for name, times in data["reports"].items()]
    return [f"{data['pairs']:,} pairs: {tables.measured(data['machine'])}", "", *tables.table(heads, lines)]


def seconds(value: Any) -> str:
    """Return a report's time, the reason why there is none, or nothing."""
    if value is None:
        return ""
    if isinstance(value, str):
        return "> 300" if "timeout" in value else value
    return f"{value:.1f}" if value >= 1 else f"{value:.3f}"


def replayed() -> list[str]:
    """Return the table of the load test."""
    data = kept("replay")
    lines = [replay.cells(point) for point in data["points"]]
    return [tables.measured(data["machine"]), "", *tables.table(replay.COLUMNS, lines)]


def speed() -> list[str]:
    """Return README's table: ours and the peers', the fastest first."""
    where = kept("scorer-kafka")["machine"]
    core = f"One core of an {where['processor']} with {where['cores']}, the servers on the others"
    return [
        f"{core}; captures of 25 features.",
        "",
        *raced(
            scorer.GNOMON,
            kept("scorer-kafka"),
            "**Scoring** every capture by 100 trees: Gnomon exactly once with its ledger, peers at least once.",
        ),
        "",
        *raced(
            joiner.GNOMON,
            kept("joiner-kafka"),
            "**Joining** captures and outcomes in PostgreSQL: Gnomon exactly once; Quix's sink writes outcomes alone.",
        ),
    ]


def raced(ours: str, data: Data, work: str) -> list[str]:
    """Return the contenders that ran, the fastest first, and how many times their rate ours is."""
    ran = {one["name"]: one["runs"] for one in data["series"] if one["runs"]}
    rates = {name: tables.median(runs, "rows_per_second") for name, runs in ran.items()}
    lines = []
    for name in sorted(ran, key=lambda name: -rates[name]):
        times = "" if name == ours else f"{rates[ours] / rates[name]:.1f} ×"
        lines.append((f"**{name}**" if name == ours else name, tables.spread(ran[name], "rows_per_second"), times))
    runs, at = max(map(len, ran.values())), data["machine"]["at"][:10]
    heads = ("", "rows/s: median (least – most)", "Gnomon's rate is")
    return [f"{work} `{data['machine']['command']}`, {at}, {runs} runs of each:", "", *tables.table(heads, lines)]


BLOCKS: dict[str, Callable[[], list[str]]] = {
    "rows": rows,
    "whole": whole,
    "split": split,
    "guard": guard,
    "reports": reports,
    "stock": stocked,
    "replay": replayed,
    "speed": speed,
}
