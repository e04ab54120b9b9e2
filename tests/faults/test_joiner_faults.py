"""What may befall the joiner, and that no capture is lost or doubled by it: invariants A, B and D as set equalities."""

import os
import random
import signal
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from tests import join_driver
from tests.integration.test_join import arguments, identity, make_logs
from tests.shadow_log import START_US, Logs

from gnomon_consumer import upkeep
from gnomon_schemas.codec import Codec
from gnomon_schemas.features import FeatureSchema

# A member that is killed comes back under its name: the group need not wait for its session to end.
STATIC = ("-X", "group.instance.id=joiner-1")


def one(url: str, query: str) -> tuple[Any, ...]:
    with psycopg.connect(url) as connection:
        found: tuple[Any, ...] | None = connection.execute(query).fetchone()
    assert found is not None
    return found


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.05)


def members(bootstrap: str, stream: str) -> set[str]:
    """The member ids of the joiner's group."""
    group = f"gnomon.{stream}.join.challenger"
    admin = AdminClient({"bootstrap.servers": bootstrap})
    return {member.member_id for member in admin.describe_consumer_groups([group])[group].result().members}


def drain(logs: Logs, url: str, *more: str) -> None:
    process = join_driver.shipped("join", *arguments(logs.bootstrap, logs.stream, url), "--drain", *STATIC, *more)
    process.join(90)
    assert process.exitcode == 0


def assert_all_joined(logs: Logs, url: str) -> None:
    """Invariants A, B and D: each offset in one bucket, each sampled one in one pair, progress at the end."""
    with psycopg.connect(url) as connection:
        pairs = connection.execute("select source_partition, source_offset, request_id from gnomon.pairs").fetchall()
        windows = connection.execute(
            "select source_partition, start_offset, end_offset, joined_seen from gnomon.windows order by 1, 2"
        ).fetchall()
        progress = connection.execute(
            "select source_partition, next_source_offset from gnomon.join_progress"
        ).fetchall()
        assert upkeep.ledger_differences(connection, logs.stream) == []
    found = [(partition, offset) for partition, offset, _ in pairs]
    assert len(found) == len(set(found))
    assert set(found) == {(p, o) for p, offsets in logs.sampled.items() for o in offsets}
    assert all(logs.captured[p][o] == request_id for p, o, request_id in pairs)
    covered = [(partition, offset) for partition, a, b, _ in windows for offset in range(a, b)]
    assert covered == sorted((p, o) for p, ids in logs.captured.items() for o in range(len(ids)))
    assert all(seen == b - a for _, a, b, seen in windows)
    assert dict(progress) == {p: len(ids) for p, ids in logs.captured.items()}


@pytest.mark.parametrize("point", ["copied", "written", "committed"])
def test_killed_around_the_commit(point: str, kafka_bootstrap: str, stream_name: str, database_url: str) -> None:
    """Rows 5 and 6: between COPY and COMMIT everything rolls back; after COMMIT the replay changes nothing."""
    logs = make_logs(kafka_bootstrap, stream_name)
    logs.capture(400)
    logs.score(0.5)
    overrides = {
        "bootstrap_servers": kafka_bootstrap,
        "stream": stream_name,
        "database_url": database_url,
        "kafka": {"properties": {"group.instance.id": "joiner-1"}},
    }
    process = join_driver.killed_at(overrides, point, 1)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    stands = one(database_url, "select count(*) from gnomon.pairs")[0]
    assert (stands == 0) is (point != "committed")
    logs.capture(40)
    logs.score(0.5)
    drain(logs, database_url)
    assert_all_joined(logs, database_url)


def test_a_tenth_is_redelivered(kafka_bootstrap: str, stream_name: str, database_url: str) -> None:
    """Row 9: windows that stand in the shadow log twice, with their rows, make one pair each."""
    logs = make_logs(kafka_bootstrap, stream_name)
    for turn in range(10):
        logs.capture(100)
        logs.score(0.5)
        if turn % 3 == 0:
            logs.repeat(turn)
    drain(logs, database_url)
    assert_all_joined(logs, database_url)


def test_a_truncated_live_log_leaves_orphans(kafka_bootstrap: str, stream_name: str, database_url: str) -> None:
    """Row 10: what expired before the join is counted, sampled or not, and never skipped in silence."""
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
        assert upkeep.ledger_differences(connection, stream_name) == []
    assert set(found) == kept
    assert one(database_url, "select sum(joined_orphaned) from gnomon.cells") == (len(lost),)
    assert one(database_url, "select sum(seen), sum(joined_seen), sum(joined_missing) from gnomon.windows") == (
        400,
        280,
        120,
    )


def test_a_recreated_topic_is_refused(kafka_bootstrap: str, stream_name: str, database_url: str) -> None:
    """Row 10: the live topic under its old name is another one; nothing is joined across the seam."""
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
    process = join_driver.shipped("join", *arguments(kafka_bootstrap, stream_name, database_url), "--drain")
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
    process = join_driver.shipped("join", *arguments(kafka_bootstrap, stream_name, database_url), "--drain", *STATIC)
    process.join(60)
    assert process.exitcode == 2


def test_a_feature_schema_evolves_in_mid_stream(kafka_bootstrap: str, stream_name: str, database_url: str) -> None:
    """Row 11: fields reordered, added and removed; each message is read with its own writer's schema."""
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
    """Row 23: the join goes by offset, whatever the producers' clocks say."""
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
    """A second member takes over partitions and gives them back; each goes on where the database says."""
    logs = make_logs(kafka_bootstrap, stream_name)
    options = ("join", *arguments(kafka_bootstrap, stream_name, database_url))
    assigned = ("-X", f"partition.assignment.strategy={strategy}")

    def more() -> None:
        floor = sum(map(len, logs.captured.values()))
        logs.capture(200)
        logs.score(0.5)
        wait_until(lambda: _joined(database_url) == floor + 200)

    with join_driver.running(*options, *assigned):
        more()
        with join_driver.running(*options, *assigned):
            wait_until(lambda: len(members(kafka_bootstrap, stream_name)) == 2)
            more()
            more()
        more()
    assert_all_joined(logs, database_url)


def test_a_zombie_steps_down(kafka_bootstrap: str, stream_name: str, database_url: str) -> None:
    """Row 7 with real members: one is stopped past its session, another takes over, the first wakes and writes on."""
    logs = make_logs(kafka_bootstrap, stream_name)
    quick = ("-X", "session.timeout.ms=1500", "-X", "heartbeat.interval.ms=300")
    options = ("join", *arguments(kafka_bootstrap, stream_name, database_url), *quick)

    def more(count: int) -> int:
        logs.capture(count)
        logs.score(0.5)
        return sum(map(len, logs.captured.values()))

    with join_driver.running(*options) as zombie:
        floor = more(40) - 1
        wait_until(partial(_beyond, database_url, floor))
        assert zombie.pid is not None
        os.kill(zombie.pid, signal.SIGSTOP)
        floor = more(200) - 1
        with join_driver.running(*options):
            wait_until(partial(_beyond, database_url, floor))
            os.kill(zombie.pid, signal.SIGCONT)
            floor = more(80) - 1
            wait_until(partial(_beyond, database_url, floor))
            wait_until(lambda: len(members(kafka_bootstrap, stream_name)) == 2)
            floor = more(80) - 1
            wait_until(partial(_beyond, database_url, floor))
    assert_all_joined(logs, database_url)
