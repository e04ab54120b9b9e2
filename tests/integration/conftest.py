"""Fixtures of the tests beside real servers."""

from collections.abc import Iterator

import psycopg
import pytest
from tests.hooks import make_tap
from tests.report_rows import Database

from gnomon_producer import Tap


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    """A database with one stream and a challenger."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        made = Database(connection)
        made.add_stream()
        made.add_deployment()
        yield made


@pytest.fixture
def tap(mock_bootstrap: str, stream_name: str) -> Iterator[Tap]:
    """A Tap on the mock broker."""
    tap = make_tap(mock_bootstrap, stream_name)
    yield tap
    tap.close()
