"""Fixtures of the tests of verdicts."""

from collections.abc import Iterator

import psycopg
import pytest
from tests.support.report_database import Database


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    """A database with Gnomon's tables and no stream."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield Database(connection)
