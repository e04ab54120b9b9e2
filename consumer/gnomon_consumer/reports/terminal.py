"""Reports as tables on a terminal, as JSON and as CSV."""

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

from psycopg.rows import DictRow
from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from gnomon_consumer.reports.catalogue import Column
from gnomon_consumer.reports.numbers import number, with_interval
from gnomon_consumer.reports.query import Answer
from gnomon_consumer.runtime.json_text import json_text, plain
from gnomon_consumer.runtime.visible import unformula, visible

_RIGHT = {"count", "share", "number", "figure", "error", "short", "µs", "bytes"}


def cell(row: DictRow, column: Column) -> Text:
    """Return one cell, with its interval dim below the number where it has one."""
    source = next((name for name in (column.source, *column.otherwise) if row.get(name) is not None), column.source)
    said, between = _format_value(row, row.get(source), column)
    text = Text(visible(said))
    if column.kind == "name" and row.get("role") == "control" != text.plain:
        text.append("\ncontrol", "dim")
    if between:
        text.append(f"\n{between}", "dim")
    if column.below and column.below != source and row.get(column.below) is not None:
        text.append(f"\n{visible(number(row[column.below], 'text'))}", "dim")
    return text


def _format_value(row: DictRow, value: Any, column: Column) -> tuple[str, str]:
    """Return a value as people read it, and its interval if it is shown."""
    if isinstance(value, list):
        return " > ".join(str(item) for item in value), ""
    if isinstance(value, str):
        return value, ""
    ends: list[Any] = [row.get(name) for name in column.interval or column.precision or ()]
    if value is None or not ends or any(end is None or math.isnan(end) for end in ends):
        return number(value, "figure" if ends and column.kind == "number" else column.kind), ""
    said, between = with_interval(value, min(ends), max(ends), column.kind)
    return said, between if column.interval else ""


def pivoted(answer: Answer) -> list[DictRow]:
    """Return the rows as the report shows them: several rows of the database side by side in one, `prefix.column`."""
    if answer.report.pivot is None:
        return list(answer.rows)
    index, names = answer.report.pivot
    found: dict[tuple[Any, ...], DictRow] = {}
    for row in answer.rows:
        line = found.setdefault(tuple(row[key] for key in index), {key: row[key] for key in index})
        prefix = ".".join(f"{row[name]}" for name in names)
        line |= {f"{prefix}.{key}": value for key, value in row.items() if key not in index and key not in names}
        if "pair" in prefix and len(names) == 1:  # a value that both sides share is shown as the shadow's
            line |= {f"shadow.{key}": value for key, value in row.items() if key not in index and key not in names}
    return list(found.values())


def table(answer: Answer) -> RenderableType:
    """Return the answer as tables for 80 columns or more, one for each deployment with several rows.

    An empty column is left out; a status other than `ok` becomes a line below.
    """
    rows = [row for row in pivoted(answer) if _says_something(answer, row)]
    summary, columns = _layout(answer, rows)
    shown = [column for column in columns if column.source != "status"]
    shown = [column for column in shown if any(_has_value(row, column) for row in rows)]
    parts: list[RenderableType] = [Text(summary, "bold")]
    if answer.report.upright:
        parts += [_Upright(rows, shown)] if rows else []
    else:
        section = answer.report.section
        groups: dict[tuple[Any, ...], list[DictRow]] = {}
        for row in rows:
            groups.setdefault(tuple(row.get(key) for key in ("deployment", *section)), []).append(row)
        if section or any(len(group) > 1 for group in groups.values()):
            inner = [column for column in shown if column.kind != "name" and column.source not in section]
            titles = [column for column in shown if column.source in section]
            for group in groups.values():
                name = str(group[0].get("deployment"))
                who = [name, "control" if group[0].get("role") == "control" != name else ""]
                who += [f"{column.title} {number(group[0].get(column.source), column.kind)}" for column in titles]
                parts += [Text(visible(" · ".join(filter(None, who))), "cyan"), _Grid(group, inner)]
        elif rows:
            parts.append(_Grid(rows, shown))
    return Group(*parts, *_notes(answer, bool(rows)))


def _layout(answer: Answer, rows: list[DictRow]) -> tuple[str, Sequence[Column]]:
    """Return title and columns: those for numbers if every comparable answer is a number."""
    values = answer.report.of_values
    if values is not None and {row.get("compares") for row in rows} - {None} == {"values"}:
        return values.summary, values.columns
    return answer.report.summary, answer.report.columns


def _has_value(row: DictRow, column: Column) -> bool:
    return any(row.get(name) not in (None, "") for name in (column.source, *column.otherwise))


def _says_something(answer: Answer, row: DictRow) -> bool:
    index = answer.report.pivot[0] if answer.report.pivot else ("stream", "deployment", "role")
    said = [column.source for column in answer.report.columns if column.source not in (*index, "status")]
    return any(row.get(source) not in (None, 0, "") for source in said)


def _notes(answer: Answer, any_rows: bool) -> list[Text]:
    said: dict[tuple[str, str], dict[str, None]] = {}
    fine = {row.get("deployment") for row in answer.rows if row.get("status") == "ok"}
    everybody = {str(row.get("deployment") or row.get("stream")) for row in answer.rows}
    for row in answer.rows:
        if row.get("status", "ok") == "ok":
            continue
        finer = ("metric", "measure", "value", "service", "bin") if row.get("deployment") in fine else ()
        finer = ("feature", *finer)
        part = " ".join(str(row[key]) for key in finer if row.get(key))
        said.setdefault((part, row["status"]), {})[str(row.get("deployment") or row.get("stream"))] = None
    lines = [
        f"{f'{name} {part}'.rstrip()}: {status}"
        for (part, status), names in said.items()
        for name in (["every deployment"] if len(names) == len(everybody) > 2 else names)
    ]
    notes = [Text(visible(line), "yellow") for line in lines]
    return [*notes, Text(answer.report.note, "dim")] if any_rows and answer.report.note else notes


class _Grid:
    """Rows under column titles, with two spaces between columns, or one if they do not fit."""

    def __init__(self, rows: list[DictRow], shown: list[Column]) -> None:
        self._rows, self._shown = rows, shown

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        wide = self._table(1)
        yield wide if wide.__rich_measure__(console, options).maximum <= options.max_width else self._table(0)

    def _table(self, padding: int) -> Table:
        grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, padding, 0, 0))
        for column in self._shown:
            # In a narrow terminal, names and texts are folded, but never numbers: a cut number would be another number.
            right = column.kind in _RIGHT
            grid.add_column(
                column.title,
                justify="right" if right else "left",
                overflow="ellipsis" if right else "fold",
                no_wrap=right,
            )
        for row in self._rows:
            grid.add_row(*(cell(row, column) for column in self._shown))
        return grid


class _Upright:
    """One line for each column, for reports with many numbers of each deployment.

    As many deployments are side by side as fit.
    """

    def __init__(self, rows: list[DictRow], shown: list[Column]) -> None:
        self._rows, self._shown = rows, shown

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rows = self._rows
        while rows:
            for count in range(len(rows), 0, -1):
                part = self._table(rows[:count])
                if count == 1 or part.__rich_measure__(console, options.update(max_width=10_000)).maximum <= (
                    options.max_width
                ):
                    yield part
                    rows = rows[count:]
                    break

    def _table(self, rows: list[DictRow]) -> Table:
        grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        names = [column for column in self._shown if column.kind == "name"]
        grid.add_column("")
        for row in rows:
            header = Text(" ").join(_one_line(cell(row, column)) for column in names)
            grid.add_column(header, justify="right", overflow="fold")
        for column in self._shown:
            if column not in names:
                grid.add_row(column.title, *(_one_line(cell(row, column)) for row in rows))
        return grid


def _one_line(text: Text) -> Text:
    return Text("  ").join(text.split("\n"))


def as_json(answer: Answer, pretty: bool = False) -> str:
    """Return one JSON object: report, rows. NaN and infinity are null, times ISO 8601. `pretty`: one value a line."""
    return json_text({"report": answer.report.name, "rows": list(answer.rows)}, pretty)


def as_csv(answer: Answer, quote_formulas: bool = True) -> str:
    """Return a header and one line for each row, with every column of the database.

    With `quote_formulas` a text that a spreadsheet would run as a formula begins with an apostrophe.
    """
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(answer.columns), lineterminator="\n")
    writer.writeheader()
    for row in answer.rows:
        cells = {key: _flat(value) for key, value in row.items()}
        writer.writerow({key: unformula(cell) for key, cell in cells.items()} if quote_formulas else cells)
    return buffer.getvalue()


def _flat(value: Any) -> Any:
    cell = plain(value)
    return json_text(cell) if isinstance(cell, dict | list) else cell
