"""The pictures of the one-file report, as SVG inside the page: no address, no script, the page's own colours."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

# Drawn in these, then named in the page's style, which knows light and dark (Okabe and Ito's safe pairs).
_COLOURS = {
    "#010203": "var(--ink)",
    "#030201": "var(--faint)",
    "#0072b2": "var(--challenger)",
    "#e69f00": "var(--control)",
}
INK, FAINT, CHALLENGER, CONTROL = _COLOURS
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "gnomon",
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": FAINT,
    "grid.linewidth": 0.4,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "date.converter": "concise",
}
MARKERS = {"challenger": ("o", CHALLENGER), "control": ("D", CONTROL)}
WIDTH = 5.0  # inches at 72 points: a phone's width, so that letters need not shrink; elsewhere the page scales it up


@dataclass(frozen=True)
class Estimate:
    """One point with its interval: where (a row of the chart or a day), of which series, and how it is called."""

    place: Any
    series: str
    role: str
    value: float
    low: float | None = None
    high: float | None = None


def intervals(name: str, title: str, axis: str, points: Sequence[Estimate], zero: bool = False) -> str:
    """A dot with its interval for each place, top to bottom in the order given, one colour and marker a role.

    Values are shares, or with `zero` relative differences around a line at 0; `axis` names them.
    """
    places = list(dict.fromkeys(point.place for point in points))
    series = list(dict.fromkeys((point.series, point.role) for point in points))
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH, 1.0 + 0.28 * len(places)), layout="constrained")
        axes = figure.subplots()
        for at, (label, role) in enumerate(series):
            mine = [point for point in points if (point.series, point.role) == (label, role)]
            shift = 0.13 * (2 * at - len(series) + 1)
            marker, colour = MARKERS[role]
            axes.errorbar(
                [point.value for point in mine],
                [places.index(point.place) + shift for point in mine],
                xerr=[
                    [point.value - (point.value if point.low is None else point.low) for point in mine],
                    [(point.value if point.high is None else point.high) - point.value for point in mine],
                ],
                fmt=marker, color=colour, markersize=4.5, linewidth=1.4, label=label,
            )  # fmt: skip
        axes.set_yticks(range(len(places)), [str(place) for place in places])
        axes.set_ylim(len(places) - 0.5, -0.5)
        axes.grid(axis="x")
        if zero:
            axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_xlabel(axis)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(_per_cent))
        if len(series) > 1:
            figure.legend(loc="outside upper left", ncols=len(series), frameon=False)
        return _inline(figure, name, title)


def timeline(name: str, title: str, axis: str, points: Sequence[Estimate]) -> str:
    """A line a series of shares over days; `place` is a date."""
    series = list(dict.fromkeys((point.series, point.role) for point in points))
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH, 2.1), layout="constrained")
        axes = figure.subplots()
        for label, role in series:
            mine = [point for point in points if (point.series, point.role) == (label, role)]
            marker, colour = MARKERS[role]
            days: Any = [point.place for point in mine]
            axes.plot(
                days, [point.value for point in mine], color=colour, linewidth=1.2, label=label,
                marker=marker if len(mine) < 40 else None, markersize=3,
                linestyle="-" if role == "challenger" else "--",
            )  # fmt: skip
        axes.grid(axis="y")
        low, high = min(point.value for point in points), max(point.value for point in points)
        margin = 0.05 * (high - low) or 0.01
        axes.set_ylim(max(-0.02 * high, low - margin), min(1.02, high + margin))
        axes.set_ylabel(axis)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(FuncFormatter(_per_cent))
        if len(series) > 1:
            figure.legend(loc="outside upper left", ncols=len(series), frameon=False)
        return _inline(figure, name, title)


def _per_cent(value: float, _: int | None = None) -> str:
    """A tick's label, as short as it can be."""
    return f"{round(100 * value, 6) + 0:g}%".replace("-", "−")


def _inline(figure: Figure, name: str, title: str) -> str:
    """The figure as an `<svg>` element: named parts are told apart by `name`, colours become the page's."""
    FigureCanvasSVG(figure)
    out = io.StringIO()
    figure.savefig(
        out, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Type": None, "Format": None}
    )
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    svg = re.sub(
        r'(<svg [^>]*?)width="[^"]*" height="[^"]*"|(<svg [^>]*?)height="[^"]*" width="[^"]*"', r"\1\2", svg, count=1
    )
    for colour, variable in _COLOURS.items():
        svg = svg.replace(colour, variable)
    heading = f'<title id="{name}-title">{title}</title>'
    return re.sub(
        r"<svg ([^>]*)>", rf'<svg role="img" aria-labelledby="{name}-title" \1>{heading}', svg, count=1
    ).strip()
