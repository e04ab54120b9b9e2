"""A stopped process, or another program, holds locks: a service that waits for them says so."""

import os
import signal

import psycopg
import pytest
from tests.support import join_processes
from tests.support.join_processes import arguments
from tests.support.joined_database import assert_all_joined, joined, labels, stands_at, wait_until
from tests.support.logs import CODECS, START_US, label, make_logs
from tests.support.servers.process import Gnomon

QUICK_GROUP = ("-X", "session.timeout.ms=1500", "-X", "heartbeat.interval.ms=300")


@pytest.mark.timeout(400)
@pytest.mark.parametrize("point", ["copied", "written"])
def test_a_joiner_that_is_stopped_within_a_transaction_does_not_hold_up_its_successor(
    point: str, gnomon: Gnomon, kafka_bootstrap: str, stream_name: str, database_url: str
) -> None:
    """The server ends the idle session after half a minute; the stopped joiner wakes, and doubles nothing."""
    logs = make_logs(kafka_bootstrap, stream_name)
    logs.capture(400)
    logs.score(0.5)
    settings = join_processes.settings_of(
        kafka_bootstrap, stream_name, database_url, session_timeout_ms="1500", heartbeat_interval_ms="300"
    )
    stopped = join_processes.stopped_at(settings, point)
    try:
        successor = gnomon.start("join", *arguments(kafka_bootstrap, stream_name, database_url), *QUICK_GROUP)
        wait_until(lambda: stands_at(database_url, 400), 200)
        assert stopped.pid is not None
        os.kill(stopped.pid, signal.SIGCONT)
        logs.capture(200)
        logs.score(0.5)
        wait_until(lambda: stands_at(database_url, 600), 120)
        assert successor.terminate() == 0, successor.output
    finally:
        stopped.kill()
        stopped.join()
    assert_all_joined(logs, database_url)


@pytest.mark.timeout(400)
def test_a_service_that_waits_for_a_lock_says_so_and_goes_on_afterwards(
    gnomon: Gnomon, kafka_bootstrap: str, stream_name: str, database_url: str
) -> None:
    logs = make_logs(kafka_bootstrap, stream_name)
    logs.capture(40)
    logs.score(0.5)
    logs.producer.produce(logs.topics.labels, CODECS["Label"].encode(label("r1", START_US)), b"r1", partition=1)
    assert logs.producer.flush(60) == 0
    where = ("--bootstrap-servers", kafka_bootstrap, "--stream", stream_name, "--database-url", database_url)
    with psycopg.connect(database_url) as other:
        other.execute("lock table gnomon.join_progress, gnomon.labels in exclusive mode")
        services = [
            gnomon.start("join", *where, "--deployment", "challenger"),
            gnomon.start("labels", "consume", *where),
        ]
        for service in services:
            line = service.wait_for("another session holds a lock", 200)
            assert 'event="waiting for a dependency"' in line
        assert joined(database_url) == 0
        other.rollback()
    wait_until(lambda: stands_at(database_url, 40) and labels(database_url) == 1, 120)
    assert [service.terminate() for service in services] == [0, 0]
    assert_all_joined(logs, database_url)
