"""The content of the HTML report, read from `report_v1` once."""

from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any

import psycopg
from psycopg.rows import DictRow, dict_row

from gnomon_consumer.reports.catalogue import REPORTS
from gnomon_consumer.reports.hints import live_versions
from gnomon_consumer.reports.query import UTC, Answer, Question, ask, in_its_zone
from gnomon_consumer.runtime.visible import visible

MOST_VALUES = 12
MOST_DISAGREEMENTS = 10
TIMES = ("weekday", "hour")
# These read all pairs unless the page asks for a part, `latency` reads one anyway.
DRAWN = ("agreement", "errors", "latency")
# What the page asks in any case. The longest come first: connections take one after the other.
ASKED = (
    "quality", "agreement", "latency", "errors", "segments", "confusion", "disagreements", "timeline", "coverage",
    "ledger",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Page:
    """The rows of every part of the report; `challengers` and `control` are rows of `report_v1.deployments`.

    `answers`: the reports' rows, so that other pages need not query them again.
    """

    question: Question
    made_at: datetime
    challengers: Sequence[DictRow]
    control: DictRow | None
    problem: str | None
    reports: Mapping[str, Sequence[DictRow]]
    quality: Sequence[DictRow]
    classes: Sequence[DictRow]
    slices: Mapping[str, Sequence[DictRow]]
    timeline: Sequence[DictRow]
    disagreements: Sequence[DictRow]
    answers: Mapping[str, Answer]
    verdicts: Mapping[str, DictRow]
    live_versions: Sequence[str]

    def find_row(self, report: str, deployment: str, **wanted: Any) -> DictRow:
        """Return the row of one deployment in a report; empty if there is none."""
        for row in self.reports[report]:
            if row["deployment"] == deployment and all(row.get(key) == value for key, value in wanted.items()):
                return row
        return {}

    @property
    def by_values(self) -> bool:
        """Return whether every comparable answer is a number without a decision."""
        return by_values(self.reports["agreement"])

    @property
    def shares(self) -> dict[str, float]:
        """Return the lowest share of a deployment's pairs that a report read, where that is below 1."""
        found: dict[str, float] = {}
        drawn = (row for name in DRAWN for row in self.reports[name])
        for row in (*drawn, *self.quality, *self.classes, *(row for each in self.slices.values() for row in each)):
            if (row["read_share"] or 1) < found.get(row["deployment"], 1):
                found[row["deployment"]] = row["read_share"]
        return found

    def look(self, deployment: str) -> int:
        """Return the number of a deployment's colour and shape: from 0 on for challengers, -1 for the control."""
        names = [row["deployment"] for row in self.challengers]
        return names.index(deployment) if deployment in names else -1

    @property
    def deployments(self) -> list[DictRow]:
        """Return the challengers, then the control."""
        return [*self.challengers, *([self.control] if self.control else [])]


def by_values(agreement: Sequence[DictRow]) -> bool:
    """Return whether the rows of the report `agreement` compare only numbers."""
    return {row.get("compares") for row in agreement} - {None} == {"values"}


def gather(
    connection: psycopg.Connection[Any],
    question: Question,
    made_at: datetime,
    others: Sequence[psycopg.Connection[Any]] = (),
) -> Page:
    """Run all reports, on several connections at once if there are `others`.

    A question about one challenger also includes the control. Never raises for a stream without data: `problem` and the
    rows' status say what is missing.
    """
    question = in_its_zone(connection, question)
    rows = _select(connection, "deployments", {"stream": question.stream})
    challengers = [row for row in rows if row["role"] != "control" and question.deployment in (None, row["deployment"])]
    control = next((row for row in rows if row["role"] == "control"), None)
    shown = {row["deployment"] for row in (*challengers, *([control] if control else []))}

    def shown_rows(answer: Answer) -> list[DictRow]:
        """Return an answer's rows for the challengers and the control."""
        return [row for row in answer.rows if row["deployment"] in shown]

    extra: dict[str, Mapping[str, Any]] = {
        "disagreements": {"top": MOST_DISAGREEMENTS},
        "agreement": {"drawn": True},
        "errors": {"drawn": True},
    }
    asked = {name: (name, _narrowed(question, name, extra.get(name, {}))) for name in ASKED}
    asked |= {time: ("time_of_day", _narrowed(question, "time_of_day", {"slice": time})) for time in TIMES}
    answers = _ask_all((connection, *others), asked)

    reports = {
        name: shown_rows(answers[name])
        for name in ("agreement", "latency", "errors", "coverage", "ledger", "confusion")
    }
    quality = [row for row in shown_rows(answers["quality"]) if row["n"] > 0 and row["metric"]]
    decisions = {row[f"{side}_label"] for row in reports["confusion"] for side in ("live", "shadow")} - {None}
    if quality and len(decisions) > 2:  # for two classes, the quality metrics are enough
        horizon = max(row["horizon"] for row in quality)
        answers["classes"] = ask(connection, "classes", _narrowed(question, "classes", {"horizon": horizon}))
    metric = ("value", "difference") if by_values(reports["agreement"]) else ("agreement", "pair")
    return Page(
        question=question,
        made_at=made_at,
        challengers=challengers,
        control=control,
        problem=None if challengers else _problem(connection, question, control),
        reports=reports,
        quality=quality,
        classes=shown_rows(answers["classes"]) if "classes" in answers else [],
        slices={
            **_segments(_of_metric(shown_rows(answers["segments"]), *metric)),
            **{time: _of_metric(shown_rows(answers[time]), *metric) for time in TIMES},
        },
        timeline=[row for row in shown_rows(answers["timeline"]) if row["at"] is not None],
        disagreements=[
            row for row in shown_rows(answers["disagreements"]) if row["role"] != "control" and row["place"]
        ],
        answers=answers,
        verdicts={row["deployment"]: row for row in _select(connection, "verdicts", {"stream": question.stream})},
        live_versions=[visible(version) for version in live_versions(connection, question)],
    )


def _ask_all(
    connections: Sequence[psycopg.Connection[Any]], asked: Mapping[str, tuple[str, Question]]
) -> dict[str, Answer]:
    """Return the answer to every question; each connection takes the next one when it has finished another."""
    waiting = deque(asked.items())
    answers: dict[str, Answer] = {}

    def work(connection: psycopg.Connection[Any]) -> None:
        try:
            while waiting:
                key, (name, question) = waiting.popleft()
                answers[key] = ask(connection, name, question)
        except BaseException:
            waiting.clear()
            raise

    first, *rest = connections
    if not rest:
        work(first)
        return answers
    with ThreadPoolExecutor(len(rest)) as threads:
        working = [threads.submit(work, connection) for connection in rest]
        try:
            work(first)
        except BaseException:
            # Leaving the block waits for the threads: let the server end what they ask.
            for connection in rest:
                connection.cancel()
            raise
        for each in working:
            each.result()
    return answers


def _of_metric(rows: Sequence[DictRow], metric: str, side: str) -> list[DictRow]:
    return [row for row in rows if (row["metric"], row["side"]) == (metric, side) and row["n"] > 0]


def _segments(rows: Sequence[DictRow]) -> dict[str, list[DictRow]]:
    """Return rows by segment key, without keys that have only one value or too many to read."""
    found: dict[str, list[DictRow]] = {}
    for row in rows:
        found.setdefault(f"segment:{row['key']}", []).append(row)
    values = {key: len({row["value"] for row in kept}) for key, kept in found.items()}
    return {key: found[key] for key in sorted(found, key=lambda key: values[key]) if 1 < values[key] <= MOST_VALUES}


def _problem(connection: psycopg.Connection[Any], question: Question, control: DictRow | None) -> str:
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


def _select(connection: psycopg.Connection[Any], name: str, arguments: Mapping[str, Any]) -> list[DictRow]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query_text(name), arguments).fetchall()


@cache
def query_text(name: str) -> bytes:
    """Return the text of one named query of this package."""
    return files("gnomon_consumer.reports").joinpath("sql", f"{name}.sql").read_bytes()
