"""Fixtures of the tests beside real servers."""

from collections.abc import Iterator

import psycopg
import pytest
from tests.report_rows import Database


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    """A database with one stream and a challenger."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        made = Database(connection)
        made.add_stream()
        made.add_deployment()
        yield made
