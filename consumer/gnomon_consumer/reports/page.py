"""Everything that the one-file report shows, asked of `report_v1` once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from gnomon_consumer.reports.query import Question, Row, ask

MOST_SEGMENT_KEYS = 4
MOST_SEGMENT_VALUES = 12
MOST_DISAGREEMENTS = 10
TIMES = ("weekday", "hour")


@dataclass(frozen=True)
class Page:
    """The rows of every part of the report; `challengers` and `control` are rows of `report_v1.deployments`."""

    question: Question
    made_at: datetime
    challengers: Sequence[Row]
    control: Row | None
    problem: str | None
    reports: Mapping[str, Sequence[Row]]
    quality: Sequence[Row]
    slices: Mapping[str, Sequence[Row]]
    timeline: Sequence[Row]
    disagreements: Sequence[Row]
    feature_names: Mapping[str, Sequence[str]]

    def of(self, report: str, deployment: str, **wanted: Any) -> Row:
        """The row of one deployment in a report; empty where there is none."""
        for row in self.reports[report]:
            if row["deployment"] == deployment and all(row.get(key) == value for key, value in wanted.items()):
                return row
        return {}

    @property
    def deployments(self) -> list[Row]:
        """The challengers, then the control."""
        return [*self.challengers, *([self.control] if self.control else [])]


def gather(connection: psycopg.Connection[Any], question: Question, made_at: datetime) -> Page:
    """Ask for everything. A question about one challenger brings the control beside it.

    Never raises for a stream without data: `problem` and the rows' status say what is missing.
    """
    # Sorting by cluster in 4 MB, PostgreSQL's default, would go to disk for any stream worth a report.
    connection.execute("set work_mem = '128MB'")
    every = Question(
        question.stream, None, question.since, question.until, question.segment, question.time_zone, question.extra
    )
    rows = _select(connection, "deployments", {"stream": question.stream})
    challengers = [row for row in rows if row["role"] != "control" and question.deployment in (None, row["deployment"])]
    control = next((row for row in rows if row["role"] == "control"), None)
    problem = None if challengers else _problem(connection, question, control)
    shown = {row["deployment"] for row in (*challengers, *([control] if control else []))}

    def only_shown(found: Sequence[Row]) -> list[Row]:
        return [row for row in found if row["deployment"] in shown]

    arguments = {
        "stream": question.stream,
        "deployment": None,
        "since": question.since,
        "until": question.until,
        "segment": None if question.segment is None else Jsonb(dict(question.segment)),
        "time_zone": question.time_zone,
    }
    reports = {
        name: only_shown(ask(connection, name, _narrowed(every, name)).rows)
        for name in ("agreement", "latency", "errors", "coverage", "ledger", "confusion")
    }
    horizons = _select(connection, "horizons", {"stream": question.stream})
    keys = _select(connection, "segment_keys", {**arguments, "most": MOST_SEGMENT_VALUES, "keys": MOST_SEGMENT_KEYS})
    slices = [*(f"segment:{row['key']}" for row in keys), *TIMES]
    worst = challengers[0]["deployment"] if challengers else None
    return Page(
        question=question,
        made_at=made_at,
        challengers=challengers,
        control=control,
        problem=problem,
        reports=reports,
        quality=only_shown(
            [
                row
                for found in horizons
                for row in _select(connection, "quality", {**arguments, "horizon": found["horizon"]})
            ]
        ),
        slices={slice_: only_shown(_select(connection, "slices", {**arguments, "slice": slice_})) for slice_ in slices},
        timeline=only_shown(_select(connection, "timeline", arguments)),
        disagreements=_select(
            connection, "disagreements", {**arguments, "deployment": worst, "most": MOST_DISAGREEMENTS}
        )
        if worst
        else [],
        feature_names=_feature_names(connection, question.stream),
    )


def _problem(connection: psycopg.Connection[Any], question: Question, control: Row | None) -> str:
    """Why there is no challenger to speak of."""
    if control and question.deployment == control["deployment"]:
        return f"{question.deployment} is the control, not a challenger"
    if control and question.deployment is None:
        return "no challenger on this stream yet"
    status: str = ask(connection, "ledger", Question(question.stream, question.deployment)).rows[0]["status"]
    return status


def _narrowed(question: Question, report: str) -> Question:
    """The question without what this report cannot be narrowed by (the ledger knows no segments)."""
    if report in {"coverage", "ledger"}:
        zone = question.time_zone if report == "coverage" else "UTC"
        return Question(question.stream, question.deployment, question.since, question.until, None, zone)
    if report == "confusion":
        return Question(question.stream, question.deployment, question.since, question.until, question.segment, "UTC")
    return question


def _feature_names(connection: psycopg.Connection[Any], stream: str) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {"numeric": [], "text": []}
    for row in _select(connection, "feature_names", {"stream": stream}):
        names[row["kind"]].append(row["name"])
    return names


def _select(connection: psycopg.Connection[Any], name: str, arguments: Mapping[str, Any]) -> list[Row]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query_text(name), arguments).fetchall()


@cache
def query_text(name: str) -> bytes:
    """The text of one named query of this package."""
    return files("gnomon_consumer.reports").joinpath("sql", f"{name}.sql").read_bytes()
