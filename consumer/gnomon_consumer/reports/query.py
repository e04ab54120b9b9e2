"""Ask one report of the database."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from gnomon_consumer.database import connect
from gnomon_consumer.reports.catalogue import REPORTS, Report
from gnomon_schemas.errors import ConfigurationError, GnomonError

Row = dict[str, Any]


@dataclass(frozen=True)
class Question:
    """What a report is about; None leaves a side open. Times carry a zone; `extra`: the report's own arguments."""

    stream: str
    deployment: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    segment: Mapping[str, str] | None = None
    time_zone: str = "UTC"
    extra: Mapping[str, Any] | None = None

    def fitting(self, name: str) -> "Question":
        """The same question without the period, where the report knows none."""
        return self if "since" in REPORTS[name].arguments else replace(self, since=None, until=None)

    def arguments(self, report: Report) -> dict[str, Any]:
        """The named arguments of the report's function. Raises ConfigurationError for one that it does not know."""
        given: dict[str, Any] = {
            "since": self.since,
            "until": self.until,
            "segment": None if self.segment is None else Jsonb(dict(self.segment)),
            "time_zone": None if self.time_zone == "UTC" else self.time_zone,
            **(self.extra or {}),
        }
        given = {name: value for name, value in given.items() if value is not None}
        unknown = sorted(set(given) - set(report.arguments))
        if unknown:
            raise ConfigurationError(f"report {report.name} cannot be narrowed by {', '.join(unknown)}")
        return {"stream": self.stream, "deployment": self.deployment, **given}


@dataclass(frozen=True)
class Answer:
    """The rows of one report, in the order of the database; never empty: what is missing is said by `status`."""

    report: Report
    columns: tuple[str, ...]
    rows: Sequence[Row]


def ask(connection: psycopg.Connection[Any], name: str, question: Question) -> Answer:
    """Run one report of `REPORTS`. Raises GnomonError where the database refuses, with what it says."""
    return ask_report(connection, REPORTS[name], question)


def ask_report(connection: psycopg.Connection[Any], report: Report, question: Question) -> Answer:
    """Run one report; like `ask`."""
    arguments = question.arguments(report)
    statement = sql.SQL("select * from report_v1.{}({})").format(
        sql.Identifier(report.function),
        sql.SQL(", ").join(sql.SQL("{} => {}").format(sql.Identifier(key), sql.Placeholder(key)) for key in arguments),
    )
    try:
        with connection.cursor(row_factory=dict_row) as cursor:
            # Asked of no row, a misspelt zone would pass unnoticed.
            cursor.execute("select now() at time zone %s", [question.time_zone])
            cursor.execute(statement, arguments)
            columns = tuple(column.name for column in cursor.description or ())
            return Answer(report, columns, cursor.fetchall())
    except psycopg.errors.InvalidSchemaName as error:
        raise GnomonError("the database has no report_v1: run `gnomon db upgrade`") from error
    except psycopg.errors.UndefinedFunction as error:
        raise GnomonError(f"the database does not know report {report.name}: run `gnomon db upgrade`") from error
    except psycopg.DataError as error:
        raise ConfigurationError(f"report {report.name}: {error.diag.message_primary}") from error


def open_reports(url: str) -> psycopg.Connection[Any]:
    """A read-only connection in UTC for any number of reports. Raises DependencyUnreachableError."""
    connection = connect(url, "gnomon report")
    connection.read_only = True
    connection.autocommit = True
    return connection
