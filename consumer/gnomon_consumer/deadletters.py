"""Dead letters of a deployment: listed, looked at, and replayed at their original coordinates, exactly once each."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import psycopg
from confluent_kafka import Consumer, KafkaError, TopicPartition
from psycopg.rows import class_row

from gnomon_consumer import kafka
from gnomon_consumer.joiner.letters import LetterSink
from gnomon_consumer.joiner.window import printable
from gnomon_consumer.scorer.jobs import Job
from gnomon_consumer.scorer.models import ModelSpec
from gnomon_consumer.scorer.pool import Pool
from gnomon_consumer.scorer.rows import Row, Rows
from gnomon_consumer.scorer.sandbox import Limits
from gnomon_consumer.settings import Settings
from gnomon_schemas.codec import Reader
from gnomon_schemas.columnar import ColumnarReader
from gnomon_schemas.errors import ConfigurationError, DecodeError, GnomonError
from gnomon_schemas.framing import unframe
from gnomon_schemas.registry import registry_schemas
from gnomon_schemas.schema import Schema
from gnomon_schemas.store import ChainedSchemas, TopicSchemas, packaged_schemas
from gnomon_schemas.topics import Topics

Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True)
class Letter:
    """A row of table dead_letters with the name of its deployment and the id of its window."""

    deployment: str
    source_partition: int
    source_offset: int
    request_id: str | None
    stratum: str
    stage: str
    reason: str
    detail: str
    size: int | None
    window_start: int
    window_id: str
    inclusion_probability: float
    rank: int
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of a letter: `paired`, `gone` (somebody else moved it), or why it stays."""

    letter: Letter
    outcome: str


def letters(
    connection: Connection, stream: str, deployment: str | None, at: tuple[int, int] | None = None
) -> list[Letter]:
    """The dead letters of a stream, of one deployment, or at one (partition, offset)."""
    with connection.cursor(row_factory=class_row(Letter)) as cursor:
        return cursor.execute(
            "select d.name as deployment, l.source_partition, l.source_offset, l.request_id, l.stratum, l.stage,"
            " l.reason, l.detail, l.size, l.window_start, w.window_id::text, l.inclusion_probability, l.rank,"
            " l.recorded_at from gnomon.streams s join gnomon.deployments d using (stream_id)"
            " join gnomon.dead_letters l using (deployment_id) join gnomon.windows w on w.deployment_id ="
            " l.deployment_id and w.source_partition = l.source_partition and w.start_offset = l.window_start"
            " where s.name = %s and (%s::text is null or d.name = %s)"
            " and (%s::int is null or (l.source_partition, l.source_offset) = (%s, %s))"
            " order by d.name, l.source_partition, l.source_offset",
            [stream, deployment, deployment, *((at[0], *at) if at else (None, None, None))],
        ).fetchall()


class LiveBytes:
    """The live log by coordinates: what a dead letter points at, if Kafka still has it."""

    def __init__(self, settings: Settings) -> None:
        kafka.list_topics(settings)
        self._topic = Topics(settings.require_stream(), settings.topic_prefix).live
        self._timeout = settings.kafka.timeout_seconds
        self._consumer: Consumer = kafka.make_consumer(settings, None, {"enable.partition.eof": True})

    def read(self, partition: int, offset: int) -> tuple[bytes, bytes] | None:
        """Key and value of one message, None when it has expired."""
        self._consumer.assign([TopicPartition(self._topic, partition, offset)])
        deadline = time.monotonic() + self._timeout
        while time.monotonic() < deadline:
            for message in self._consumer.consume(1, 0.2):
                error = message.error()
                if error is None:
                    key, value = message.key(), message.value()
                    found = message.offset() == offset
                    return (key if isinstance(key, bytes) else b"", value or b"") if found else None
                if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError._PARTITION_EOF):
                    return None
        raise GnomonError(f"{self._topic} does not answer")

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()


def replay(
    settings: Settings, connection: Connection, spec: ModelSpec, deployment: str, chosen: Sequence[Letter]
) -> Iterator[Replayed]:
    """Score each letter with the deployment's own model and move it among the pairs; what fails again stays."""
    stream = settings.require_stream()
    _check_model(connection, stream, deployment, spec)
    sink = LetterSink(connection, stream, deployment)
    topics = Topics(stream, settings.topic_prefix)
    live = LiveBytes(settings)
    schemas = TopicSchemas(kafka.client_config(settings), topics.schemas)
    known = ChainedSchemas(packaged_schemas(), schemas, registry_schemas(settings.kafka.properties))
    reader, columns = Reader(known), ColumnarReader(known)
    pool: Pool | None = None
    try:
        for letter in chosen:
            if letter.stage == "join" and letter.reason == "correlation":
                yield Replayed(letter, "stays: the logs contradict each other; no model can settle that")
                continue
            found = live.read(letter.source_partition, letter.source_offset)
            if found is None:
                yield Replayed(letter, "stays: the live message has expired")
                continue
            if letter.request_id not in (None, printable(found[0].decode("utf-8", "replace"))):
                yield Replayed(letter, "stays: another request stands there now; the live topic was re-created")
                continue
            try:
                _, schema, _ = reader.decode(found[1])
            except DecodeError as error:
                yield Replayed(letter, f"stays: {error.reason}: {error}")
                continue
            if pool is None:
                pool = _pool(settings, spec, schema)
            pool.learn(unframe(found[1]).key, schema)
            message = _score(pool, letter, *found)
            _, _, shadow = reader.decode(message)
            yield Replayed(letter, sink.replay(shadow, letter.window_start, letter.stratum, found[1], columns))
    finally:
        if pool is not None:
            pool.close()
        live.close()
        schemas.close()


def _check_model(connection: Connection, stream: str, deployment: str, spec: ModelSpec) -> None:
    row = connection.execute(
        "select d.model_sha256, d.model_name, d.model_version from gnomon.deployments d"
        " join gnomon.streams s using (stream_id) where s.name = %s and d.name = %s",
        [stream, deployment],
    ).fetchone()
    if row is None:
        raise ConfigurationError(f"stream {stream} has no deployment {deployment}")
    if row[0] != spec.sha256:
        raise ConfigurationError(
            f"{spec.location} has SHA-256 {spec.sha256}, but {deployment} was scored by {row[1]} {row[2]}"
            f" with {row[0]}: a replay takes the deployment's own model"
        )


def _pool(settings: Settings, spec: ModelSpec, live: Schema) -> Pool:
    pool = Pool(1, spec, Limits(settings.score.memory_bytes), settings.score.call_seconds)
    pool.start(live)
    return pool


def _score(pool: Pool, letter: Letter, key: bytes, value: bytes) -> bytes:
    row = Row(
        partition=letter.source_partition,
        offset=letter.source_offset,
        key=key,
        value=value,
        stratum=letter.stratum or None,
        rank=letter.rank,
        inclusion_probability=letter.inclusion_probability,
    )
    sealed_at = time.time_ns() // 1000
    pool.submit(Job(letter.window_id, letter.source_partition, sealed_at, Rows.of([row]), np.arange(1), single=True))
    while True:
        for done in pool.poll(0.1):
            return done.scored[0].message
