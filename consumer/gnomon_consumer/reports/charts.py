"""The pictures of the one-file report as SVG inside the page, without external addresses or scripts."""

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

# matplotlib draws in these colours, which are then replaced by names in the page's style, for light and dark.
_COLOURS = {
    "#010203": "var(--ink)",
    "#030201": "var(--faint)",
    "#0072b2": "var(--challenger)",
    "#8c1d6b": "var(--challenger-2)",
    "#3d9b5f": "var(--challenger-3)",
    "#5b5f66": "var(--challenger-4)",
    "#e69f00": "var(--control)",
}
INK, FAINT, *CHALLENGERS, CONTROL = _COLOURS
MARKERS = "os^vPX"
LINES = ("-", "-.", ":", (0, (6, 1)))
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
# inches at 72 points: a phone's width, so that letters are not scaled down; on a wider screen the page scales it up
WIDTH = 5.0


CONTROL_LOOK = -1


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One point with its interval: its place (a row of the chart or a day), its series, and its look.

    `look`: the number of a challenger from 0 on, for its colour, marker and line, or `CONTROL_LOOK`.
    """

    place: Any
    series: str
    look: int
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class AxisScale:
    """The scale of an axis: the format of its ticks, the limits of its values, and whether 0 has a line."""

    tick: Callable[[float], str]
    least: float | None = None
    most: float | None = None
    zero: bool = False


def _per_cent(value: float) -> str:
    """Return a tick's label, as short as it can be."""
    return f"{round(100 * value, 6) + 0:g}%".replace("-", "−")


def _figure(value: float) -> str:
    return f"{round(value, 9) + 0:,.6g}".replace("-", "−")


SHARES = AxisScale(_per_cent, 0.0, 1.0)
RELATIVE = AxisScale(_per_cent, zero=True)
DIFFERENCES = AxisScale(_figure, zero=True)


def intervals(name: str, title: str, axis: str, points: Sequence[Estimate], scale: AxisScale) -> str:
    """Return a chart with a dot and an interval for each place, in the given order from the top;

    `axis` names the values.
    """
    places = list(dict.fromkeys(point.place for point in points))
    series = list(dict.fromkeys((point.series, point.look) for point in points))
    with mpl.rc_context(_STYLE):
        height = 1.0 + (0.14 + 0.14 * max(1, len(series))) * len(places)
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.subplots()
        for at, (label, look) in enumerate(series):
            mine = [point for point in points if (point.series, point.look) == (label, look)]
            shift = 0.8 / max(3, len(series)) * (at - (len(series) - 1) / 2)
            axes.errorbar(
                [point.value for point in mine],
                [places.index(point.place) + shift for point in mine],
                xerr=[
                    [point.value - (point.value if point.low is None else point.low) for point in mine],
                    [(point.value if point.high is None else point.high) - point.value for point in mine],
                ],
                fmt=_marker(look), color=_colour(look), markersize=4.5, linewidth=1.4, label=label, clip_on=False,
            )  # fmt: skip
        axes.set_yticks(range(len(places)), [str(place) for place in places])
        axes.set_ylim(len(places) - 0.5, -0.5)
        axes.grid(axis="x")
        if scale.zero:
            axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_xlabel(axis)
        axes.set_xlim(_within(axes.get_xlim(), scale))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: scale.tick(value)))
        _legend(figure, [label for label, _ in series])
        return _inline(figure, name, title)


def timeline(name: str, title: str, axis: str, points: Sequence[Estimate], scale: AxisScale) -> str:
    """Return one line for each series over days; `place` is a date."""
    series = list(dict.fromkeys((point.series, point.look) for point in points))
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH, 2.1), layout="constrained")
        axes = figure.subplots()
        for label, look in series:
            mine = [point for point in points if (point.series, point.look) == (label, look)]
            days: Any = [point.place for point in mine]
            axes.plot(
                days, [point.value for point in mine], color=_colour(look), linewidth=1.2, label=label,
                marker=_marker(look) if len(mine) < 40 else None, markersize=3,
                linestyle="--" if look == CONTROL_LOOK else LINES[look % len(LINES)], clip_on=False,
            )  # fmt: skip
        axes.grid(axis="y")
        if scale.zero:
            axes.axhline(0, color=INK, linewidth=0.8)
        low, high = min(point.value for point in points), max(point.value for point in points)
        margin = 0.05 * (high - low) or 0.01 * (1 if scale.most is not None else max(1.0, abs(high)))
        axes.set_ylim(_within((low - margin, high + margin), scale))
        axes.set_ylabel(axis)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: scale.tick(value)))
        _legend(figure, [label for label, _ in series])
        return _inline(figure, name, title)


def _marker(look: int) -> str:
    return "D" if look == CONTROL_LOOK else MARKERS[look % len(MARKERS)]


def _colour(look: int) -> str:
    return CONTROL if look == CONTROL_LOOK else CHALLENGERS[look % len(CHALLENGERS)]


def _within(limits: tuple[float, float], scale: AxisScale) -> tuple[float, float]:
    """Return the limits of an axis, within the possible values."""
    low, high = limits
    return (
        low if scale.least is None else max(low, scale.least),
        high if scale.most is None else min(high, scale.most),
    )


def _legend(figure: Figure, labels: Sequence[str]) -> None:
    """Name the series above the picture, as many in a line as fit."""
    if len(labels) > 1:
        columns = max(1, min(len(labels), 62 // (max(map(len, labels)) + 6)))
        figure.legend(loc="outside upper left", ncols=columns, frameon=False)


def _inline(figure: Figure, name: str, title: str) -> str:
    """Return the figure as an `<svg>` element: names of parts are made unique by `name`, colours become the page's."""
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
