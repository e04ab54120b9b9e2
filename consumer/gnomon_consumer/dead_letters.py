"""Dead letters of a deployment: list them, show them, and replay each at its original coordinates, exactly once."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from confluent_kafka import Consumer, KafkaError, TopicPartition
from psycopg.rows import class_row

from gnomon_consumer.database.connections import Connection
from gnomon_consumer.database.queries import queries_of
from gnomon_consumer.joiner.postgres.dead_letters import LetterSink
from gnomon_consumer.kafka import clients
from gnomon_consumer.scorer.captures import Row, Rows
from gnomon_consumer.scorer.pool.jobs import Job
from gnomon_consumer.scorer.pool.pool import Pool
from gnomon_consumer.scorer.pool.startup import worker_limits
from gnomon_consumer.scorer.worker.models import ModelSpec
from gnomon_consumer.settings import Settings
from gnomon_schemas.codec import Reader
from gnomon_schemas.columnar import ColumnarReader
from gnomon_schemas.errors import ConfigurationError, DecodeError, GnomonError
from gnomon_schemas.framing import unframe
from gnomon_schemas.registry import registry_schemas
from gnomon_schemas.schema import Schema
from gnomon_schemas.store import ChainedSchemas, TopicSchemas, packaged_schemas
from gnomon_schemas.texts import storable
from gnomon_schemas.topics import Topics


@dataclass(frozen=True, slots=True, kw_only=True)
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
class ReplayedLetters:
    """The result for a letter: `paired`, `gone` (another caller moved it), or why it stays."""

    letter: Letter
    outcome: str


def letters(
    connection: Connection, stream: str, deployment: str | None, at: tuple[int, int] | None = None
) -> list[Letter]:
    """Return the dead letters of a stream, of one deployment, or at one (partition, offset)."""
    with connection.cursor(row_factory=class_row(Letter)) as cursor:
        partition, offset = at or (None, None)
        wanted = {"stream": stream, "deployment": deployment, "partition": partition, "offset": offset}
        return cursor.execute(queries_of("gnomon_consumer.database")["dead_letters"], wanted).fetchall()


class LiveBytes:
    """The live log by coordinates: the messages that dead letters refer to, if Kafka still has them."""

    def __init__(self, settings: Settings) -> None:
        clients.list_topics(settings)
        self._topic = Topics(settings.require_stream(), settings.topic_prefix).live
        self._timeout = settings.kafka.timeout_seconds
        self._consumer: Consumer = clients.make_consumer(settings, None, {"enable.partition.eof": True})

    def read(self, partition: int, offset: int) -> tuple[bytes, bytes] | None:
        """Return key and value of one message, None if it has expired."""
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
) -> Iterator[ReplayedLetters]:
    """Score each letter with the deployment's own model and turn it into a pair; a letter that fails again stays."""
    stream = settings.require_stream()
    if spec.kind != "callable":
        _check_model(connection, stream, deployment, spec)
    sink = LetterSink(connection, stream, deployment)
    topics = Topics(stream, settings.topic_prefix)
    pool: Pool | None = None
    with ExitStack() as resources:
        live = LiveBytes(settings)
        resources.callback(live.close)
        schemas = TopicSchemas(clients.client_config(settings), topics.schemas)
        resources.callback(schemas.close)
        registry = resources.enter_context(registry_schemas(settings.kafka.properties))
        known = ChainedSchemas(packaged_schemas(), schemas, registry)
        reader, columns = Reader(known), ColumnarReader(known)
        for letter in chosen:
            if letter.stage == "join" and letter.reason == "correlation":
                yield ReplayedLetters(letter, "stays: the logs contradict each other; no model can settle that")
                continue
            found = live.read(letter.source_partition, letter.source_offset)
            if found is None:
                yield ReplayedLetters(letter, "stays: the live message has expired")
                continue
            if letter.request_id not in (None, storable(found[0].decode("utf-8", "replace"))):
                yield ReplayedLetters(letter, "stays: another request is there now; the live topic was re-created")
                continue
            try:
                _, schema, _ = reader.decode(found[1])
            except DecodeError as error:
                yield ReplayedLetters(letter, f"stays: {error.reason}: {error}")
                continue
            if pool is None:
                pool = _pool(settings, spec, schema)
                resources.callback(pool.close)
                _check_model(connection, stream, deployment, pool.model)
            pool.learn(unframe(found[1]).key, schema)
            message = _score(pool, letter, *found)
            _, _, shadow = reader.decode(message)
            yield ReplayedLetters(letter, sink.replay(shadow, letter.window_start, letter.stratum, found[1], columns))


def _check_model(connection: Connection, stream: str, deployment: str, spec: ModelSpec) -> None:
    row = connection.execute(
        queries_of("gnomon_consumer.database")["deployment_model"], [stream, deployment]
    ).fetchone()
    if row is None:
        raise ConfigurationError(f"stream {stream} has no deployment {deployment}")
    if row[0] is None:
        raise ConfigurationError(f"{deployment} has not scored anything yet: there is nothing to replay")
    if row[0] != spec.sha256:
        raise ConfigurationError(
            f"{spec.location} has SHA-256 {spec.sha256}, but {deployment} was scored by {row[1]} {row[2]}"
            f" with {row[0]}: a replay takes the deployment's own model"
        )


def _pool(settings: Settings, spec: ModelSpec, live: Schema) -> Pool:
    pool = Pool(1, spec, worker_limits(settings), settings.score.call_seconds)
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
    pool.submit(
        Job(
            window_id=letter.window_id,
            partition=letter.source_partition,
            sealed_at=sealed_at,
            rows=Rows.of([row]),
            places=np.arange(1),
            single=True,
        )
    )
    while True:
        for done in pool.poll(0.1):
            return done.scored[0].message
