"""Maintenance of the data: partitions, retention, roles, erasure, and a doctor that detects an open ledger."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import text
from tests.support.command import Command
from tests.support.join_processes import arguments
from tests.support.joined_database import drain
from tests.support.joined_windows import READER, at, differences, one, sink_of, window
from tests.support.logs import make_logs
from tests.support.servers.process import Gnomon

from gnomon_consumer.database import erasure, maintenance
from gnomon_consumer.database.connections import engine_for
from gnomon_consumer.joiner.postgres.sink import Sink
from gnomon_migrations import runner

Connection = psycopg.Connection[Any]
NOW = datetime.now(UTC)


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    with psycopg.connect(database_url) as opened:
        yield opened


def test_retention_drops_partitions_and_keeps_the_count(connection: Connection) -> None:
    sink = sink_of(connection)
    old = NOW - timedelta(days=100)
    sink.apply([window(0, 4, changes={**at(old, 0, 1, 2), **at(NOW, 3)})], READER)
    assert one(connection, "select count(*) from gnomon.pairs_default") == (0,)
    connection.execute("update gnomon.streams set retention = '50 days'")
    done = maintenance.maintain(connection, NOW)
    assert done.expired == 3
    assert done.dropped == [f"pairs_{old:%Y_%m}"]
    assert one(connection, "select count(*) from gnomon.pairs") == (1,)
    assert one(connection, "select joined_scored, expired from gnomon.cells") == (4, 3)
    assert differences(connection) == []
    assert maintenance.maintain(connection, NOW).dropped == []


def test_two_maintain_at_once_beside_the_joiner(connection: Connection, gnomon: Gnomon, database_url: str) -> None:
    """Two callers and a joiner: partitions are dropped once, their rows are counted once, and no window is lost."""
    sink = sink_of(connection)
    months = [NOW - timedelta(days=31 * n) for n in range(8, 0, -1)]
    for at_window, moment in enumerate(months):
        sink.apply([window(2 * at_window, 2, changes=at(moment, 2 * at_window, 2 * at_window + 1))], READER)
    connection.execute("update gnomon.streams set retention = '100 days'")
    callers = [gnomon.start("db", "maintain", "--json", "--database-url", database_url) for _ in range(2)]
    count = len(months)
    while any(caller.popen.poll() is None for caller in callers) or count < len(months) + 3:
        sink.apply([window(2 * count, 2, changes=at(NOW, 2 * count, 2 * count + 1))], READER)
        count += 1
    assert [caller.wait() for caller in callers] == [0, 0], [caller.output for caller in callers]
    done = [json.loads(caller.stdout) for caller in callers]
    dropped = [name for one_caller in done for name in one_caller["dropped"]]
    assert len(dropped) == len(set(dropped)) >= 3
    assert sum(one_caller["expired"] for one_caller in done) == 2 * len(dropped)
    assert one(connection, "select sum(expired) from gnomon.cells") == (2 * len(dropped),)
    assert one(connection, "select count(*) from gnomon.pairs") == (2 * (count - len(dropped)),)
    assert differences(connection) == []


def test_maintain_leaves_what_a_report_holds(connection: Connection, command: Command, database_url: str) -> None:
    sink = sink_of(connection)
    old = NOW - timedelta(days=100)
    sink.apply([window(0, 2, changes=at(old, 0, 1))], READER)
    connection.execute("update gnomon.streams set retention = '50 days'")
    connection.commit()
    with psycopg.connect(database_url) as reader:
        reader.execute("select count(*) from gnomon.pairs")
        ended = command("db", "maintain", "--database-url", database_url)
        assert ended.returncode == 0, ended.stderr
        assert "left for the next run: " in ended.stdout
        assert f"pairs_{old:%Y_%m}" in ended.stdout
        assert one(connection, "select count(*) from gnomon.pairs") == (2,)
    assert maintenance.maintain(connection, NOW).dropped == [f"pairs_{old:%Y_%m}"]


def test_every_partition_has_its_key_and_its_brin_indexes(connection: Connection) -> None:
    sink_of(connection).apply([window(0, 1, changes=at(NOW, 0))], READER)
    rows = connection.execute(
        "select c.relname, array_agg(a.amname || ' ' || pg_get_indexdef(i.indexrelid, 1, true) order by 1)"
        " from pg_inherits h join pg_class c on c.oid = h.inhrelid join pg_index i on i.indrelid = c.oid"
        " join pg_class x on x.oid = i.indexrelid join pg_am a on a.oid = x.relam"
        " where h.inhparent = 'gnomon.pairs'::regclass group by 1"
    ).fetchall()
    assert {name for name, _ in rows} == {"pairs_default", f"pairs_{NOW:%Y_%m}"}
    for _, indexes in rows:
        assert {"brin event_time", "brin joined_at", "btree deployment_id"} <= set(indexes)


def test_a_replayed_past_is_kept(connection: Connection) -> None:
    sink = sink_of(connection)
    past = datetime(2013, 4, 10, tzinfo=UTC)
    sink.declare_replay(past, past + timedelta(days=3))
    sink.apply([window(0, 2, changes=at(past, 0, 1))], READER)
    assert maintenance.maintain(connection, NOW).dropped == []
    assert one(connection, "select count(*) from gnomon.pairs_2013_04") == (2,)


def test_rows_leave_the_default_partition_when_their_time_is_permitted(connection: Connection) -> None:
    sink = sink_of(connection)
    past = datetime(2013, 4, 10, tzinfo=UTC)
    sink.apply([window(0, 3, changes=at(past, 0, 1, 2))], READER)
    assert one(connection, "select count(*) from gnomon.pairs_default") == (3,)
    sink.declare_replay(past - timedelta(days=1), past + timedelta(days=1))
    done = maintenance.maintain(connection, NOW)
    assert done.moved == 3
    assert "pairs_2013_04" in done.created
    assert one(connection, "select count(*), min(tableoid::regclass::text) from gnomon.pairs") == (
        3,
        "gnomon.pairs_2013_04",
    )
    assert differences(connection) == []


def test_daily_partitions_follow_monthly_ones(connection: Connection) -> None:
    sink = sink_of(connection)
    past = datetime(2013, 4, 10, tzinfo=UTC)
    sink.declare_replay(past, past + timedelta(days=90))
    sink.apply([window(0, 1, changes=at(past, 0))], READER)
    connection.execute("update gnomon.partitioning set granularity = 'day'")
    sink.apply([window(1, 2, changes={**at(past, 1), **at(past + timedelta(days=40), 2)})], READER)
    found = connection.execute("select tableoid::regclass::text from gnomon.pairs order by source_offset").fetchall()
    assert [name for (name,) in found] == [
        "gnomon.pairs_2013_04",
        "gnomon.pairs_2013_04",
        "gnomon.pairs_2013_05_20",
    ]


def test_an_open_report_does_not_stall_the_joiner_for_ever(connection: Connection, database_url: str) -> None:
    sink = sink_of(connection)
    with psycopg.connect(database_url) as reader:
        reader.execute("select count(*) from gnomon.pairs")  # holds its locks until the transaction ends
        assert sink.apply([window(0, 1, changes=at(NOW, 0))], READER) == 1
        assert one(connection, "select count(*) from gnomon.pairs_default") == (1,)
    assert maintenance.maintain(connection, NOW).moved == 1


def test_erasing_a_request_leaves_the_ledger_closed(
    connection: Connection, command: Command, database_url: str
) -> None:
    sink = sink_of(connection)
    sink.apply([window(0, 5, changes={3: {"capture_probability": 0.0}})], READER)
    connection.execute(
        "insert into gnomon.label_loads (stream_id, file, sha256) values (1, 'f', 'x');"
        "insert into gnomon.labels (stream_id, request_id, observed_at, value, load_id) values (1, 'r2', now(), 1, 1)"
    )
    options = ("--stream", "s", "--database-url", database_url, "--bootstrap-servers", "127.0.0.1:1", "--json")
    ended = command("db", "erase", "r2", *options, env={"GNOMON_KAFKA__TIMEOUT_SECONDS": "1"})
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert (found["pairs"], found["dead_letters"], found["labels"], found["coordinates"]) == (1, 0, 1, [[0, 2]])
    assert "unknown time" in found["kafka"]["gnomon.s.*"]
    assert erasure.erase(connection, "s", "r3").dead_letters == 1
    assert one(connection, "select count(*) from gnomon.labels") == (0,)
    assert one(connection, "select erased, joined_scored, joined_dead_lettered from gnomon.cells") == (2, 4, 1)
    assert differences(connection) == []


def test_erasing_says_what_kafka_still_holds(
    command: Command, broker: str, stream_name: str, database_url: str
) -> None:
    """By topic, and until when; erased rows do not come back when the joiner runs again."""
    options = arguments(broker, stream_name, database_url)
    logs = make_logs(broker, stream_name)
    logs.capture(8)
    logs.score()
    drain(logs, database_url)
    ended = command("db", "erase", "r5", *options[:4], *options[6:], "--json")
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert (found["pairs"], found["coordinates"]) == (1, [[1, 1]])
    topics = logs.topics
    assert set(found["kafka"]) == {topics.live, topics.shadow("challenger"), topics.labels, topics.dead_letters}
    said = found["kafka"][topics.live]
    if said != "until the mock cluster ends":
        until = datetime.strptime(said, "until %Y-%m-%d %H:%M UTC at the latest").replace(tzinfo=UTC)
        assert timedelta(days=7) < until - NOW < timedelta(days=15)  # retention, and the longest life of a segment
    logs.capture(8)
    logs.score()
    drain(logs, database_url)
    with psycopg.connect(database_url) as connection:
        assert one(connection, "select count(*), count(*) filter (where request_id = 'r5') from gnomon.pairs") == (
            15,
            0,
        )
        assert maintenance.ledger_differences(connection, stream_name) == []


def test_roles_have_what_they_need_and_no_more(connection: Connection, command: Command, database_url: str) -> None:
    for _ in range(2):
        ended = command("db", "roles", "--database-url", database_url)
        assert ended.returncode == 0, ended.stderr
    connection.autocommit = True
    connection.execute("set role gnomon_writer")
    sink = Sink(connection, "s", "challenger")
    sink = sink_of(connection)
    assert sink.apply([window(0, 2, changes=at(NOW, 0, 1))], READER) == 2
    assert one(connection, "select count(*) from gnomon.pairs_default") == (0,)
    for refused in ("truncate gnomon.pairs", "drop table gnomon.pairs", "create table gnomon.mine (x int)"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(refused)
    connection.execute("reset role")
    connection.execute("set role gnomon_reader")
    for refused in (
        "select * from gnomon.pairs",
        "delete from gnomon.pairs",
        "select gnomon.ensure_partition(1, now())",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(refused)
    connection.execute("reset role")


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        ("delete from gnomon.pairs where source_offset = 1", "rows"),
        ("update gnomon.cells set joined_scored = joined_scored - 1 where start_offset = 0", "sampled"),
        ("update gnomon.cells set scored = scored - 1 where start_offset = 0", "sampled"),
        ("update gnomon.windows set joined_seen = joined_seen - 1 where start_offset = 0", "seen"),
        ("delete from gnomon.windows where start_offset = 0", "tiling"),
        ("update gnomon.join_progress set next_source_offset = next_source_offset + 1", "tiling"),
        ("update gnomon.windows set end_offset = end_offset - 1 where start_offset = 3", "length"),
        ("update gnomon.pairs set inclusion_probability = 1e-9 where source_offset = 1", "weights"),
        ("update gnomon.cells set seen = seen * 2, joined_seen = joined_seen * 2", "weights"),
    ],
)
def test_every_difference_is_found(connection: Connection, damage: str, kind: str) -> None:
    sink_of(connection).apply([window(0, 3), window(3, 2)], READER)
    assert differences(connection) == []
    connection.execute(damage)
    assert kind in differences(connection)


def test_partitions_are_left_to_whoever_manages_them(connection: Connection) -> None:
    """The catalogue rows by which pg_partman is recognised, without the extension itself."""
    sink = sink_of(connection)
    connection.execute(
        "create schema partman; create table partman.part_config (parent_table text, retention text);"
        "insert into pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)"
        " values (1, 'pg_partman', 10, 'partman'::regnamespace, false, '5.2')"
    )
    connection.execute("insert into partman.part_config values ('gnomon.another', null)")
    assert maintenance.partition_manager(connection) is None
    connection.execute("update partman.part_config set parent_table = 'gnomon.pairs'")
    sink.apply([window(0, 2, changes=at(NOW, 0, 1))], READER)
    done = maintenance.maintain(connection, NOW)
    assert (done.left_to, done.created, done.moved) == ("pg_partman", [], 0)
    assert one(connection, "select count(*) from gnomon.pairs_default") == (2,)
    assert one(connection, "select count(*) from gnomon.pair_partitions") == (0,)


def test_an_upgrade_beside_a_running_joiner(connection: Connection, database_url: str) -> None:
    """Views and functions are rebuilt while windows are applied; neither waits forever nor loses anything."""
    sink = sink_of(connection)
    engine = engine_for(database_url)
    rebuilt: list[bool] = []

    def upgrade() -> None:
        for _ in range(3):
            with engine.begin() as other:
                other.execute(text("update gnomon.view_versions set sha256 = 'of another version'"))
            rebuilt.append(runner.upgrade(engine))

    beside = threading.Thread(target=upgrade)
    beside.start()
    count = 0
    while beside.is_alive() or count < 5:
        sink.apply([window(2 * count, 2, changes=at(NOW, 2 * count, 2 * count + 1))], READER)
        count += 1
    beside.join()
    assert rebuilt == [True] * 3
    assert one(connection, "select count(*) from gnomon.pairs") == (2 * count,)
    assert differences(connection) == []
