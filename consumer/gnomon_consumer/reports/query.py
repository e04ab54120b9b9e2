"""Query one report from the database."""

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import Jsonb

from gnomon_consumer.database.connections import Access, connect
from gnomon_consumer.database.queries import queries_of, rows_of
from gnomon_consumer.reports.catalogue import REPORTS, Report
from gnomon_schemas.errors import ConfigurationError

SQL = queries_of(__package__)


UTC = "UTC"
LIVE_VERSION = "@live_version"  # as a key of a segment: the version of the live model


@dataclass(frozen=True)
class Question:
    """The arguments of a report; None means no restriction. Times carry a zone; `extra`: the report's own arguments.

    `time_zone` is the zone of hours and days; None: the stream's own (`gnomon streams set --time-zone`).
    """

    stream: str
    deployment: str | None = None
    _: KW_ONLY
    since: datetime | None = None
    until: datetime | None = None
    segment: Mapping[str, str] | None = None
    time_zone: str | None = None
    extra: Mapping[str, Any] | None = None

    def fitting(self, name: str) -> "Question":
        """Return the same question, without the period if the report takes none."""
        return self if "since" in REPORTS[name].arguments else replace(self, since=None, until=None)

    def arguments(self, report: Report) -> dict[str, Any]:
        """Return the named arguments of the report's function. Raises ConfigurationError for an unknown one."""
        given: dict[str, Any] = {
            "since": self.since,
            "until": self.until,
            "segment": None if self.segment is None else Jsonb(dict(self.segment)),
            "time_zone": None if self.time_zone == UTC else self.time_zone,
            **(self.extra or {}),
        }
        given = {name: value for name, value in given.items() if value is not None}
        unknown = sorted(set(given) - set(report.arguments))
        if unknown:
            raise ConfigurationError(f"report {report.name} has no filter {', '.join(unknown)}")
        slice_ = given.get("slice")
        if slice_ is not None and slice_ not in report.slices and not self._by_segment(report, slice_):
            known = (*report.slices, *(("segment:KEY",) if "all" in report.slices else ()))
            raise ConfigurationError(
                f"report {report.name.replace('_', '-')} has no slice {slice_}; there are {', '.join(known)}"
            )
        return {"stream": self.stream, "deployment": self.deployment, **given}

    def _by_segment(self, report: Report, slice_: str) -> bool:
        return "all" in report.slices and slice_.startswith("segment:") and slice_ != "segment:"


@dataclass(frozen=True)
class Answer:
    """The rows of one report, in the order of the database; never empty: `status` names what is missing."""

    report: Report
    columns: tuple[str, ...]
    rows: Sequence[DictRow]


def ask(connection: psycopg.Connection[Any], name: str, question: Question) -> Answer:
    """Run one report of `REPORTS`. Raises psycopg's errors, ConfigurationError for an argument that is refused."""
    return ask_report(connection, REPORTS[name], question)


def in_its_zone(connection: psycopg.Connection[Any], question: Question) -> Question:
    """Return the question with a time zone: its own, else the stream's, else UTC for an unknown stream."""
    if question.time_zone is not None:
        return question
    row = connection.execute(SQL["time_zone"], [question.stream]).fetchone()
    return replace(question, time_zone=UTC if row is None else row[0])


def ask_report(connection: psycopg.Connection[Any], report: Report, question: Question) -> Answer:
    """Run one report; like `ask`."""
    question = (
        in_its_zone(connection, question) if "time_zone" in report.arguments else replace(question, time_zone=UTC)
    )
    arguments = question.arguments(report)
    try:
        with connection.cursor(row_factory=dict_row) as cursor:
            cursor.execute(SQL["now_in_zone"], [question.time_zone])
            cursor.execute(rows_of("report_v1", report.function, arguments), arguments)
            columns = tuple(column.name for column in cursor.description or ())
            return Answer(report, columns, cursor.fetchall())
    except psycopg.DataError as error:
        raise ConfigurationError(f"report {report.name}: {error.diag.message_primary}") from error


def open_reports(url: str) -> psycopg.Connection[Any]:
    """Return a read-only connection in UTC for any number of reports. Raises DependencyUnreachableError."""
    # Sorting by cluster in 4 MB, PostgreSQL's default, would go to disk for any stream worth a report.
    connection = connect(url, "gnomon report", Access.READ, {"work_mem": "128MB"})
    connection.read_only = True
    return connection
