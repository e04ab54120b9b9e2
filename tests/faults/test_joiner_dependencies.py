"""What the joiner stands on gives way: the database, its disk, either log, the number of partitions."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import psycopg
import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from tests import join_driver
from tests.faults.test_joiner_faults import assert_all_joined, drain, members, one, wait_until
from tests.faults.test_random_kills import joined, labels, load
from tests.integration.test_join import arguments, identity, make_logs
from tests.integration.test_labels import label
from tests.servers.process import Gnomon
from tests.shadow_log import CODECS, START_US, Logs, start

from gnomon_consumer import topics, upkeep
from gnomon_consumer.database import engine_for
from gnomon_consumer.quickstart import postgres
from gnomon_consumer.settings import load_settings
from gnomon_migrations import runner
from gnomon_schemas.topics import Topics

NEW_PARTITIONS_SOON = ("-X", "topic.metadata.refresh.interval.ms=500")


def cut(logs: Logs, topic: str, *ends: TopicPartition) -> None:
    """Let a log's beginning expire."""
    admin = AdminClient({"bootstrap.servers": logs.bootstrap})
    for future in admin.delete_records([TopicPartition(topic, end.partition, end.offset) for end in ends]).values():
        future.result()


def stands_at(url: str, count: int) -> bool:
    """Whether that many captures of all partitions together are joined."""
    return one(url, "select coalesce(sum(next_source_offset), 0) from gnomon.join_progress") == (count,)


# Longer than the group's session of 10 s: who did not poll meanwhile would be put out.
@pytest.mark.parametrize("seconds", [12, pytest.param(60, marks=[pytest.mark.long, pytest.mark.timeout(600)])])
def test_postgresql_away_and_back_under_traffic(
    kafka_bootstrap: str, stream_name: str, database_url: str, postgres_server: str, seconds: int
) -> None:
    """Row 8: both consumers pause, poll, stay in their groups as the same members, hold no more than before.

    When the database is back they go on where they stood, and the lag comes down although the traffic never stopped.
    """
    logs = make_logs(kafka_bootstrap, stream_name)
    sent: list[str] = []

    def traffic() -> None:
        for _ in range(10):
            record = label(f"r{len(sent)}", START_US + len(sent))
            logs.producer.produce(logs.topics.labels, CODECS["Label"].encode(record), b"k", partition=len(sent) % 4)
            sent.append(f"r{len(sent)}")
        logs.capture(40)
        logs.score()

    def captured() -> int:
        return sum(logs.sealed.values())

    name = psycopg.conninfo.conninfo_to_dict(database_url)["dbname"]
    options = arguments(kafka_bootstrap, stream_name, database_url)
    with (
        psycopg.connect(postgres_server, autocommit=True) as server,
        join_driver.running("join", *options) as joiner,
        join_driver.running("labels", "consume", *options[:4], *options[6:]) as taker,
    ):
        with load(traffic, 0.05):
            wait_until(lambda: joined(database_url) > 500)
            wait_until(lambda: labels(database_url) > 100)
            before = members(kafka_bootstrap, stream_name)
            server.execute(f"alter database {name} allow_connections false")
            server.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [name])
            joiner.join(1)  # what was under way when it went
            memory = [psutil.Process(process.pid).memory_info().rss for process in (joiner, taker)]
            joiner.join(seconds)
            assert joiner.is_alive()
            assert taker.is_alive()
            assert len(before) == 1
            assert members(kafka_bootstrap, stream_name) == before
            after = [psutil.Process(process.pid).memory_info().rss for process in (joiner, taker)]
            assert all(late < early + 32 * 1024**2 for early, late in zip(memory, after, strict=True)), (memory, after)
            waiting = captured()
            server.execute(f"alter database {name} allow_connections true")
            begun = time.monotonic()
            wait_until(lambda: joined(database_url) >= waiting)
            print(
                f"{waiting} captures; caught up after {time.monotonic() - begun:.1f} s; bytes held: {memory}, {after}"
            )
            # What came while it caught up is little, and stays little: it keeps pace.
            wait_until(lambda: captured() - joined(database_url) < 400)
        wait_until(lambda: joined(database_url) == captured())
        wait_until(lambda: labels(database_url) == len(sent))
    assert_all_joined(logs, database_url)
    assert one(database_url, "select count(*) from gnomon.dead_letters") == (0,)
    assert one(database_url, "select sum(received), sum(duplicates) from gnomon.label_watermarks") == (len(sent), 0)


@pytest.fixture
def small_disk(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system of as many MB as the test asks for."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small disk")
    # Not under the test's own folder: the server's account must be able to enter it.
    disk = Path(tempfile.mkdtemp(prefix="gnomon-disk-", dir="/tmp"))
    options = f"size={request.param}m,mode=0755"
    disk.chmod(0o755)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk], capture_output=True, text=True)
    try:
        if mounted.returncode != 0:
            pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
        yield disk
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", disk], check=True)
        disk.rmdir()


def fill(disk: Path) -> Path:
    """Leave no byte free; return the file that has to go."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"\0" * 65_536):
            pass
    return ballast


@pytest.mark.parametrize("small_disk", [6], indirect=True)
def test_a_full_disk_pauses_and_skips_nothing(
    gnomon: Gnomon, kafka_bootstrap: str, stream_name: str, small_disk: Path
) -> None:
    """Row 24: `pairs` stand on a disk that is full; the joiner waits until there is room again."""
    account = postgres.Account.suitable()
    space = small_disk / "space"
    space.mkdir()
    account.own(space)
    logs = make_logs(kafka_bootstrap, stream_name)
    with postgres.running() as url:
        runner.upgrade(engine_for(url))
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"create tablespace small location '{space}'")
            connection.execute("alter table gnomon.pairs_default set tablespace small")
        logs.capture(400)
        logs.score()
        ballast = fill(small_disk)
        process = gnomon.start("join", *arguments(kafka_bootstrap, stream_name, url), "--metrics", "127.0.0.1:0")
        process.wait_for("No space left on device")
        wait_until(lambda: process.page("/readyz")[0] == 503)  # yes for the moment of each new try
        assert one(url, "select count(*), coalesce(sum(next_source_offset), 0) from gnomon.join_progress") == (4, 0)
        logs.capture(100)
        logs.score()
        # It tries again, and waits again.
        wait_until(lambda: sum("No space left on device" in line for line in list(process.lines)) > 2)
        ballast.unlink()
        wait_until(lambda: one(url, "select count(*) from gnomon.pairs") == (500,))
        assert process.page("/readyz")[0] == 200
        assert process.terminate() == 0
        assert_all_joined(logs, url)
        assert one(url, "select count(*) from gnomon.dead_letters") == (0,)


def test_a_live_log_truncated_under_the_joiner(kafka_bootstrap: str, stream_name: str, database_url: str) -> None:
    """Row 10: what expires while the joiner runs is counted, as far as it was not read; the rest is paired."""
    logs = make_logs(kafka_bootstrap, stream_name)
    logs.capture(40)
    logs.score()
    with join_driver.running("join", *arguments(kafka_bootstrap, stream_name, database_url)) as process:
        wait_until(lambda: one(database_url, "select count(*) from gnomon.pairs") == (40,))
        assert process.pid is not None
        os.kill(process.pid, signal.SIGSTOP)
        # A fetch that was under way brings the first of them at most: the broker answers it, no other can follow.
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
        assert upkeep.ledger_differences(connection, stream_name) == []
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
    """Row 10: the shadow log has seen more than the live log holds now (its broker was reset): no silent jump."""
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
    """Row 10: what expired unread in the shadow log leaves a hole that nothing explains; the others go on."""
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
        assert upkeep.ledger_differences(connection, stream_name) == []


def test_partitions_grow_from_three_to_six_under_the_joiner(
    kafka_bootstrap: str, stream_name: str, database_url: str
) -> None:
    """Row 25: the new partitions are joined from their beginning, by the member that runs, beside the old ones."""
    settings = load_settings({"bootstrap_servers": kafka_bootstrap})

    def create(partitions: int) -> None:
        topics.create(settings, topics.plan(Topics(stream_name), partitions, ["challenger"]))

    create(3)
    logs = Logs(kafka_bootstrap, stream_name, partitions=3)
    whose = identity(kafka_bootstrap, logs.topics.live)
    logs.begin(*whose)
    options = ("join", *arguments(kafka_bootstrap, stream_name, database_url), *NEW_PARTITIONS_SOON)

    def more(count: int) -> None:
        logs.capture(count)
        logs.score(0.5)
        wait_until(partial(stands_at, database_url, sum(map(len, logs.captured.values()))))

    with join_driver.running(*options):
        more(90)
        create(6)
        logs.partitions = 6
        logs.producer = Producer({"bootstrap.servers": kafka_bootstrap, "linger.ms": 1})  # the old one knows three
        for partition in range(3, 6):
            logs.captured[partition], logs.sampled[partition], logs.sealed[partition] = [], set(), 0
            logs.shadow(partition, "DeploymentStart", start(partition, *whose))
        more(180)
        with join_driver.running(*options):
            wait_until(lambda: len(members(kafka_bootstrap, stream_name)) == 2)
            more(60)
        more(60)
    drain(logs, database_url)
    assert_all_joined(logs, database_url)
    assert one(database_url, "select count(*) from gnomon.join_progress") == (6,)


def test_two_upgrades_at_once_beside_a_running_joiner(
    gnomon: Gnomon, kafka_bootstrap: str, stream_name: str, database_url: str
) -> None:
    """Functions and views are made anew under the shipped joiner, which goes on and loses nothing."""
    logs = make_logs(kafka_bootstrap, stream_name)
    with join_driver.running("join", *arguments(kafka_bootstrap, stream_name, database_url)) as process:
        for turn in range(1, 4):
            with psycopg.connect(database_url) as connection:
                connection.execute("update gnomon.view_versions set sha256 = 'of another version'")
            both = [gnomon.start("db", "upgrade", "--database-url", database_url) for _ in range(2)]
            while any(one_of.popen.poll() is None for one_of in both):
                logs.capture(40)
                logs.score(0.5)
                wait_until(partial(stands_at, database_url, sum(map(len, logs.captured.values()))))
            assert [one_of.wait() for one_of in both] == [0, 0], [one_of.output for one_of in both]
            assert sorted(one_of.stdout.split()[0] for one_of in both) == ["already", "upgraded"], turn
        assert process.is_alive()
    assert_all_joined(logs, database_url)


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
    """Row 10: offsets begin anew, behind or just where the join stands; nothing of the new log becomes a pair."""
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
        logs.producer.flush(10)

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
