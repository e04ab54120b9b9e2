"""The workers of a command, ready to score: started once the stream has a schema, ended with the block."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gnomon_consumer import kafka
from gnomon_consumer.scorer.gate import SchemaGate
from gnomon_consumer.scorer.models import ModelSpec
from gnomon_consumer.scorer.pool import Pool
from gnomon_consumer.scorer.sandbox import Limits
from gnomon_consumer.settings import Settings
from gnomon_schemas.registry import registry_schemas
from gnomon_schemas.schema import Schema
from gnomon_schemas.store import TopicSchemas
from gnomon_schemas.topics import Topics


@dataclass(frozen=True)
class Crew:
    """Workers that have loaded the model for the features of `live`, and the gate to them."""

    pool: Pool
    gate: SchemaGate
    live: Schema


@contextmanager
def started(
    settings: Settings,
    model: ModelSpec,
    stopping: Callable[[], bool],
    allow_network: bool = False,
    clock: Callable[[], float] = time.monotonic,
    now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
) -> Iterator[Crew | None]:
    """Wait for the newest schema of the stream and start the workers with it; None when stopped. Raises GnomonError."""
    score, names = settings.score, Topics(settings.require_stream(), settings.topic_prefix)
    limits = Limits(score.memory_bytes, network=allow_network or model.kind == "server")
    store = TopicSchemas(kafka.client_config(settings), names.schemas, timeout_s=settings.kafka.timeout_seconds)
    pool = Pool(score.workers, model, limits, score.call_seconds, clock, now_us)
    try:
        gate = SchemaGate(store, registry_schemas(settings.kafka.properties), pool, names.schemas)
        live = gate.wait(stopping)
        if live is not None:
            pool.start(live, stopping)
        yield None if live is None or stopping() else Crew(pool, gate, live)
    finally:
        pool.close()
        store.close()
