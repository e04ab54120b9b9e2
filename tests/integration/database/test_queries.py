"""PostgreSQL can prepare every statement of a `queries.sql`."""

import re
from pathlib import Path

import psycopg
import pytest
from psycopg import errors

from gnomon_consumer.database.queries import Queries, queries_of

ROOT = Path(__file__).parents[3] / "consumer"
PACKAGES = sorted(".".join(file.parent.relative_to(ROOT).parts) for file in ROOT.rglob("queries.sql"))
UTILITY = ("analyze", "create", "alter", "drop", "lock", "copy", "set")
"""Statements that PREPARE does not accept; those that create a temporary table are run, because others refer to it."""


def numbered(statement: str) -> str:
    """Return the statement with $1, $2, … for its arguments."""
    names: dict[str, int] = {}

    def number(match: re.Match[str]) -> str:
        key = match.group(1) or f"position {match.start()}"
        return f"${names.setdefault(key, len(names) + 1)}"

    return re.sub(r"%(?:\((\w+)\))?s", number, statement)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_statement_can_be_prepared(package: str, database_url: str) -> None:
    queries: Queries = queries_of(package)
    plain = {name: text.decode() for name, text in queries.items() if not re.search(rb"\{\w+\}", text)}
    with psycopg.connect(database_url) as connection:
        for text in plain.values():
            if text.startswith(("create temp", "alter table incoming")):
                connection.execute(text.encode())
        prepared = 0
        for name, text in plain.items():
            if text.startswith(UTILITY):
                continue
            try:
                with connection.transaction():
                    connection.execute(f"prepare q_{name} as {numbered(text)}".encode())
            except errors.IndeterminateDatatype:
                pytest.fail(f"{name}: an argument whose type PostgreSQL cannot tell")
            prepared += 1
    assert prepared > 0
