"""Helpers of the hook's tests: a Tap on its own stream, and everything that reached its topics."""

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

from gnomon_producer import Tap, TapStats
from gnomon_schemas.codec import Reader, Record, SchemaFinder
from gnomon_schemas.store import ChainedSchemas, TopicSchemas, packaged_schemas

FEATURES = {"amount": "double", "country": ["null", "string"], "visits": "long"}
GOOD = {"amount": 12.5, "country": "CH", "visits": 3}


def make_tap(bootstrap: str, stream: str, **settings: Any) -> Tap:
    """Return a Tap of the small feature record above, unless changed by arguments."""
    given: dict[str, Any] = {"features": FEATURES, "model": ("live", "1"), "handle_sigterm": False} | settings
    return Tap(stream=stream, bootstrap_servers=bootstrap, **given)


class Raw(NamedTuple):
    """One message as it is in its topic."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


def raw_messages(bootstrap: str, topic: str) -> list[Raw]:
    """Return everything in a topic, to the end of each partition."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "tests", "enable.partition.eof": True})
    try:
        return list(_until_the_end(consumer, topic))
    finally:
        consumer.close()


def _until_the_end(consumer: Consumer, topic: str) -> Iterator[Raw]:
    partitions = set(consumer.list_topics(topic, timeout=10).topics[topic].partitions)
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
    deadline = time.monotonic() + 60
    while partitions:
        assert time.monotonic() < deadline, f"{topic} does not end"
        message = consumer.poll(1)
        if message is None:
            continue
        error = message.error()
        if error is None:
            key, value, headers = message.key(), message.value(), message.headers()
            assert isinstance(key, bytes)
            assert isinstance(value, bytes)
            yield Raw(key, value, _headers(headers))
        else:
            assert error.code() == KafkaError._PARTITION_EOF, error
            partitions.discard(message.partition())


def _headers(headers: Any) -> list[tuple[str, bytes]]:
    return [(name, value) for name, value in headers or []]


def records(bootstrap: str, stream: str, kind: str, known: SchemaFinder | None = None) -> list[Record]:
    """Return every record of `gnomon.<stream>.<kind>`, decoded with the hook's published schemas, or `known` ones."""
    published = TopicSchemas({"bootstrap.servers": bootstrap}, f"gnomon.{stream}.schemas")
    try:
        reader = Reader(ChainedSchemas(packaged_schemas(), known or published))
        return [reader.decode(raw.value).record for raw in raw_messages(bootstrap, f"gnomon.{stream}.{kind}")]
    finally:
        published.close()


def captures(bootstrap: str, stream: str, known: SchemaFinder | None = None) -> list[Record]:
    """Return every capture, by sequence."""
    return sorted(
        records(bootstrap, stream, "live", known), key=lambda record: (record["producer_id"], record["sequence"])
    )


def assert_closed_account(stats: TapStats) -> None:
    """Assert that the account closes and nothing is in flight."""
    assert stats.in_flight == 0, stats
    assert stats.offered == stats.delivered + sum(stats.dropped.values()), stats
