"""The pictures of the HTML report: the points, the axis and the texts of each."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup, escape
from psycopg.rows import DictRow

from gnomon_consumer.reports import charts, wording
from gnomon_consumer.reports.charts import DIFFERENCES, RELATIVE, SHARES, Estimate
from gnomon_consumer.reports.page import Page
from gnomon_consumer.runtime.visible import visible

AGREEMENT = ("agreement", "Agreement with live", "agreement with live", SHARES)
DIFFERENCE = ("mean_difference", "Shadow minus live", "shadow minus live, on average", DIFFERENCES)


def quality(page: Page, measures: Sequence[dict[str, Any]]) -> Markup:
    """Return the differences at the longest horizon relative to live's value, better to the right."""
    last = measures[-1]["horizon"] if measures else None
    points = []
    for entry in measures:
        row, live = entry["difference"], entry["live"]["estimate"]
        if entry["horizon"] != last or not live or row["low"] is None:
            continue
        sign = 1 if entry["metric"] in wording.HIGHER else -1
        scale = 0 if entry["equal"] else sign / abs(live)
        low, high = sorted(scale * row[end] for end in ("low", "high"))
        name = entry["deployment"]
        points.append(
            Estimate(
                place=wording.NAMES[entry["metric"]],
                series=name,
                look=page.look(name),
                value=scale * row["estimate"],
                low=low,
                high=high,
            )
        )
    if not points:
        return Markup("")
    title = f"Difference from live with the labels that arrived within {last}; right of zero the shadow is better"
    axis = "← worse than live  ·  better than live →"
    return _safe(charts.intervals("quality", _plain(title), axis, points, RELATIVE))


def slice_title(slice_: str) -> str:
    """Return the heading of a slice."""
    return f"By {slice_.removeprefix('segment:')}" if slice_.startswith("segment:") else f"By {slice_} (local time)"


def of_slice(page: Page, slice_: str, rows: Sequence[DictRow]) -> Markup:
    """Return agreement, or the mean difference of numbers, for each value of a slice."""
    points = [
        Estimate(
            place=_place(visible(row["value"])),
            series=row["deployment"],
            look=page.look(row["deployment"]),
            value=row["estimate"],
            low=row["low"],
            high=row["high"],
        )
        for row in rows
        if row["estimate"] is not None
    ]
    if not points:
        return Markup("")
    _, words, axis, scale = DIFFERENCE if page.by_values else AGREEMENT
    name = "slice-" + "".join(letter if letter.isalnum() else "-" for letter in slice_)
    title = _plain(f"{words} {slice_title(slice_).lower()}")
    return _safe(charts.intervals(name, title, axis, points, scale))


def timelines(page: Page) -> list[tuple[str, Markup]]:
    """Return captions with their pictures; captions with nothing to draw come last, without a picture."""
    drawn = []
    compared, words, short, measured_by = DIFFERENCE if page.by_values else AGREEMENT
    for column, title, axis, scale in (
        (compared, f"{words}, by day", short.partition(" with")[0].partition(",")[0], measured_by),
        ("error_rate", "Errors of the shadow, by day", "errors", SHARES),
        ("sampling_fraction", "Share of the captures that was sampled, by day", "sampled", SHARES),
    ):
        points = [
            Estimate(place=row["at"], series=row["deployment"], look=page.look(row["deployment"]), value=row[column])
            for row in page.timeline
            if row[column] is not None
        ]
        if points and column == "error_rate" and not any(point.value for point in points):
            drawn.append((f"{title}: none on any day", Markup("")))
        elif points:
            drawn.append((title, _safe(charts.timeline(column.replace("_", "-"), title, axis, points, scale))))
    return sorted(drawn, key=lambda each: not each[1])


def shown(value: str) -> str:
    """Return a slice's value as people read it: a weekday without its number."""
    return value[2:] if value[:1].isdigit() and value[1:2] == " " else value


def _place(value: str) -> str:
    """Return the same for matplotlib, with its special characters as text."""
    return shown(value).replace("$", r"\$")


def _plain(text: str) -> str:
    return str(escape(text))


def _safe(svg: str) -> Markup:
    # matplotlib escapes every text it draws, the title is escaped above.
    return Markup(svg)  # noqa: S704
