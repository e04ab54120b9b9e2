"""Connections to PostgreSQL: sessions that depend on no setting of server, role or pooler, and Alembic's engine."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import psycopg
from psycopg import IsolationLevel, pq, sql
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.copy import Copy, Writer
from typing_extensions import override

from gnomon_consumer.database.errors import Access, explain, refused, remember
from gnomon_consumer.database.queries import queries_of
from gnomon_consumer.database.url import parse_database_url
from gnomon_migrations.revision import newest_revision
from gnomon_schemas.errors import ConfigurationError

if TYPE_CHECKING:
    import sqlalchemy
    from sqlalchemy import Engine
    from sqlalchemy.engine import ExceptionContext

Connection: TypeAlias = psycopg.Connection[Any]
SQL = queries_of(__package__)
C = TypeVar("C", bound="psycopg.Connection[Any]")
__all__ = ["Access", "Connection", "Session", "connect", "connect_service", "engine_for", "explain"]

# These hold in every transaction, whatever role, database or server set. They are set inside the transaction, because a
# pooler in transaction mode gives each transaction another server session and would pass a session's settings to other
# users.
SETTINGS: Mapping[str, str] = {
    "search_path": "pg_catalog, pg_temp",
    "client_encoding": "UTF8",
    "datestyle": "ISO, YMD",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "3",
    "array_nulls": "on",
    "standard_conforming_strings": "on",
    "xmloption": "content",
    # An error instead of rows that a policy silently leaves out.
    "row_security": "off",
    # Compiling a report's statements takes many times as long as running them.
    "jit": "off",
}


def _set_locally(settings: Mapping[str, str]) -> sql.Composed:
    # Composed here, because the settings differ from session to session.
    calls = [
        sql.SQL("set_config({}, {}, true)").format(sql.Literal(name), sql.Literal(value))
        for name, value in settings.items()
    ]
    return sql.SQL("select {}").format(sql.SQL(", ").join(calls))


HELD_MS = 30_000
"""How long a service holds its locks while its process is stopped, and how long it waits for those of others."""
OLDEST_SERVER = 130_000
"""As libpq counts: 13.0. The functions of the reports cannot be created in PostgreSQL 12."""
_INTERVAL = re.compile(
    r"(?:(?P<years>[-+]?\d+) years? ?)?(?:(?P<months>[-+]?\d+) mons? ?)?(?:(?P<days>[-+]?\d+) days? ?)?"
    r"(?:(?P<sign>[-+])?(?P<hours>\d+):(?P<minutes>\d\d):(?P<seconds>\d\d(?:\.\d+)?))?"
)


class OurIntervalLoader(Loader):
    """Reads intervals in the style of SETTINGS, years as 365 and months as 30 days, as psycopg does.

    Psycopg's own loader uses the style that the server reported at the start of the connection. A pooler reports the
    style of some earlier server session, and never the current one.
    """

    @override
    def load(self, data: Buffer) -> timedelta:
        found = _INTERVAL.fullmatch(bytes(data).decode())
        if found is None:
            raise ValueError(f"not an interval in PostgreSQL's own style: {bytes(data).decode()!r}")
        part = {name: float(text) for name, text in found.groupdict(default="0").items() if name != "sign"}
        time = timedelta(hours=part["hours"], minutes=part["minutes"], seconds=part["seconds"])
        days = timedelta(days=365 * part["years"] + 30 * part["months"] + part["days"])
        return days - time if found["sign"] == "-" else days + time


class SessionCursor(psycopg.Cursor[Any]):
    """A cursor that runs only inside a transaction, because the settings apply only there."""

    @override
    def execute(self, *arguments: Any, **named: Any) -> "SessionCursor":
        with _in_transaction(self.connection):
            super().execute(*arguments, **named)
        return self

    @override
    def executemany(self, query: Any, params_seq: Iterable[Any], *, returning: bool = False) -> None:
        with _in_transaction(self.connection):
            super().executemany(query, params_seq, returning=returning)

    @override
    @contextmanager
    def copy(self, statement: Any, params: Any = None, *, writer: Writer | None = None) -> Iterator[Copy]:
        with _in_transaction(self.connection), super().copy(statement, params, writer=writer) as copy:
            yield copy


@contextmanager
def _in_transaction(connection: "psycopg.Connection[Any]") -> Iterator[None]:
    """Run the block in its own transaction if none is open."""
    if connection.info.transaction_status == pq.TransactionStatus.IDLE:
        with connection.transaction():
            yield
    else:
        yield


class Session(psycopg.Connection[Any]):
    """A connection in autocommit mode; each of its transactions begins with SETTINGS.

    It uses no named prepared statements and keeps no state on the server between transactions, because the next
    transaction may run in another server session.
    """

    access: Access = Access.WRITE
    where: str = ""
    settings: sql.Composed = _set_locally(SETTINGS)

    @override
    @contextmanager
    def transaction(
        self, savepoint_name: str | None = None, force_rollback: bool = False
    ) -> Iterator[psycopg.Transaction]:
        outermost = self.info.transaction_status == pq.TransactionStatus.IDLE
        try:
            with super().transaction(savepoint_name, force_rollback) as transaction:
                if outermost:
                    super().execute(self.settings)
                yield transaction
        except psycopg.Error as error:
            remember(error, self, self.access, self.where)
            raise


def connect(
    url: str, application: str, access: Access = Access.WRITE, settings: Mapping[str, str] | None = None
) -> Session:
    """Return an open session in autocommit mode, with further `settings` for each of its transactions.

    Raises ConfigurationError if the server refuses or its tables have another version, DependencyUnreachableError if no
    server answers.
    """
    return _checked(_session(url, application, access), lambda _: settings or {})


def connect_service(url: str, application: str) -> Session:
    """Return a session of a long-running service, whose successor must not wait forever for its locks; raise likewise.

    The server ends the session if it is idle in a transaction for HELD_MS, and a wait for a lock fails after as long.
    Shorter limits of role, database or server stay.
    """
    return _checked(_session(url, application, Access.WRITE), _time_limits)


def _time_limits(session: Session) -> dict[str, str]:
    return {name: str(min(own or HELD_MS, HELD_MS)) for name, own in session.execute(SQL["time_limits"])}


def _session(url: str, application: str, access: Access) -> Session:
    session = _open(Session, url, application, access)
    session.autocommit = True
    session.cursor_factory = SessionCursor
    session.adapters.register_loader("interval", OurIntervalLoader)
    # A role's default may be serializable: the reports need no such thing, and a writer would fail at random.
    session.isolation_level = IsolationLevel.READ_COMMITTED
    session.access = access
    session.where = parse_database_url(url).shown
    return session


def _checked(session: Session, further: Callable[[Session], Mapping[str, str]]) -> Session:
    """Add the settings that `further` returns, and check the tables' version; close the session if that fails."""
    try:
        session.settings = _set_locally({**SETTINGS, **further(session)})
        _check_revision(session)
    except psycopg.Error as error:
        session.close()
        raise explain(error) or error from error
    except BaseException:
        session.close()
        raise
    return session


def _check_revision(session: Session) -> None:
    """Raise ConfigurationError if tables and views do not have this program's revision."""
    row = session.execute(SQL["revision"]).fetchone()
    stands, needed = row[0] if row else "nothing", newest_revision()
    if stands < needed or row is None:
        raise ConfigurationError(
            f"the database is at {stands}, this program needs {needed}: run `gnomon db upgrade` as the tables' owner"
        )
    if stands > needed:
        raise ConfigurationError(
            f"the database is at {stands}, created by a newer Gnomon; this program supports up to {needed}:"
            " install the newer one"
        )


def _open(kind: type[C], url: str, application: str, access: Access) -> C:
    address = parse_database_url(url)
    parameters: dict[str, Any] = address.connection_parameters(application, writes=access is not Access.READ)
    try:
        connection = kind.connect(**parameters, prepare_threshold=None)
    except (psycopg.OperationalError, psycopg.ProgrammingError) as error:
        raise refused(error, address.shown) from error
    version = connection.info.server_version
    if version < OLDEST_SERVER:
        connection.close()
        raise ConfigurationError(
            f"PostgreSQL at {address.shown} has version {version // 10_000}.{version % 10_000}; Gnomon needs"
            f" {OLDEST_SERVER // 10_000} or later"
        )
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        connection.close()
        raise ConfigurationError(
            f"the database at {address.shown} is encoded in {encoding}, which cannot store every text:"
            " create it with createdb --encoding UTF8 --template template0"
        )
    return connection


def engine_for(url: str, access: Access = Access.OWN) -> "Engine":
    """Return an engine for Alembic that connects when it is used and keeps no connection open."""
    from sqlalchemy import create_engine, event  # only migrations use it, and loading it takes longer than a report
    from sqlalchemy.pool import NullPool

    where = parse_database_url(url).shown

    def opened() -> Any:
        return _open(psycopg.Connection, url, "gnomon", access)

    engine = create_engine("postgresql+psycopg://", creator=opened, poolclass=NullPool)

    @event.listens_for(engine, "begin")
    def set_locally(connection: "sqlalchemy.Connection") -> None:
        connection.exec_driver_sql(_set_locally(SETTINGS).as_string())

    @event.listens_for(engine, "handle_error")
    def note(context: "ExceptionContext") -> None:
        if context.connection is not None and isinstance(context.original_exception, psycopg.Error):
            driver: Any = context.connection.connection.dbapi_connection
            remember(context.original_exception, driver, access, where)

    return engine
