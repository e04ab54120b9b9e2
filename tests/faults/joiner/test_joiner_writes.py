"""Faults while PostgreSQL receives the last windows: nothing is lost or doubled."""

from collections.abc import Iterator

import psycopg
import pytest
from confluent_kafka import ConsumerGroupState
from confluent_kafka.admin import AdminClient
from tests.support import join_processes
from tests.support.join_processes import arguments
from tests.support.joined_database import assert_all_joined, drain, one, wait_until
from tests.support.logs import Logs, make_logs

HOLD = "select pg_advisory_xact_lock(1)"
WAITING = (
    "from pg_stat_activity where datname = current_database()"
    " and application_name like 'gnomon join%' and wait_event_type = 'Lock' and wait_event = 'advisory'"
)
TERMINATE = f"select pg_terminate_backend(pid) {WAITING}"  # a constant
QUICK = ("-X", "session.timeout.ms=6000", "-X", "heartbeat.interval.ms=300")


@pytest.fixture
def hold(database_url: str) -> Iterator[psycopg.Connection]:
    """Yield a connection that blocks the joiners' COPY at `HOLD` until the end of its transaction."""
    with psycopg.connect(database_url) as opened:
        opened.execute(
            "create function gnomon.held() returns trigger language plpgsql as"
            " $$ begin perform pg_advisory_xact_lock_shared(1); return new; end $$"
        )
        opened.execute("create trigger held before insert on gnomon.pairs for each row execute function gnomon.held()")
        opened.commit()
        yield opened


@pytest.fixture
def held(kafka_bootstrap: str, stream_name: str, hold: psycopg.Connection) -> tuple[psycopg.Connection, Logs]:
    """Yield that connection, blocking COPY, and logs to be joined."""
    hold.execute(HOLD)
    logs = make_logs(kafka_bootstrap, stream_name)
    logs.capture(200)
    logs.score(0.5)
    return hold, logs


def waiting(url: str) -> int:
    """Return how many joiners wait in their COPY."""
    return int(one(url, f"select count(*) {WAITING}")[0])  # a constant


def state(bootstrap: str, stream: str) -> tuple[ConsumerGroupState, int]:
    """Return the state of the joiners' group, and its number of members."""
    group = f"gnomon.{stream}.join.challenger"
    admin = AdminClient({"bootstrap.servers": bootstrap})
    found = admin.describe_consumer_groups([group])[group].result()
    return found.state, len(found.members)


def joined(url: str) -> int:
    return int(one(url, "select coalesce(sum(next_source_offset), 0) from gnomon.join_progress")[0])


def test_asked_to_end_while_it_writes(
    kafka_bootstrap: str, stream_name: str, database_url: str, held: tuple[psycopg.Connection, Logs]
) -> None:
    """The current write is committed if PostgreSQL continues in time."""
    hold, logs = held
    process = join_processes.shipped("join", *arguments(kafka_bootstrap, stream_name, database_url))
    wait_until(lambda: waiting(database_url) == 1)
    process.terminate()
    hold.rollback()
    process.join(10)
    assert process.exitcode == 0
    assert joined(database_url) > 0
    logs.capture(40)
    logs.score(0.5)
    drain(logs, database_url)
    assert_all_joined(logs, database_url)


def test_asked_to_end_while_its_write_is_held(
    kafka_bootstrap: str, stream_name: str, database_url: str, held: tuple[psycopg.Connection, Logs]
) -> None:
    """It still ends in time, and the next joiner joins the windows that it had begun to write."""
    hold, logs = held
    with join_processes.running("join", *arguments(kafka_bootstrap, stream_name, database_url)):
        wait_until(lambda: waiting(database_url) == 1)
    hold.rollback()
    assert joined(database_url) == 0
    drain(logs, database_url)
    assert_all_joined(logs, database_url)


def test_asked_to_end_while_postgresql_goes_away(
    kafka_bootstrap: str, stream_name: str, database_url: str, held: tuple[psycopg.Connection, Logs]
) -> None:
    """It ends without an error, and the next joiner joins the windows that it had begun to write."""
    hold, logs = held
    process = join_processes.shipped("join", *arguments(kafka_bootstrap, stream_name, database_url))
    wait_until(lambda: waiting(database_url) == 1)
    process.terminate()
    hold.execute(TERMINATE)
    process.join(10)
    assert process.exitcode == 0
    hold.rollback()
    assert joined(database_url) == 0
    drain(logs, database_url)
    assert_all_joined(logs, database_url)


@pytest.mark.parametrize("then", ["it gets on", "it gets on too late", "it goes away"])
@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky"])
def test_partitions_go_to_another_member_while_they_are_written(
    kafka_bootstrap: str,
    stream_name: str,
    database_url: str,
    hold: psycopg.Connection,
    strategy: str,
    then: str,
) -> None:
    """The write is finished first; if that takes too long or fails, progress decides which of two members wrote."""
    logs = make_logs(kafka_bootstrap, stream_name)
    where = kafka_bootstrap, stream_name
    assigned = ("-X", f"partition.assignment.strategy={strategy}")
    options = ("join", *arguments(kafka_bootstrap, stream_name, database_url), *QUICK, *assigned)
    logs.capture(4)
    logs.score()
    with join_processes.running(*options):
        wait_until(lambda: joined(database_url) == 4)
        hold.execute(HOLD)
        logs.capture(46, partition=0)  # one window: nothing waits behind it
        logs.score(0.5)
        wait_until(lambda: waiting(database_url) == 1)
        with join_processes.running(*options):
            if then == "it gets on too late":
                wait_until(lambda: state(*where) == (ConsumerGroupState.STABLE, 2))
            else:
                # The state itself may pass between two looks.

                wait_until(lambda: state(*where)[1] == 2)
            if then == "it goes away":
                hold.execute(TERMINATE)
            hold.rollback()
            wait_until(lambda: joined(database_url) == 50)
            logs.capture(200)
            logs.score(0.5)
            wait_until(lambda: joined(database_url) == 250)
    assert_all_joined(logs, database_url)
