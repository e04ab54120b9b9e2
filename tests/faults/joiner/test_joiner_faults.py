"""Faults of the joiner, none of which loses or doubles a capture: invariants A, B and D as set equalities."""

import os
import random
import signal
from functools import partial

import psycopg
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from tests.support import join_processes
from tests.support.join_processes import arguments
from tests.support.joined_database import STATIC, assert_all_joined, drain, members, one, wait_until
from tests.support.logs import START_US, identity, make_logs

from gnomon_consumer.database import maintenance
from gnomon_schemas.codec import Codec
from gnomon_schemas.features import FeatureSchema


@pytest.mark.parametrize("point", ["copied", "written", "committed"])
def test_killed_around_the_commit(point: str, kafka_bootstrap: str, stream_name: str, database_url: str) -> None:
    """Rows 5 and 6: between COPY and COMMIT everything rolls back; after COMMIT the repetition changes nothing."""
    logs = make_logs(kafka_bootstrap, stream_name)
    logs.capture(400)
    logs.score(0.5)
    settings = join_processes.settings_of(kafka_bootstrap, stream_name, database_url, group_instance_id="joiner-1")
    process = join_processes.killed_at(settings, point, 1)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    stands = one(database_url, "select count(*) from gnomon.pairs")[0]
    assert (stands == 0) is (point != "committed")
    logs.capture(40)
    logs.score(0.5)
    drain(logs, database_url)
    assert_all_joined(logs, database_url)


def test_a_tenth_is_redelivered(kafka_bootstrap: str, stream_name: str, database_url: str) -> None:
    """Windows that are in the shadow log twice, with their rows, give one pair each."""
    logs = make_logs(kafka_bootstrap, stream_name)
    for turn in range(10):
        logs.capture(100)
        logs.score(0.5)
        if turn % 3 == 0:
            logs.repeat(turn)
    drain(logs, database_url)
    assert_all_joined(logs, database_url)


def test_a_truncated_live_log_leaves_orphans(kafka_bootstrap: str, stream_name: str, database_url: str) -> None:
    """Captures that expired before the join are counted, sampled or not, and never skipped silently."""
    logs = make_logs(kafka_bootstrap, stream_name)
    logs.capture(400)
    logs.score(0.5)
    admin = AdminClient({"bootstrap.servers": kafka_bootstrap})
    cut = [TopicPartition(logs.topics.live, partition, 30) for partition in range(4)]
    for future in admin.delete_records(cut).values():
        future.result()
    drain(logs, database_url)
    lost = {(p, o) for p, offsets in logs.sampled.items() for o in offsets if o < 30}
    kept = {(p, o) for p, offsets in logs.sampled.items() for o in offsets} - lost
    with psycopg.connect(database_url) as connection:
        found = connection.execute("select source_partition, source_offset from gnomon.pairs").fetchall()
        assert maintenance.ledger_differences(connection, stream_name) == []
    assert set(found) == kept
    assert one(database_url, "select sum(joined_orphaned) from gnomon.cells") == (len(lost),)
    assert one(database_url, "select sum(seen), sum(joined_seen), sum(joined_missing) from gnomon.windows") == (
        400,
        280,
        120,
    )


def test_a_recreated_topic_is_refused(kafka_bootstrap: str, stream_name: str, database_url: str) -> None:
    """The live topic was re-created under its old name; nothing of it is joined with the old data."""
    logs = make_logs(kafka_bootstrap, stream_name)
    logs.capture(40)
    logs.score()
    drain(logs, database_url)
    admin = AdminClient({"bootstrap.servers": kafka_bootstrap})
    for future in admin.delete_topics([logs.topics.live, logs.topics.shadow("challenger")]).values():
        future.result()
    wait_until(lambda: logs.topics.live not in admin.list_topics(timeout=10).topics)
    again = make_logs(kafka_bootstrap, stream_name)
    again.capture(80)
    again.score()
    process = join_processes.shipped("join", *arguments(kafka_bootstrap, stream_name, database_url), "--drain")
    process.join(60)
    assert process.exitcode == 2
    assert one(database_url, "select count(*) from gnomon.pairs") == (40,)


def test_another_model_under_an_old_name_is_refused(kafka_bootstrap: str, stream_name: str, database_url: str) -> None:
    logs = make_logs(kafka_bootstrap, stream_name)
    logs.capture(8)
    logs.score()
    drain(logs, database_url)
    model = {"name": "gb", "version": "2", "sha256": "cd" * 32}
    logs.begin(*identity(kafka_bootstrap, logs.topics.live), model=model)
    process = join_processes.shipped("join", *arguments(kafka_bootstrap, stream_name, database_url), "--drain", *STATIC)
    process.join(60)
    assert process.exitcode == 2


def test_a_feature_schema_evolves_in_mid_stream(kafka_bootstrap: str, stream_name: str, database_url: str) -> None:
    """Fields are reordered, added and removed; each message is read with its own writer's schema."""
    logs = make_logs(kafka_bootstrap, stream_name)
    logs.capture(40)
    evolved = FeatureSchema.of({"repeat": "boolean", "age": ["null", "int"], "amount": "double"})
    schema = evolved.live
    logs.producer.produce(logs.topics.schemas, schema.text.encode(), str(schema.fingerprint), partition=0)
    old, logs.live_codec = logs.live_codec, Codec(schema)
    logs.capture(40, features={"repeat": True, "age": 40, "amount": -1.0})
    logs.live_codec = old
    logs.capture(40)
    logs.score()
    drain(logs, database_url)
    assert_all_joined(logs, database_url)
    with psycopg.connect(database_url) as connection:
        positions: dict[str, int] = dict(
            connection.execute("select name, position from gnomon.feature_columns where kind = 'numeric'").fetchall()
        )
        amounts = connection.execute(
            "select features_numeric[%s], request_id from gnomon.pairs", [positions["amount"]]
        ).fetchall()
    assert {(a, r) for a, r in amounts} == {(-1.0 if 40 <= n < 80 else float(n), f"r{n}") for n in range(120)}


def test_clocks_that_differ_by_an_hour(kafka_bootstrap: str, stream_name: str, database_url: str) -> None:
    """The join uses offsets, whatever the producers' clocks show."""
    logs = make_logs(kafka_bootstrap, stream_name)
    skew = random.Random(3)
    for _ in range(100):
        logs.capture(1, captured_at=START_US + skew.randint(-3_600_000_000, 3_600_000_000))
    logs.score()
    drain(logs, database_url)
    assert_all_joined(logs, database_url)


def _joined(url: str) -> int:
    return int(one(url, "select coalesce(sum(next_source_offset), 0) from gnomon.join_progress")[0])


def _beyond(url: str, floor: int) -> bool:
    return _joined(url) > floor


@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky"])
def test_members_come_and_go(kafka_bootstrap: str, stream_name: str, database_url: str, strategy: str) -> None:
    """A second member takes over partitions and gives them back; each continues at the progress in the database."""
    logs = make_logs(kafka_bootstrap, stream_name)
    options = ("join", *arguments(kafka_bootstrap, stream_name, database_url))
    assigned = ("-X", f"partition.assignment.strategy={strategy}")

    def more() -> None:
        floor = sum(map(len, logs.captured.values()))
        logs.capture(200)
        logs.score(0.5)
        wait_until(lambda: _joined(database_url) == floor + 200)

    with join_processes.running(*options, *assigned):
        more()
        with join_processes.running(*options, *assigned):
            wait_until(lambda: len(members(kafka_bootstrap, stream_name)) == 2)
            more()
            more()
        more()
    assert_all_joined(logs, database_url)


def test_a_zombie_steps_down(kafka_bootstrap: str, stream_name: str, database_url: str) -> None:
    """Row 7 with real members: one is stopped past its session, another takes over, the first wakes and writes."""
    logs = make_logs(kafka_bootstrap, stream_name)
    quick = ("-X", "session.timeout.ms=1500", "-X", "heartbeat.interval.ms=300")
    options = ("join", *arguments(kafka_bootstrap, stream_name, database_url), *quick)

    def more(count: int) -> int:
        logs.capture(count)
        logs.score(0.5)
        return sum(map(len, logs.captured.values()))

    with join_processes.running(*options) as zombie:
        floor = more(40) - 1
        wait_until(partial(_beyond, database_url, floor))
        assert zombie.pid is not None
        os.kill(zombie.pid, signal.SIGSTOP)
        floor = more(200) - 1
        with join_processes.running(*options):
            wait_until(partial(_beyond, database_url, floor))
            os.kill(zombie.pid, signal.SIGCONT)
            floor = more(80) - 1
            wait_until(partial(_beyond, database_url, floor))
            wait_until(lambda: len(members(kafka_bootstrap, stream_name)) == 2)
            floor = more(80) - 1
            wait_until(partial(_beyond, database_url, floor))
    assert_all_joined(logs, database_url)
