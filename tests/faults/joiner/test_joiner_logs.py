"""Faults of the logs under a joiner: they expire, lose their end, grow, or are re-created under their names."""

import os
import signal
from contextlib import closing
from functools import partial

import psycopg
import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from tests.support import join_processes
from tests.support.join_processes import arguments
from tests.support.joined_database import assert_all_joined, drain, joined, labels, members, one, stands_at, wait_until
from tests.support.logs import CODECS, START_US, Logs, identity, label, make_logs, start
from tests.support.servers.process import Gnomon

from gnomon_consumer.database import maintenance
from gnomon_consumer.joiner.reading.live_log import LiveLog
from gnomon_consumer.kafka import topics
from gnomon_consumer.settings import load_settings
from gnomon_schemas.topics import Topics

NEW_PARTITIONS_SOON = ("-X", "topic.metadata.refresh.interval.ms=500")


def cut(logs: Logs, topic: str, *ends: TopicPartition) -> None:
    """Delete the beginning of a log."""
    admin = AdminClient({"bootstrap.servers": logs.bootstrap})
    for future in admin.delete_records([TopicPartition(topic, end.partition, end.offset) for end in ends]).values():
        future.result()


def test_a_live_log_truncated_under_the_joiner(kafka_bootstrap: str, stream_name: str, database_url: str) -> None:
    """Captures that expire unread while the joiner runs are counted; the others are paired."""
    logs = make_logs(kafka_bootstrap, stream_name)
    logs.capture(40)
    logs.score()
    with join_processes.running("join", *arguments(kafka_bootstrap, stream_name, database_url)) as process:
        wait_until(lambda: one(database_url, "select count(*) from gnomon.pairs") == (40,))
        assert process.pid is not None
        os.kill(process.pid, signal.SIGSTOP)
        # A fetch in progress returns at most the first of them, and no other fetch can follow.
        logs.capture(200)
        logs.score(0.5)
        cut(logs, logs.topics.live, *(TopicPartition(logs.topics.live, partition, 50) for partition in range(4)))
        os.kill(process.pid, signal.SIGCONT)
        wait_until(partial(stands_at, database_url, 240))
        logs.capture(40)
        logs.score()
        wait_until(partial(stands_at, database_url, 280))
    sampled = {(p, o) for p, offsets in logs.sampled.items() for o in offsets}
    with psycopg.connect(database_url) as connection:
        found = set(connection.execute("select source_partition, source_offset from gnomon.pairs").fetchall())
        assert maintenance.ledger_differences(connection, stream_name) == []
    orphans, missing = one(
        database_url,
        "select (select sum(joined_orphaned) from gnomon.cells), (select sum(joined_missing) from gnomon.windows)",
    )
    assert found <= sampled
    assert all(10 <= offset < 50 for _, offset in sampled - found)
    assert len(sampled) - len(found) == orphans > 0
    assert orphans <= missing <= 160


def test_a_live_log_that_lost_its_end_stops_its_partition(
    gnomon: Gnomon, kafka_bootstrap: str, stream_name: str, database_url: str
) -> None:
    """The shadow log refers to more than the live log holds (its broker was reset): no silent jump."""
    logs = make_logs(kafka_bootstrap, stream_name)
    logs.capture(40)
    logs.captured[1] += ["lost-1", "lost-2"]
    logs.score()
    ended = gnomon.run("join", *arguments(kafka_bootstrap, stream_name, database_url), "--drain")
    assert ended.returncode == 1
    assert "live partition 1 ends at 10, before 12, which the shadow log has seen" in ended.stderr
    assert one(database_url, "select count(*) from gnomon.pairs where source_partition <> 1") == (30,)
    assert one(database_url, "select next_source_offset from gnomon.join_progress where source_partition = 1") == (0,)


def test_a_shadow_log_whose_unread_part_is_gone_stops_its_partition(
    gnomon: Gnomon, kafka_bootstrap: str, stream_name: str, database_url: str
) -> None:
    """Records that expired unread in the shadow log leave an unexplained hole; other partitions continue."""
    logs = make_logs(kafka_bootstrap, stream_name)
    logs.capture(40)
    logs.score()
    drain(logs, database_url)
    for _ in range(2):
        logs.capture(40)
        logs.score()
    next_shadow = one(database_url, "select next_shadow_offset from gnomon.join_progress where source_partition = 2")[0]
    shadow = logs.topics.shadow("challenger")
    cut(logs, shadow, TopicPartition(shadow, 2, next_shadow + 11))  # ten rows and their seal
    ended = gnomon.run("join", *arguments(kafka_bootstrap, stream_name, database_url), "--drain")
    assert ended.returncode == 1
    assert "a hole [10, 20) that no gap record explains" in ended.stderr
    ends = "select source_partition, next_source_offset from gnomon.join_progress order by 1"
    with psycopg.connect(database_url) as connection:
        assert connection.execute(ends).fetchall() == [(0, 30), (1, 30), (2, 10), (3, 30)]
        assert maintenance.ledger_differences(connection, stream_name) == []


def partitions_of(logs: Logs, topic: str) -> int:
    """Return how many partitions the broker reports to the producer, which keeps the answer."""
    return len(logs.producer.list_topics(topic, timeout=10).topics[topic].partitions)


def test_partitions_grow_from_three_to_six_under_the_joiner(
    kafka_bootstrap: str, stream_name: str, database_url: str
) -> None:
    """The running member joins the new partitions from their beginning, in addition to the old ones."""
    settings = load_settings({"bootstrap_servers": kafka_bootstrap})

    def create(partitions: int) -> None:
        topics.create(settings, topics.plan(Topics(stream_name), partitions, ["challenger"]))

    create(3)
    logs = Logs(kafka_bootstrap, stream_name, partitions=3)
    whose = identity(kafka_bootstrap, logs.topics.live)
    logs.begin(*whose)
    options = ("join", *arguments(kafka_bootstrap, stream_name, database_url))

    def more(count: int) -> None:
        logs.capture(count)
        logs.score(0.5)
        wait_until(partial(stands_at, database_url, sum(map(len, logs.captured.values()))))

    with join_processes.running(*options):
        more(90)
        create(6)
        logs.partitions = 6
        logs.producer = Producer({"bootstrap.servers": kafka_bootstrap, "linger.ms": 1})  # the old member knows three
        wait_until(
            lambda: all(
                partitions_of(logs, topic) == 6 for topic in (logs.topics.live, logs.topics.shadow("challenger"))
            )
        )
        for partition in range(3, 6):
            logs.captured[partition], logs.sampled[partition], logs.sealed[partition] = [], set(), 0
            logs.shadow(partition, "DeploymentStart", start(partition, *whose))
        more(180)
        with join_processes.running(*options):
            wait_until(lambda: len(members(kafka_bootstrap, stream_name)) == 2)
            more(60)
        more(60)
    drain(logs, database_url)
    assert_all_joined(logs, database_url)
    assert one(database_url, "select count(*) from gnomon.join_progress") == (6,)


def recreate(logs: Logs, *names: str) -> None:
    """Delete topics; wait until they are gone."""
    admin = AdminClient({"bootstrap.servers": logs.bootstrap})
    for future in admin.delete_topics(list(names)).values():
        future.result()
    wait_until(lambda: not admin.list_topics(timeout=10).topics.keys() & set(names))


@pytest.mark.parametrize("more", [0, 40])
def test_topics_recreated_under_a_running_joiner_are_refused(
    gnomon: Gnomon, kafka_bootstrap: str, stream_name: str, database_url: str, more: int
) -> None:
    """Offsets restart, behind or exactly at the join's position; nothing of the new log becomes a pair."""
    logs = make_logs(kafka_bootstrap, stream_name)
    logs.capture(40)
    logs.score()
    process = gnomon.start("join", *arguments(kafka_bootstrap, stream_name, database_url), *NEW_PARTITIONS_SOON)
    wait_until(lambda: joined(database_url) == 40)
    process.send(signal.SIGSTOP)
    recreate(logs, logs.topics.live, logs.topics.shadow("challenger"))
    again = make_logs(kafka_bootstrap, stream_name)
    again.sequence = 1000
    for count in (40, more, more):
        again.capture(count)
        again.score()
    process.send(signal.SIGCONT)
    assert process.wait(60) == 2, process.output
    assert "was re-created" in process.output
    assert "Traceback" not in process.output
    with psycopg.connect(database_url) as connection:
        found = {request for (request,) in connection.execute("select request_id from gnomon.pairs").fetchall()}
    assert found == {f"r{n}" for n in range(40)}


def test_a_labels_topic_recreated_under_its_consumer_is_refused(
    gnomon: Gnomon, kafka_bootstrap: str, stream_name: str, database_url: str
) -> None:
    logs = make_logs(kafka_bootstrap, stream_name)

    def publish(*numbers: int) -> None:
        for n in numbers:
            value = CODECS["Label"].encode(label(f"r{n}", START_US + n))
            logs.producer.produce(logs.topics.labels, value, b"k", partition=n % 4)
        logs.producer.flush(60)

    publish(*range(40))
    options = arguments(kafka_bootstrap, stream_name, database_url)
    process = gnomon.start("labels", "consume", *options[:4], *options[6:], *NEW_PARTITIONS_SOON)
    wait_until(lambda: labels(database_url) == 40)
    process.send(signal.SIGSTOP)
    recreate(logs, logs.topics.labels)
    make_logs(kafka_bootstrap, stream_name)
    publish(*range(1000, 1080))
    process.send(signal.SIGCONT)
    assert process.wait(60) == 2, process.output
    assert "was re-created" in process.output
    assert labels(database_url) == 40


def test_what_is_asked_of_the_broker_does_not_wait_behind_a_fetch(kafka_bootstrap: str, stream_name: str) -> None:
    """A fetch at the end of a log waits at the broker for more, and a broker answers a connection in order."""
    logs = make_logs(kafka_bootstrap, stream_name)
    logs.capture(40)
    kafka = {"timeout_seconds": 5, "properties": {"fetch.wait.max.ms": "30000"}}
    settings = load_settings({"bootstrap_servers": kafka_bootstrap, "kafka": kafka})
    with closing(LiveLog(settings, logs.topics.live)) as live:
        live.follow(0, 10)
        assert not live.consume(1, 1.0)  # the fetch is in progress
        assert live.watermarks(0) == (0, 10)
