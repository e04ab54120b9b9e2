"""Reports as tables on a terminal, as JSON and as CSV."""

import csv
import io
import json
import math
from datetime import datetime, timedelta
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gnomon_consumer.reports.catalogue import Column
from gnomon_consumer.reports.query import Answer, Row

NOTHING = "–"
_LONG = {"example", "value", "feature"}
_RIGHT = {"count", "share", "number", "figure", "error", "short", "µs", "bytes"}


def number(value: Any, kind: str) -> str:
    """One value as people read it: counts with separators, shares as per cent, µs in the unit that fits."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return NOTHING
    if kind == "count":
        return f"{round(value):,}"
    if kind == "share":
        # 100% is said only of what is exactly that.
        digits = 2
        while digits < 6 and value not in (0, 1) and round(100 * value, digits) in (0, 100):
            digits += 1
        return f"{100 * value:.{digits}f}%"
    if kind == "µs":
        return microseconds(float(value))
    if kind == "bytes":
        return f"{value / 2**20:,.1f} MiB"
    if kind == "number":
        text = f"{value:.4f}" if abs(value) < 1000 else f"{value:,.1f}"
        return text if text != "-0.0000" else "0.0000"
    if kind == "figure":
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if kind == "error":
        return f"{value:.4f}".removeprefix("0")
    if kind == "short":
        return f"{value:.2g}"
    if kind == "yes":
        return "yes" if value else "NO"
    if isinstance(value, timedelta):
        days, hours = value.days, value.seconds / 3600
        if value.microseconds or not hours.is_integer():
            return str(value)
        return " ".join(filter(None, (f"{days} d" if days else "", f"{hours:.0f} h" if hours or not days else "")))
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M")
    return str(value)


def microseconds(value: float) -> str:
    """A duration in µs, ms or s."""
    for limit, scale, unit in ((1e3, 1, "µs"), (1e6, 1e3, "ms")):
        if abs(value) < limit:
            return f"{value / scale:.3g} {unit}"
    return f"{value / 1e6:.3g} s"


def interval(low: Any, high: Any, kind: str) -> str:
    """Both ends as briefly as they can be told apart, the unit said once: `94.4…95.2`; empty without both."""
    if low is None or high is None:
        return ""
    scale, unit, first = 1.0, "", 3
    if kind == "share":
        scale, first = 100.0, 1
    elif kind == "µs":
        limit = max(abs(low), abs(high))
        scale, unit = next(
            (s, u) for top, s, u in ((1e3, 1, " µs"), (1e6, 1e-3, " ms"), (math.inf, 1e-6, " s")) if limit < top
        )
        first = 0 if limit < 1e3 else 2
    elif max(abs(low), abs(high)) >= 100:
        first = 1
    low, high = low * scale, high * scale
    digits = first
    while digits < first + 3 and high - low < 5 * 10**-digits and low != high:
        digits += 1
    return f"{low:.{digits}f}…{high:.{digits}f}{unit}"


def cell(row: Row, column: Column) -> Text:
    """One cell, with its interval dim below the number where it has one."""
    text = Text(number(row.get(column.source), column.kind))
    if column.kind == "name" and row.get("role") == "control" != text.plain:
        text.append("\ncontrol", "dim")
    if column.below and row.get(column.below) is not None:
        text.append(f"\n{number(row[column.below], 'text')}", "dim")
    if column.interval and text.plain != NOTHING:
        low, high = (row.get(name) for name in column.interval)
        ends = interval(low, high, column.kind)
        text.append(f"\n{ends}" if ends else "", "dim")
    return text


def pivoted(answer: Answer) -> list[Row]:
    """The rows as the report shows them: several rows of the database side by side in one, `prefix.column`."""
    if answer.report.pivot is None:
        return list(answer.rows)
    index, names = answer.report.pivot
    found: dict[tuple[Any, ...], Row] = {}
    for row in answer.rows:
        line = found.setdefault(tuple(row[key] for key in index), {key: row[key] for key in index})
        prefix = ".".join(f"{row[name]}" for name in names)
        line |= {f"{prefix}.{key}": value for key, value in row.items() if key not in index and key not in names}
        if "pair" in prefix and len(names) == 1:  # what has no sides is shown as the shadow's
            line |= {f"shadow.{key}": value for key, value in row.items() if key not in index and key not in names}
    return list(found.values())


def table(answer: Answer) -> RenderableType:
    """The answer as tables for 80 to 100 columns, one a deployment where it has several rows.

    A column without a word is left out, a status that is not `ok` becomes a line below.
    """
    rows = [row for row in pivoted(answer) if _says_something(answer, row)]
    shown = [column for column in answer.report.columns if column.source != "status"]
    shown = [column for column in shown if any(row.get(column.source) not in (None, "") for row in rows)]
    parts: list[RenderableType] = [Text(answer.report.summary, "bold")]
    if answer.report.upright and len(rows) <= 4:
        parts += [_upright(rows, shown)] if rows else []
    else:
        section = answer.report.section
        groups: dict[tuple[Any, ...], list[Row]] = {}
        for row in rows:
            groups.setdefault(tuple(row.get(key) for key in ("deployment", *section)), []).append(row)
        if section or any(len(group) > 1 for group in groups.values()):
            inner = [column for column in shown if column.kind != "name" and column.source not in section]
            titles = [column for column in shown if column.source in section]
            for group in groups.values():
                name = str(group[0].get("deployment"))
                who = [name, "control" if group[0].get("role") == "control" != name else ""]
                who += [f"{column.title} {number(group[0].get(column.source), column.kind)}" for column in titles]
                parts += [Text(" · ".join(filter(None, who)), "cyan"), _grid(group, inner)]
        elif rows:
            parts.append(_grid(rows, shown))
    return Group(*parts, *_notes(answer, bool(rows)))


def _says_something(answer: Answer, row: Row) -> bool:
    index = answer.report.pivot[0] if answer.report.pivot else ("stream", "deployment", "role")
    said = [column.source for column in answer.report.columns if column.source not in (*index, "status")]
    return any(row.get(source) not in (None, 0, "") for source in said)


def _notes(answer: Answer, any_rows: bool) -> list[Text]:
    found: dict[str, None] = {}
    fine = {row.get("deployment") for row in answer.rows if row.get("status") == "ok"}
    for row in answer.rows:
        if row.get("status", "ok") == "ok":
            continue
        finer = ("metric", "measure", "value", "service", "bin") if row.get("deployment") in fine else ()
        keys = (row.get("deployment") or row.get("stream"), *(row.get(key) for key in finer))
        found[f"{' '.join(str(key) for key in keys if key)}: {row['status']}"] = None
    notes = [Text(note, "yellow") for note in found]
    return [*notes, Text(answer.report.note, "dim")] if any_rows and answer.report.note else notes


def _grid(rows: list[Row], shown: list[Column]) -> Table:
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column in shown:
        long = column.kind == "text" and column.source in _LONG
        grid.add_column(
            column.title,
            justify="right" if column.kind in _RIGHT else "left",
            overflow="fold" if long else "ellipsis",
            no_wrap=not long,
        )
    for row in rows:
        grid.add_row(*(cell(row, column) for column in shown))
    return grid


def _upright(rows: list[Row], shown: list[Column]) -> Table:
    """Lines for columns: many numbers of few deployments."""
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    names = [column for column in shown if column.kind == "name"]
    grid.add_column("")
    for row in rows:
        grid.add_column(Text(" ").join(_one_line(cell(row, column)) for column in names), justify="right")
    for column in shown:
        if column not in names:
            grid.add_row(column.title, *(_one_line(cell(row, column)) for row in rows))
    return grid


def _one_line(text: Text) -> Text:
    return Text("  ").join(text.split("\n"))


def as_json(answer: Answer) -> str:
    """One JSON object: report, rows. NaN and infinity become null; times are ISO 8601."""
    rows = [{key: _plain(value) for key, value in row.items()} for row in answer.rows]
    return json.dumps({"report": answer.report.name, "rows": rows}, allow_nan=False)


def as_csv(answer: Answer) -> str:
    """A header and one line a row, every column of the database."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(answer.columns), lineterminator="\n")
    writer.writeheader()
    for row in answer.rows:
        writer.writerow({key: _flat(value) for key, value in row.items()})
    return buffer.getvalue()


def _flat(value: Any) -> Any:
    plain = _plain(value)
    return json.dumps(plain) if isinstance(plain, dict | list) else plain


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if value is None or isinstance(value, str | bool | int | float):
        return value
    return str(value)
