"""The way to PostgreSQL: an engine, and a plain psycopg connection where rows are copied in bulk."""

import psycopg
from sqlalchemy import URL, Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.pool import NullPool

from gnomon_schemas.errors import ConfigurationError, DependencyUnreachableError

CONNECT_SECONDS = 10


def parse_url(url: str) -> URL:
    """The URL with the driver that Gnomon uses; ConfigurationError for anything that is not PostgreSQL."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigurationError(
            "database_url is not a URL; write postgresql://USER@HOST:PORT/DATABASE (environment: GNOMON_DATABASE_URL)"
        ) from None
    if parsed.get_backend_name() not in {"postgresql", "postgres"}:
        raise ConfigurationError(f"database_url names '{parsed.get_backend_name()}'; Gnomon needs postgresql://")
    return parsed.set(drivername="postgresql+psycopg")


def engine_for(url: str) -> Engine:
    """An engine in UTC that connects when it is used and keeps no connection open after."""
    return create_engine(
        parse_url(url),
        connect_args={"connect_timeout": CONNECT_SECONDS, "options": "-c timezone=UTC"},
        poolclass=NullPool,
    )


def connect(url: str, application: str) -> psycopg.Connection:
    """An open psycopg connection in UTC, outside any pool, for COPY. Raises DependencyUnreachableError."""
    parsed = parse_url(url).set(drivername="postgresql")
    try:
        return psycopg.connect(
            parsed.render_as_string(hide_password=False),
            connect_timeout=CONNECT_SECONDS,
            options="-c timezone=UTC",
            application_name=application,
        )
    except psycopg.OperationalError as error:
        raise unreachable(url, error) from error
    except psycopg.ProgrammingError as error:
        raise ConfigurationError(f"database_url: {' '.join(str(error).split())}") from error


def unreachable(url: str, error: Exception) -> DependencyUnreachableError:
    """The error to raise when the database does not answer: where it should be and what libpq says."""
    cause = error.orig if isinstance(error, OperationalError) else error
    where = parse_url(url).set(password=None, drivername="postgresql").render_as_string()
    return DependencyUnreachableError(f"no PostgreSQL at {where}: {' '.join(str(cause).split())}")
