"""The migrated schema is the declared one, whoever upgrades and however often."""

import os
import subprocess
import sys
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from gnomon_consumer.database import engine_for
from gnomon_consumer.tables import SCHEMA, metadata
from gnomon_migrations import runner


def _ours(item: Any, name: str | None, kind: str, reflected: bool, _counterpart: Any) -> bool:
    """Leave out the partitions of `pairs` and Alembic's own table."""
    partition = kind == "table" and reflected and str(name).startswith("pairs_")
    return not partition and name != "alembic_version"


def _difference(url: str) -> list[Any]:
    options = {
        "include_schemas": True,
        "include_name": lambda name, kind, _parents: kind != "schema" or name == SCHEMA,
        "include_object": _ours,
        "compare_type": True,
        "compare_server_default": True,
    }
    with engine_for(url).connect() as connection:
        found: list[Any] = compare_metadata(MigrationContext.configure(connection, opts=options), metadata)
        return found


def _db(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gnomon_consumer", "db", *arguments],
        env={**os.environ, "GNOMON_DATABASE_URL": url},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_migrated_schema_is_the_declared_one(database_url: str) -> None:
    assert _difference(database_url) == []


def test_the_comparison_sees_a_difference(database_url: str) -> None:
    with engine_for(database_url).begin() as connection:
        connection.execute(text("alter table gnomon.cells add column stray int"))
    assert [(kind, column.name) for kind, *_, column in _difference(database_url)] == [("remove_column", "stray")]


def test_concurrent_callers_upgrade_once(empty_database_url: str) -> None:
    changed: list[bool] = []
    together = Barrier(3)

    def call() -> None:
        engine = engine_for(empty_database_url)
        together.wait()
        changed.append(runner.upgrade(engine))
        engine.dispose()

    callers = [Thread(target=call) for _ in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert sorted(changed) == [False, False, True]
    assert _difference(empty_database_url) == []


def test_two_processes_upgrade_at_once(empty_database_url: str) -> None:
    command = [sys.executable, "-m", "gnomon_consumer", "db", "upgrade"]
    environment = {**os.environ, "GNOMON_DATABASE_URL": empty_database_url}
    both = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    ended = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], ended
    assert sorted(out.split()[0] for out, _ in ended) == ["already", "upgraded"]


def test_current_before_and_after(empty_database_url: str) -> None:
    before = _db(empty_database_url, "current")
    assert before.returncode == 1
    assert "gnomon db upgrade" in before.stderr
    assert "Traceback" not in before.stderr
    assert _db(empty_database_url, "upgrade").returncode == 0
    after = _db(empty_database_url, "current")
    assert (after.returncode, after.stdout.strip()) == (0, runner.newest())


def test_the_printed_script_does_the_same(empty_database_url: str, tmp_path: Path) -> None:
    script = _db(empty_database_url, "upgrade", "--sql").stdout
    raw = engine_for(empty_database_url).raw_connection()
    raw.cursor().execute(script)
    raw.commit()
    raw.close()
    assert _difference(empty_database_url) == []
    with engine_for(empty_database_url).connect() as connection:
        assert runner.up_to_date(connection)


def test_changed_views_are_rebuilt_and_tables_kept(database_url: str) -> None:
    engine = engine_for(database_url)
    with engine.begin() as connection:
        connection.execute(text("insert into gnomon.streams (name) values ('kept')"))
        connection.execute(text("update gnomon.view_versions set sha256 = 'of another version'"))
    assert runner.upgrade(engine)
    with engine.connect() as connection:
        assert connection.scalar(text("select name from gnomon.streams")) == "kept"
        assert runner.up_to_date(connection)


@pytest.mark.parametrize(
    ("url", "status", "words"),
    [
        ("postgresql://nobody@127.0.0.1:1/none", 3, "no PostgreSQL at postgresql://nobody@127.0.0.1:1/none"),
        ("mysql://localhost/x", 2, "Gnomon needs postgresql://"),
        ("not a url", 2, "database_url is not a URL"),
    ],
)
def test_a_database_that_does_not_answer_is_one_line(url: str, status: int, words: str) -> None:
    ended = _db(url, "upgrade")
    assert ended.returncode == status
    assert words in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_the_password_is_not_shown() -> None:
    ended = _db("postgresql://nobody:s3cret@127.0.0.1:1/none", "upgrade")
    assert ended.returncode == 3
    assert "s3cret" not in ended.stderr
