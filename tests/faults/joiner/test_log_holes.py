"""A live log with offsets that hold no message: markers, aborted records, compaction, deleted records.

Only captures that existed and cannot be read count as lost. The shipped commands score and join each log to its end.
"""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from tests.support.live_stream import Stream, read_all, sum_model
from tests.support.servers.process import Gnomon

from gnomon_consumer.database import maintenance

PARTITIONS = 2


class Found(NamedTuple):
    """The result in the ledger."""

    seen: int
    gaps: int
    lost: int
    pairs: int
    caught_up: bool


class Way:
    """One stream from capture to ledger."""

    def __init__(self, gnomon: Gnomon, bootstrap: str, stream: str, database_url: str, folder: Path) -> None:
        self.gnomon, self.url = gnomon, database_url
        self.where = ("--stream", stream, "--bootstrap-servers", bootstrap)
        self.live = Stream(bootstrap, stream)
        self.model = sum_model(folder / "sum.onnx", "amount")
        create = ("topics", "create", "--partitions", PARTITIONS, "--deployment", "boost")
        assert gnomon.enter(*create, *self.where).returncode == 0
        self.live.publish_schema()
        self.admin = AdminClient({"bootstrap.servers": bootstrap})
        self.bootstrap = bootstrap

    def run(self, *arguments: str) -> None:
        done = self.gnomon.run(*arguments, *self.where, timeout=120)
        assert done.returncode == 0, done.stderr

    def score(self) -> None:
        """Score to the end of the live log; if that end were unknown, this would never return."""
        self.run("score", *("--deployment", "boost", "--model", str(self.model), "--no-sampling"), "--exit-when-idle=1")

    def join(self) -> Found:
        """Join to the end of both logs."""
        self.run("join", "--deployment", "boost", "--database-url", self.url, "--drain")
        with psycopg.connect(self.url) as connection:
            assert maintenance.ledger_differences(connection, self.live.name) == []
            row = connection.execute(
                "select (select coalesce(sum(seen), 0)::int from gnomon.windows),"
                " (select count(gap_reason) from gnomon.windows),"
                " (select coalesce(sum(gap_lost), 0)::int from gnomon.windows),"
                " (select count(*) from gnomon.pairs), (select bool_and(caught_up) from gnomon.join_progress)"
            ).fetchone()
        assert row is not None
        return Found(*row)

    def send(self, count: int) -> None:
        self.live.send(count, partition=lambda number: number % PARTITIONS)

    @contextmanager
    def transactions(self) -> Iterator[Producer]:
        """Write captures by a transactional producer within the block."""
        plain = self.live.producer
        producer = Producer({"bootstrap.servers": self.bootstrap, "transactional.id": uuid.uuid4().hex, "linger.ms": 1})
        producer.init_transactions(20)
        self.live.producer = producer
        yield producer
        self.live.producer = plain

    def commit(self, producer: Producer, count: int) -> None:
        producer.begin_transaction()
        self.send(count)
        producer.commit_transaction(20)

    def abort(self, producer: Producer, count: int) -> None:
        """Write captures that nobody sees; the producer's own account forgets them too."""
        before = dict(self.live.sent)
        producer.begin_transaction()
        self.send(count)
        producer.abort_transaction(20)
        self.live.sent = before


@pytest.fixture
def way(gnomon: Gnomon, kafka_bootstrap: str, stream_name: str, database_url: str, tmp_path: Path) -> Way:
    return Way(gnomon, kafka_bootstrap, stream_name, database_url, tmp_path)


def test_markers_of_committed_transactions_are_neither_seen_nor_lost(way: Way) -> None:
    with way.transactions() as producer:
        for _ in range(16):
            way.commit(producer, 4)
    way.score()
    assert way.join() == Found(seen=64, gaps=0, lost=0, pairs=64, caught_up=True)


def test_aborted_transactions_in_the_middle_and_at_the_end_are_not_lost(way: Way) -> None:
    with way.transactions() as producer:
        way.abort(producer, 6)
        way.commit(producer, 4)
        way.abort(producer, 10)
        way.commit(producer, 4)
        way.abort(producer, 2)
    way.score()
    assert way.join() == Found(seen=8, gaps=0, lost=0, pairs=8, caught_up=True)


def test_a_log_of_aborted_transactions_alone_has_an_end(way: Way) -> None:
    with way.transactions() as producer:
        way.abort(producer, 10)
    way.score()
    assert way.join() == Found(seen=0, gaps=0, lost=0, pairs=0, caught_up=True)
    way.send(4)
    way.score()
    assert way.join() == Found(seen=4, gaps=0, lost=0, pairs=4, caught_up=True)


def test_a_join_is_at_the_end_although_markers_follow_the_last_window(way: Way) -> None:
    way.send(10)
    way.score()
    with way.transactions() as producer:
        way.abort(producer, 6)
    assert way.join() == Found(seen=10, gaps=0, lost=0, pairs=10, caught_up=True)


def test_captures_of_a_transaction_that_is_open_are_joined_once_it_is_committed(way: Way) -> None:
    way.send(10)
    with way.transactions() as producer:
        producer.begin_transaction()
        way.send(4)
        way.score()
        assert way.join().seen == 10
        producer.commit_transaction(20)
    way.score()
    assert way.join() == Found(seen=14, gaps=0, lost=0, pairs=14, caught_up=True)


def test_deleted_records_are_lost_and_counted_once(way: Way) -> None:
    way.send(20)
    way.score()
    way.send(40)
    delete(way, {0: 25, 1: 30})
    way.score()
    assert way.join() == Found(seen=25, gaps=2, lost=35, pairs=5, caught_up=True)


def delete(way: Way, ends: dict[int, int]) -> None:
    places = [TopicPartition(way.live.live, partition, end) for partition, end in ends.items()]
    for future in way.admin.delete_records(places).values():
        future.result()


def configure(way: Way, **values: str) -> None:
    entries = [
        ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
        for name, value in values.items()
    ]
    resource = ConfigResource(ResourceType.TOPIC, way.live.live, incremental_configs=entries)
    way.admin.incremental_alter_configs([resource])[resource].result()


def wait_until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.5)  # the broker does not report when its cleaner has run


def test_captures_that_compaction_removed_are_lost(way: Way) -> None:
    """Each is replaced by a later capture with its request id: captured, and never read."""
    configure(way, cleanup_policy="compact", min_cleanable_dirty_ratio="0.001", segment_ms="1000")
    for sequence in range(3):
        for number in range(10):
            value = way.live.capture(f"r{number}")
            way.live.producer.produce(way.live.live, value, f"r{number}".encode(), partition=0)
        assert way.live.producer.flush(60) == 0
        time.sleep(1.1 if sequence < 2 else 0)  # the age at which the broker ends a segment
    time.sleep(1.1)
    way.live.producer.produce(way.live.live, way.live.capture("last"), b"last", partition=0)
    assert way.live.producer.flush(60) == 0
    wait_until(lambda: len(read_all(way.bootstrap, way.live.live)[0]) == 11)
    way.score()
    found = way.join()
    assert (found.seen, found.pairs, found.caught_up) == (11, 11, True)
    assert found.lost == 20
