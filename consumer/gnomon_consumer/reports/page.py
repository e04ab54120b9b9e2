"""The content of the HTML report, read from `report_v1` once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any

import psycopg
from psycopg.rows import dict_row

from gnomon_consumer.reports.catalogue import REPORTS
from gnomon_consumer.reports.query import UTC, Answer, Question, Row, ask, in_its_zone

MOST_VALUES = 12
MOST_DISAGREEMENTS = 10
TIMES = ("weekday", "hour")


@dataclass(frozen=True, kw_only=True)
class Page:
    """The rows of every part of the report; `challengers` and `control` are rows of `report_v1.deployments`.

    `answers`: the reports' rows, so that other pages need not query them again.
    """

    question: Question
    made_at: datetime
    challengers: Sequence[Row]
    control: Row | None
    problem: str | None
    reports: Mapping[str, Sequence[Row]]
    quality: Sequence[Row]
    classes: Sequence[Row]
    slices: Mapping[str, Sequence[Row]]
    timeline: Sequence[Row]
    disagreements: Sequence[Row]
    answers: Mapping[str, Answer]
    verdicts: Mapping[str, Row]

    def of(self, report: str, deployment: str, **wanted: Any) -> Row:
        """Return the row of one deployment in a report; empty if there is none."""
        for row in self.reports[report]:
            if row["deployment"] == deployment and all(row.get(key) == value for key, value in wanted.items()):
                return row
        return {}

    @property
    def by_values(self) -> bool:
        """Return whether every comparable answer is a number without a decision."""
        return by_values(self.reports["agreement"])

    def look(self, deployment: str) -> int:
        """Return the number of a deployment's colour and shape: from 0 on for challengers, -1 for the control."""
        names = [row["deployment"] for row in self.challengers]
        return names.index(deployment) if deployment in names else -1

    @property
    def deployments(self) -> list[Row]:
        """Return the challengers, then the control."""
        return [*self.challengers, *([self.control] if self.control else [])]


def by_values(agreement: Sequence[Row]) -> bool:
    """Return whether the rows of the report `agreement` compare only numbers."""
    return {row.get("compares") for row in agreement} - {None} == {"values"}


def gather(connection: psycopg.Connection[Any], question: Question, made_at: datetime) -> Page:
    """Run all reports. A question about one challenger also includes the control.

    Never raises for a stream without data: `problem` and the rows' status say what is missing.
    """
    question = in_its_zone(connection, question)
    rows = _select(connection, "deployments", {"stream": question.stream})
    challengers = [row for row in rows if row["role"] != "control" and question.deployment in (None, row["deployment"])]
    control = next((row for row in rows if row["role"] == "control"), None)
    shown = {row["deployment"] for row in (*challengers, *([control] if control else []))}

    answers: dict[str, Answer] = {}

    def of(name: str, **extra: Any) -> list[Row]:
        """Return a report's rows for the challengers and the control, with the filters that the report accepts."""
        answer = ask(connection, name, _narrowed(question, name, extra))
        answers.setdefault(name, answer)
        return [row for row in answer.rows if row["deployment"] in shown]

    reports = {
        name: of(name) for name in ("agreement", "latency", "errors", "coverage", "ledger", "confusion", "labels")
    }
    quality = [row for row in of("quality") if row["n"] > 0 and row["metric"]]
    decisions = {row[f"{side}_label"] for row in reports["confusion"] for side in ("live", "shadow")} - {None}
    several = len(decisions) > 2  # for two classes, the quality metrics are enough
    metric = ("value", "difference") if by_values(reports["agreement"]) else ("agreement", "pair")
    return Page(
        question=question,
        made_at=made_at,
        challengers=challengers,
        control=control,
        problem=None if challengers else _problem(connection, question, control),
        reports=reports,
        quality=quality,
        classes=of("classes", horizon=max(row["horizon"] for row in quality)) if quality and several else [],
        slices={
            **_segments(_of_metric(of("segments"), *metric)),
            **{time: _of_metric(of("time_of_day", slice=time), *metric) for time in TIMES},
        },
        timeline=[row for row in of("timeline") if row["at"] is not None],
        disagreements=[
            row for row in of("disagreements", top=MOST_DISAGREEMENTS) if row["role"] != "control" and row["place"]
        ],
        answers=answers,
        verdicts={row["deployment"]: row for row in _select(connection, "verdicts", {"stream": question.stream})},
    )


def _of_metric(rows: Sequence[Row], metric: str, side: str) -> list[Row]:
    return [row for row in rows if (row["metric"], row["side"]) == (metric, side) and row["n"] > 0]


def _segments(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return rows by segment key, without keys that have only one value or too many to read."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(f"segment:{row['key']}", []).append(row)
    values = {key: len({row["value"] for row in kept}) for key, kept in found.items()}
    return {key: found[key] for key in sorted(found, key=lambda key: values[key]) if 1 < values[key] <= MOST_VALUES}


def _problem(connection: psycopg.Connection[Any], question: Question, control: Row | None) -> str:
    """Return why there is no challenger to show."""
    if control and question.deployment == control["deployment"]:
        return f"{question.deployment} is the control, not a challenger"
    if control and question.deployment is None:
        return "no challenger on this stream yet"
    status: str = ask(connection, "ledger", Question(question.stream, question.deployment)).rows[0]["status"]
    return status


def _narrowed(question: Question, report: str, extra: Mapping[str, Any]) -> Question:
    """Return the question for every deployment, without filters that this report lacks (the ledger: segments)."""
    known = REPORTS[report].arguments
    return Question(
        stream=question.stream,
        since=question.since if "since" in known else None,
        until=question.until if "until" in known else None,
        segment=question.segment if "segment" in known else None,
        time_zone=question.time_zone if "time_zone" in known else UTC,
        extra=extra,
    )


def _select(connection: psycopg.Connection[Any], name: str, arguments: Mapping[str, Any]) -> list[Row]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query_text(name), arguments).fetchall()


@cache
def query_text(name: str) -> bytes:
    """Return the text of one named query of this package."""
    return files("gnomon_consumer.reports").joinpath("sql", f"{name}.sql").read_bytes()
