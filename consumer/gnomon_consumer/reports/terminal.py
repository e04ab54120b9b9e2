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
_RIGHT = {"count", "share", "number", "µs", "bytes"}
_ROLES = {"control": "cyan", "challenger": "bold"}


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
        return f"{value:.4g}"
    if kind == "yes":
        return "yes" if value else "NO"
    if isinstance(value, timedelta):
        return f"{value.days} d" if value.seconds == 0 and value.days else str(value)
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M")
    return str(value)


def microseconds(value: float) -> str:
    """A duration in µs, ms or s."""
    for limit, scale, unit in ((1e3, 1, "µs"), (1e6, 1e3, "ms")):
        if abs(value) < limit:
            return f"{value / scale:.3g} {unit}"
    return f"{value / 1e6:.3g} s"


def cell(row: Row, column: Column) -> str:
    """One cell, with its interval below the number where it has one."""
    text = number(row.get(column.source), column.kind)
    if column.interval and text != NOTHING:
        low, high = (number(row.get(name), column.kind) for name in column.interval)
        if low != NOTHING or high != NOTHING:
            text += f"\n[{low}, {high}]"
    return text


def table(answer: Answer) -> RenderableType:
    """The answer as a table of 80 to 100 columns: columns without a word are left out, status only where not ok."""
    grid = Table(box=box.SIMPLE_HEAD, title=Text(answer.report.summary, "bold"), title_justify="left", pad_edge=False)
    shown = [column for column in answer.report.columns if column.source != "status"]
    shown = [column for column in shown if any(row.get(column.source) not in (None, "") for row in answer.rows)]
    for column in shown:
        grid.add_column(
            column.title,
            justify="right" if column.kind in _RIGHT else "left",
            overflow="fold" if column.kind == "text" else "ellipsis",
            no_wrap=column.kind in _RIGHT,
        )
    notes: dict[tuple[str, str], None] = {}
    for row in answer.rows:
        if row.get("status", "ok") != "ok":
            who = " ".join(
                str(row[key]) for key in ("stream", "deployment", "metric", "measure", "value") if row.get(key)
            )
            notes[f"{who}: {row['status']}", "yellow"] = None
        if any(row.get(column.source) is not None for column in shown if column.source not in ("deployment", "role")):
            grid.add_row(*(cell(row, column) for column in shown), style=_ROLES.get(str(row.get("role")), ""))
    if answer.report.note:
        notes[answer.report.note, "dim"] = None
    return Group(
        *([grid] if grid.row_count else [Text(answer.report.summary, "bold")]), *(Text(*note) for note in notes)
    )


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
