"""`python -m benchmarks plots`: draw docs/images/scale.svg from the results of `scale` and `rows`."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from benchmarks.harness.running import ROOT
from benchmarks.output.tables import RESULTS

PICTURE = ROOT / "docs" / "images" / "scale.svg"
_ACROSS = 3
_PANEL_INCHES = (3.3, 2.3)
_MEASURED = ("#0b5d8a", "#c2571a")
_PREDICTED = "#5a5a5a"
# A white card with dark ink is readable on pages of either colour.
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "gnomon",
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "axes.edgecolor": "#9a9a9a",
    "axes.spines.top": False,
    "axes.spines.right": False,
}
Kept = dict[str, list[dict[str, Any]]]


@dataclass
class Panel:
    """The measurements and predictions (dashed) by the name of a line, as functions of the horizontal axis."""

    title: str
    across: str
    at: list[float]
    measured: dict[str, list[float]]
    predicted: dict[str, list[float]] = field(default_factory=dict)


def panels(kept: Kept) -> Iterator[Panel]:
    """Return share, throughput and delay if all three are known; throughput and delay, then the database's rows."""

    def column(part: str, name: str) -> list[float]:
        return [point[name] for point in kept[part]]

    def waits(part: str, across: str, at: list[float]) -> Panel:
        measured = {"median": column(part, "delay_median_s"), "most": column(part, "delay_most_s")}
        return Panel("delay of a window, s", across, at, measured, {"bound": column(part, "bound_s")})

    for part, key, across in (
        ("arrival", "arrival", "captures arriving, times what may be scored"),
        ("window", "window_s", "longest life of a window, s"),
    ):
        at = column(part, key)
        share = {"predicted": column(part, "predicted_share")}
        yield Panel("share sampled", across, at, {"measured": column(part, "sampled_share")}, share)
        rates = {"seen": column(part, "seen_per_second"), "scored": column(part, "scored_per_second")}
        yield Panel("captures a second", across, at, rates)
        yield waits(part, across, at)
    parts = {"partitions": "partitions", "members": "members of the group", "features": "features"}
    for part, across in parts.items():
        at, rates = column(part, part), {"": column(part, "rows_per_second")}
        linear = {f"one, times {part}": [rates[""][0] * x / at[0] for x in at]} if part == "members" else {}
        yield Panel("rows scored a second, at most", across, at, rates, linear)
    for part, across in parts.items():
        if "delay_median_s" not in kept[part][0]:
            continue
        yield waits(part, across, column(part, part))
    held = "million pairs in PostgreSQL already"
    at = [max(count / 1e6, 0.1) for count in column("rows", "rows")]
    rate = column("rows", "rows_per_second")
    yield Panel(
        "rows joined a second",
        held,
        at,
        {"": rate},
        {"a fifth below the empty database's": [0.8 * rate[0]] * len(at)},
    )
    yield Panel("CPU of the joiner, µs a row", held, at, {"": column("rows", "cpu_us")})


def plot(axes: Axes, panel: Panel) -> None:
    """Plot one panel: a logarithmic horizontal axis, a vertical axis from zero."""
    for (label, values), colour in zip(panel.measured.items(), _MEASURED, strict=False):
        axes.plot(panel.at, values, color=colour, marker="o", markersize=3.5, linewidth=1.5, label=label)
    for label, values in panel.predicted.items():
        axes.plot(panel.at, values, color=_PREDICTED, linestyle="--", linewidth=1.2, label=label)
    axes.set_xscale("log")
    axes.set_xticks(panel.at, [_tick(panel, x) for x in panel.at])
    axes.minorticks_off()
    most = max(map(max, (panel.measured | panel.predicted).values()))
    if most > 50 * min(map(min, panel.measured.values())):
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, 1.15 * most)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axes.set_title(panel.title, loc="left")
    axes.set_xlabel(panel.across)
    if len(panel.measured) + len(panel.predicted) > 1:
        axes.legend(frameon=False, fontsize=7)


def _tick(panel: Panel, x: float) -> str:
    return "0" if panel.across.endswith("already") and x == panel.at[0] else f"{x:,g}"


def kept() -> Kept:
    """Return the points of every part without failures."""
    read: dict[str, Any] = json.loads((RESULTS / "scale.json").read_text())
    read["rows"] = json.loads((RESULTS / "rows.json").read_text())
    return {name: [point for point in part["points"] if "error" not in point] for name, part in read.items()}


def draw(picture: Path = PICTURE) -> Path:
    """Draw the stored results; return the picture."""
    drawn = list(panels(kept()))
    down = -(-len(drawn) // _ACROSS)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_ACROSS * _PANEL_INCHES[0], down * _PANEL_INCHES[1]), layout="constrained")
        FigureCanvasSVG(figure)
        for place, panel in enumerate(drawn):
            plot(figure.add_subplot(down, _ACROSS, place + 1), panel)
        figure.savefig(picture, format="svg", metadata={"Date": None})
    return picture


def main() -> None:
    """Draw, and print the path."""
    sys.stdout.write(f"{draw()}\n")
