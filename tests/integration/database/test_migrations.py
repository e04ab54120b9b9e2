"""The migrated schema equals the declared one, for every role that upgrades and after any number of upgrades."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Engine, text
from tests.support.door import Ended, enter

from gnomon_consumer.database.connections import engine_for
from gnomon_consumer.database.tables import SCHEMA, metadata
from gnomon_migrations import runner

APPROXIMATE = "approximate: an earlier version chose part of the probe; one day only: no interval for days like these"


def _ours(item: Any, name: str | None, kind: str, reflected: bool, _counterpart: Any) -> bool:
    """Leave out the partitions of `pairs` and Alembic's own table."""
    partition = kind == "table" and reflected and str(name).startswith("pairs_")
    return not partition and name != "alembic_version"


@contextmanager
def at_revision(engine: Engine, revision: str) -> Iterator[Connection]:
    """Begin a transaction in a new database with the tables of an earlier revision, a stream and a deployment."""
    config = runner._config()
    with engine.begin() as connection:
        connection.execute(text("create schema gnomon"))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        connection.execute(text("insert into gnomon.streams (name) values ('s')"))
        connection.execute(text("insert into gnomon.deployments (stream_id, name) values (1, 'new')"))
        yield connection


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


def _db(url: str, *arguments: str) -> Ended:
    return enter("db", *arguments, cwd=Path.cwd(), env={"GNOMON_DATABASE_URL": url})


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
    ended = [process.communicate(timeout=180) for process in both]
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
        ("mysql://localhost/x", 2, "Gnomon needs PostgreSQL"),
        ("not a url", 2, "database_url is neither a URL"),
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


def test_probes_of_an_earlier_version_keep_an_approximate_weight(empty_database_url: str) -> None:
    """Two windows of four pairs; in the first one, one pair was scored alone."""
    engine = engine_for(empty_database_url)
    with at_revision(engine, "0005") as connection:
        connection.execute(
            text(
                "insert into gnomon.pairs (deployment_id, event_time, source_partition, source_offset, request_id,"
                " live_model_name, live_model_version, shadow_latency_us, shadow_batch_size, scored_at, outcome,"
                " capture_probability, inclusion_probability, rank, window_id, producer_id, producer_sequence)"
                " select 1, now(), 0, i, 'r', 'm', '1', 10, case i when 0 then 1 else 3 end, now(), 'scored', 1, 0.5,"
                " i, lpad((i / 4)::text, 32, '0')::uuid, lpad('0', 32, '0')::uuid, i from generate_series(0, 7) i"
            )
        )
        connection.execute(
            text(
                "insert into gnomon.windows (deployment_id, source_partition, start_offset, end_offset, window_id,"
                " tick_id, opened_at, sealed_at, close_reason, lag_s, seed, policy, seen, joined_seen, shadow_offset)"
                " select 1, 0, 8 * i, 8 * i + 8, lpad(i::text, 32, '0')::uuid, lpad('0', 32, '0')::uuid, now(), now(),"
                " 'time', 0, 0, 'p', 8, 8, 9 from generate_series(0, 1) i"
            )
        )
    assert runner.upgrade(engine)
    with engine.connect() as connection:
        found = connection.execute(
            text("select source_offset, probe_probability from gnomon.pairs where probe_probability is not null")
        ).all()
        assert [tuple(row) for row in found] == [(0, 0.5 / 4)]
        said = connection.execute(text("select n, weight, status from report_v1.latency('s') where measure = 'shadow'"))
        assert {tuple(row) for row in said} == {(1, 8.0, APPROXIMATE)}
    assert _difference(empty_database_url) == []


def test_hours_are_counted_anew_by_the_rules_of_comparing(empty_database_url: str) -> None:
    """Values that differ by rounding agree, a decision next to NaN is not comparable; expired pairs stay counted."""
    engine = engine_for(empty_database_url)
    with at_revision(engine, "0008") as connection:
        pairs = [
            # hour, live value and label, shadow value and label
            (0, 1.0, None, 1.000001, None),
            (0, 1.0, None, 2.0, None),
            (1, 0.5, "a", float("nan"), "a"),
            (1, 0.5, "a", 0.6, "a"),
            (2, 1.0, None, 1.000001, None),
        ]
        for offset, (hour, live, live_label, shadow, shadow_label) in enumerate(pairs):
            connection.execute(
                text(
                    "insert into gnomon.pairs (deployment_id, event_time, source_partition, source_offset, request_id,"
                    " live_model_name, live_model_version, live_value, live_label, shadow_value, shadow_label,"
                    " scored_at, outcome, capture_probability, inclusion_probability, rank, window_id, producer_id,"
                    " shadow_batch_size, producer_sequence) values (1, timestamptz '2026-01-01 00:30Z'"
                    " + make_interval(hours => :hour), 0,"
                    " :offset, 'r', 'm', '1', :live, :live_label, :shadow, :shadow_label, now(), 'scored', 1, 0.5, 0,"
                    " lpad('0', 32, '0')::uuid, lpad('0', 32, '0')::uuid, 1, :offset)"
                ),
                {"hour": hour, "offset": offset, "live": live, "live_label": live_label, "shadow": shadow,
                 "shadow_label": shadow_label},
            )  # fmt: skip
        # The counts of an earlier version; one pair of hour 2 has expired since.
        for hour, scored, comparable, agreed in ((0, 2, 2, 0), (1, 2, 2, 2), (2, 2, 2, 1)):
            connection.execute(
                text(
                    "insert into gnomon.rollups (deployment_id, hour, stratum, seen, sampled, scored, comparable,"
                    " agreed, weight, weight_squared, comparable_weight, comparable_weight_squared, agreed_weight,"
                    " agreed_weight_squared) values (1, timestamptz '2026-01-01 00:00Z'"
                    " + make_interval(hours => :hour), '', 4, 2, :scored, :comparable, :agreed, 4, 8, 2 * :comparable,"
                    " 4 * :comparable, 2 * :agreed, 4 * :agreed)"
                ),
                {"hour": hour, "scored": scored, "comparable": comparable, "agreed": agreed},
            )
        connection.execute(
            text(
                "insert into gnomon.rollup_labels (deployment_id, hour, live_label, shadow_label, pairs, weight,"
                " weight_squared) values (1, timestamptz '2026-01-01 01:00Z', 'a', 'a', 2, 4, 8)"
            )
        )
    assert runner.upgrade(engine)
    with engine.connect() as connection:
        found = connection.execute(
            text(
                "select comparable, agreed, comparable_weight, comparable_weight_squared, agreed_weight,"
                " agreed_weight_squared from gnomon.rollups order by hour"
            )
        ).all()
        assert [tuple(row) for row in found] == [(2, 1, 4, 8, 2, 4), (1, 1, 2, 4, 2, 4), (2, 1, 4, 8, 2, 4)]
        labels = connection.execute(text("select pairs, weight, weight_squared from gnomon.rollup_labels")).all()
        assert [tuple(row) for row in labels] == [(1, 2, 4)]
        said = connection.execute(text("select n, not_comparable, agreement from report_v1.agreement('s')")).one()
        assert tuple(said) == (4, 1, 0.75)
