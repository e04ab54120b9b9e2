"""Partitions of `pairs` managed by a real pg_partman, on the machine's own PostgreSQL."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from tests.support.joined_windows import READER, Connection, at, differences, one, sink_of, window
from tests.support.servers.process import Gnomon

from gnomon_consumer.database import maintenance
from gnomon_consumer.database.connections import engine_for
from gnomon_consumer.quickstart.embedded import postgres
from gnomon_migrations import runner

NOW = datetime.now(UTC)


def with_partman() -> list[Path]:
    """Return the `bin` directories of the PostgreSQL servers here that have the extension."""
    return sorted(
        Path("/usr/lib/postgresql", control.parents[1].name, "bin")
        for control in Path("/usr/share/postgresql").glob("*/extension/pg_partman.control")
    )


@pytest.fixture
def url() -> Iterator[str]:
    """A migrated database on such a server."""
    found = with_partman()
    if not found:
        pytest.skip("no pg_partman here (Debian: postgresql-NN-partman)")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GNOMON_POSTGRES_BIN", str(found[-1]))
        with postgres.running() as server:
            assert runner.upgrade(engine_for(server))
            yield server


@pytest.fixture
def connection(url: str) -> Iterator[Connection]:
    with psycopg.connect(url, autocommit=True) as opened:
        yield opened


def hand_over(connection: Connection) -> None:
    """Give the partitions to the extension, as an administrator would: monthly ones from now on."""
    connection.execute("create schema if not exists partman")
    connection.execute("create extension if not exists pg_partman schema partman")
    version = one(connection, "select extversion from pg_extension where extname = 'pg_partman'")[0]
    interval, kind = ("monthly", "native") if version.startswith("4.") else ("1 month", "range")
    connection.execute("drop table gnomon.pairs_default")  # it creates its own default partition
    connection.execute(
        "select partman.create_parent(p_parent_table => 'gnomon.pairs', p_control => 'event_time', p_type => %s,"
        " p_interval => %s)",
        [kind, interval],
    )


def test_partitions_are_left_to_pg_partman(connection: Connection, gnomon: Gnomon, url: str) -> None:
    sink = sink_of(connection)
    hand_over(connection)
    made = {name for (name,) in connection.execute("select partition_name from gnomon.pair_partitions")}
    assert len(made) >= 5  # partman's four future partitions and the present one
    far = NOW - timedelta(days=300)
    sink.apply([window(0, 4, changes={**at(NOW, 0, 1, 2), **at(far, 3)})], READER)
    assert one(connection, "select count(*) from gnomon.pairs_default") == (1,)
    ended = gnomon.run("db", "maintain", "--json", "--database-url", url)
    assert ended.returncode == 0, ended.stderr
    done = json.loads(ended.stdout)
    assert (done["left_to"], done["created"], done["moved"], done["dropped"]) == ("pg_partman", [], 0, [])
    now = {name for (name,) in connection.execute("select partition_name from gnomon.pair_partitions")}
    assert now == made, "a partition was made although the extension makes them"
    connection.execute("select partman.run_maintenance('gnomon.pairs')")
    assert differences(connection) == []

    # The extension would drop expired partitions uncounted, so Gnomon keeps this task to close the ledger.
    connection.execute("update gnomon.streams set retention = '-400 days'")  # even the present partition has expired
    connection.execute("update partman.part_config set retention = '10 years'")
    assert maintenance.maintain(connection, NOW).dropped == []
    connection.execute("update partman.part_config set retention = null")
    done = maintenance.maintain(connection, NOW)
    assert (done.left_to, done.expired) == ("pg_partman", 3)
    assert set(done.dropped) == made
    assert one(connection, "select sum(expired), sum(joined_scored) from gnomon.cells") == (3, 4)
    assert differences(connection) == []
