"""The joiner's dependencies fail: the database, its disk, its tables during an upgrade."""

import time
from functools import partial
from pathlib import Path

import psutil
import psycopg
import pytest
from tests.support import join_processes
from tests.support.full_disk import fill
from tests.support.join_processes import arguments
from tests.support.joined_database import assert_all_joined, joined, labels, members, one, stands_at, wait_until
from tests.support.load import load
from tests.support.logs import CODECS, START_US, label, make_logs
from tests.support.servers.process import Gnomon

from gnomon_consumer.database.connections import engine_for
from gnomon_consumer.quickstart.embedded import postgres
from gnomon_migrations import runner


# Longer than the group's session of 10 s: a member that does not poll meanwhile would be removed.
@pytest.mark.parametrize("seconds", [12, pytest.param(60, marks=[pytest.mark.long, pytest.mark.timeout(600)])])
def test_postgresql_away_and_back_under_traffic(
    kafka_bootstrap: str, stream_name: str, database_url: str, postgres_server: str, seconds: int
) -> None:
    """Both consumers pause, poll, stay in their groups as the same members, and hold no more memory.

    When the database is back they continue at their progress, and the lag falls although the traffic never stopped.
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

    def sealed() -> int:
        return sum(logs.sealed.values())

    name = psycopg.conninfo.conninfo_to_dict(database_url)["dbname"]
    options = arguments(kafka_bootstrap, stream_name, database_url)
    with (
        psycopg.connect(postgres_server, autocommit=True) as server,
        join_processes.running("join", *options) as joiner,
        join_processes.running("labels", "consume", *options[:4], *options[6:]) as taker,
    ):
        with load(traffic, 0.05):
            wait_until(lambda: joined(database_url) > 500)
            wait_until(lambda: labels(database_url) > 100)
            before = members(kafka_bootstrap, stream_name)
            server.execute(f"alter database {name} allow_connections false")
            server.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [name])
            joiner.join(1)  # captures that were in progress when the database stopped
            memory = [psutil.Process(process.pid).memory_info().rss for process in (joiner, taker)]
            joiner.join(seconds)
            assert joiner.is_alive()
            assert taker.is_alive()
            assert len(before) == 1
            assert members(kafka_bootstrap, stream_name) == before
            after = [psutil.Process(process.pid).memory_info().rss for process in (joiner, taker)]
            assert all(late < early + 32 * 1024**2 for early, late in zip(memory, after, strict=True)), (memory, after)
            waiting = sealed()
            server.execute(f"alter database {name} allow_connections true")
            begun = time.monotonic()
            wait_until(lambda: joined(database_url) >= waiting)
            print(
                f"{waiting} captures; caught up after {time.monotonic() - begun:.1f} s; bytes held: {memory}, {after}"
            )
            # Few captures arrive while it catches up, and they stay few: it keeps pace.
            wait_until(lambda: sealed() - joined(database_url) < 400)
        wait_until(lambda: joined(database_url) == sealed())
        wait_until(lambda: labels(database_url) == len(sent))
    assert_all_joined(logs, database_url)
    assert one(database_url, "select count(*) from gnomon.dead_letters") == (0,)
    assert one(database_url, "select sum(received), sum(duplicates) from gnomon.label_watermarks") == (len(sent), 0)


@pytest.mark.parametrize("small_disk", [6], indirect=True)
def test_a_full_disk_pauses_and_skips_nothing(
    gnomon: Gnomon, kafka_bootstrap: str, stream_name: str, small_disk: Path
) -> None:
    """`pairs` are on a full disk; the joiner waits until there is room again."""
    account = postgres.ServerUser.suitable()
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
        wait_until(lambda: process.page("/readyz")[0] == 503)  # true at the moment of each new attempt
        assert one(url, "select sum(next_source_offset) from gnomon.join_progress") == (0,)
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


def test_two_upgrades_at_once_beside_a_running_joiner(
    gnomon: Gnomon, kafka_bootstrap: str, stream_name: str, database_url: str
) -> None:
    """Functions and views are rebuilt while the shipped joiner runs; it continues and loses nothing."""
    logs = make_logs(kafka_bootstrap, stream_name)
    with join_processes.running("join", *arguments(kafka_bootstrap, stream_name, database_url)) as process:
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
