"""The rows of joiners, read through SQL; and waiting for them."""

import time
from collections.abc import Callable
from typing import Any

import psycopg
from confluent_kafka.admin import AdminClient

from gnomon_consumer.database import maintenance
from tests.support import join_processes
from tests.support.join_processes import arguments
from tests.support.logs import Logs

# A killed member comes back under its name, so the group need not wait for its session to end.
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
    """Return the member ids of the joiner's group."""
    group = f"gnomon.{stream}.join.challenger"
    admin = AdminClient({"bootstrap.servers": bootstrap})
    return {member.member_id for member in admin.describe_consumer_groups([group])[group].result().members}


def drain(logs: Logs, url: str, *more: str) -> None:
    process = join_processes.shipped("join", *arguments(logs.bootstrap, logs.stream, url), "--drain", *STATIC, *more)
    process.join(90)
    assert process.exitcode == 0


def assert_all_joined(logs: Logs, url: str) -> None:
    """Check invariants A, B and D: each offset in one bucket, each sampled one in one pair, progress at the end."""
    with psycopg.connect(url) as connection:
        pairs = connection.execute("select source_partition, source_offset, request_id from gnomon.pairs").fetchall()
        windows = connection.execute(
            "select source_partition, start_offset, end_offset, joined_seen from gnomon.windows order by 1, 2"
        ).fetchall()
        progress = connection.execute(
            "select source_partition, next_source_offset from gnomon.join_progress"
        ).fetchall()
        assert maintenance.ledger_differences(connection, logs.stream) == []
    found = [(partition, offset) for partition, offset, _ in pairs]
    assert len(found) == len(set(found))
    assert set(found) == {(p, o) for p, offsets in logs.sampled.items() for o in offsets}
    assert all(logs.captured[p][o] == request_id for p, o, request_id in pairs)
    covered = [(partition, offset) for partition, a, b, _ in windows for offset in range(a, b)]
    assert covered == sorted((p, o) for p, ids in logs.captured.items() for o in range(len(ids)))
    assert all(seen == b - a for _, a, b, seen in windows)
    assert dict(progress) == {p: len(ids) for p, ids in logs.captured.items()}


def joined(url: str) -> int:
    return int(one(url, "select coalesce(sum(next_source_offset), 0) from gnomon.join_progress")[0])


def labels(url: str) -> int:
    return int(one(url, "select count(*) from gnomon.labels")[0])


def stands_at(url: str, count: int) -> bool:
    """Return whether that many captures of all partitions together are joined."""
    return one(url, "select coalesce(sum(next_source_offset), 0) from gnomon.join_progress") == (count,)
