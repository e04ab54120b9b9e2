"""A PostgreSQL with the planner settings of a Debian package: JIT on, default costs, owner without privileges."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from gnomon_consumer.quickstart.embedded import postgres as embedded_postgres
from tests.support.servers.postgres import with_database

PACKAGES = Path("/usr/lib/postgresql")
OWNER = "gnomon_owner"


def newest_programs() -> Path | None:
    """Return the programs of the newest PostgreSQL that Debian's packages installed."""
    found = sorted(PACKAGES.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


@contextlib.contextmanager
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, str]]:
    """Yield the URLs of an empty database as its owner, who is no superuser, and as a superuser."""
    programs = newest_programs()
    if programs is None:
        pytest.skip(f"no PostgreSQL of a Debian package in {PACKAGES}")
    monkeypatch.setenv("GNOMON_POSTGRES_BIN", str(programs))
    with embedded_postgres.running() as url:
        with psycopg.connect(url, autocommit=True) as server:
            # The one planner setting in which the embedded server differs.
            server.execute("alter system reset jit")
            server.execute(f"create role {OWNER} login createrole")
            server.execute(f"create database stock owner {OWNER}")
            server.execute("alter database stock set jit = on")
        superuser = with_database(url, "stock")
        yield re.sub(r"//[^@/]*@", f"//{OWNER}@", superuser), superuser
