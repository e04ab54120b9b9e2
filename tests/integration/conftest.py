"""Fixtures of the tests with real servers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.support.command import Command, Ended
from tests.support.report_database import Database
from tests.support.tap import make_tap

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
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Return the `gnomon` command line, run within this process in a folder of this test."""
    return Command(capsys, monkeypatch, tmp_path)


@pytest.fixture
def tap(mock_bootstrap: str, stream_name: str) -> Iterator[Tap]:
    """A Tap on the mock broker."""
    tap = make_tap(mock_bootstrap, stream_name)
    yield tap
    tap.close()


@pytest.fixture
def ask(command: Any, database_url: str) -> Any:
    """Return `gnomon verdict` on this test's database."""

    def run(*arguments: str, url: str = database_url) -> Ended:
        ended: Ended = command("verdict", "--database-url", url, "--stream", "s", *arguments)
        return ended

    return run
