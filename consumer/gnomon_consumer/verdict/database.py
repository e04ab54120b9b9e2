"""Queries of the verdict, each answered by one function in the database."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from psycopg import sql
from psycopg.rows import DictRow, dict_row

from gnomon_consumer.database import connections
from gnomon_consumer.database.connections import Access, Connection
from gnomon_consumer.database.queries import queries_of, rows_of
from gnomon_migrations.views import stale
from gnomon_schemas.errors import ConfigurationError

SQL = queries_of(__package__)


@contextmanager
def opened(url: str, access: Access = Access.WRITE) -> Iterator[Connection]:
    """Yield a connection; raise an error with the solution if tables or views have another version."""
    connection = connections.connect(url, "gnomon verdict", access)
    try:
        if stale({row["name"]: row["sha256"] for row in rows(connection, SQL["view_versions"], {})}):
            raise ConfigurationError(
                "the database's functions and views are those of another version of Gnomon: run `gnomon db upgrade` as"
                " the tables' owner"
            )
        yield connection
    finally:
        connection.close()


def ask(connection: Connection, function: str, **arguments: Any) -> list[DictRow]:
    """Return the rows of a report, or of one of the verdict's own functions; arguments by name."""
    schema = "gnomon_estimators" if function.startswith("verdict_") else "report_v1"
    return rows(connection, rows_of(schema, function, arguments), arguments)


def rows(connection: Connection, statement: sql.Composed | bytes, arguments: Mapping[str, Any]) -> list[DictRow]:
    """Return the rows of a statement as dictionaries."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(statement, arguments).fetchall()


def one(connection: Connection, statement: bytes, **arguments: Any) -> DictRow | None:
    """Return the first row of a statement, None if there is none."""
    found = rows(connection, statement, arguments)
    return found[0] if found else None


@dataclass(frozen=True)
class Subject:
    """The deployment that a query is about, on a connection."""

    connection: Connection
    row: DictRow

    @property
    def id(self) -> int:
        """Return the deployment's number."""
        return int(self.row["deployment_id"])

    def ask(self, function: str, **arguments: Any) -> list[DictRow]:
        """Return the rows of a function of the verdict or of a report, about this deployment."""
        named = {"stream": self.row["stream"], "deployment": self.row["deployment"]}
        return ask(self.connection, function, **named, **arguments)

    def one(self, statement: bytes, **arguments: Any) -> DictRow | None:
        """Return the first row of a statement about this deployment."""
        return one(self.connection, statement, id=self.id, **arguments)


def deployment_row(connection: Connection, stream: str, deployment: str | None) -> DictRow:
    """Return the deployment's row. Raises ConfigurationError that names the existing deployments.

    Without a name, the stream's only challenger is used.
    """
    known = rows(connection, SQL["deployments"], {"stream": stream})
    if not known:
        streams = [r["name"] for r in rows(connection, SQL["streams"], {})]
        there = f"there are {', '.join(streams)}" if streams else "there is none yet"
        raise ConfigurationError(f"stream {stream} has no deployment; streams with data: {there}")
    wanted = [row for row in known if row["deployment"] == deployment]
    if deployment is None:
        wanted = [row for row in known if row["role"] != "control"]
    if len(wanted) == 1:
        return wanted[0]
    names = ", ".join(row["deployment"] for row in known)
    if deployment is None:
        raise ConfigurationError(f"name one with --deployment: stream {stream} has {names}")
    raise ConfigurationError(f"stream {stream} has no deployment {deployment}; there are {names}")
