"""The workers of a command: started when the stream has a schema, ended at the end of the `with` block."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from gnomon_consumer.kafka import clients
from gnomon_consumer.runtime.logging import get_logger
from gnomon_consumer.runtime.user import home_folder
from gnomon_consumer.scorer.pool.pool import Pool
from gnomon_consumer.scorer.pool.writer_schemas import WriterSchemas
from gnomon_consumer.scorer.worker.models import ModelSpec
from gnomon_consumer.scorer.worker.sandbox import Limits, keep_memory_private
from gnomon_consumer.settings import DEFAULT_FILE, Settings
from gnomon_consumer.times import now_us
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.registry import registry_schemas
from gnomon_schemas.schema import Schema, features_of
from gnomon_schemas.store import TopicSchemas
from gnomon_schemas.topics import Topics

_MOST_OTHERS = 8  # records to try if the newest one does not fit: each try restarts the workers
log = get_logger("schemas")


@dataclass(frozen=True)
class ReadyWorkers:
    """Workers that have loaded the model for the features of `live`, and the writer schemas that they know."""

    pool: Pool
    schemas: WriterSchemas
    live: Schema


def worker_limits(settings: Settings, *, network: bool = False) -> Limits:
    """Return the limits of a worker under these settings, and the files that are hidden from it."""
    score = settings.score
    return Limits(
        score.memory_bytes,
        processes=score.processes,
        network=network,
        hidden=tuple(sorted(_secret_files(settings))),
        required=score.sandbox == "required",
    )


def _secret_files(settings: Settings) -> Iterator[str]:
    """Return the configuration's files, and those that Kafka's properties and the database's URL name."""
    named: list[str | Path | None] = [settings.file, DEFAULT_FILE, ".env"]
    if home := home_folder():
        named += [home / ".pgpass", home / ".pg_service.conf"]
    named += [os.environ.get(name) for name in ("PGPASSFILE", "PGSSLKEY", "PGSERVICEFILE")]
    named += settings.kafka.properties.values()
    with suppress(ValueError):
        named += [value for _, value in parse_qsl(urlsplit(settings.database_url or "").query)]
    for name in (one for one in named if one):
        with suppress(OSError, ValueError):  # a value may not be a path
            path = Path(name).resolve()
            if path.is_file():
                yield str(path)


@contextmanager
def ready_workers(
    settings: Settings,
    model: ModelSpec,
    stopping: Callable[[], bool],
    allow_network: bool = False,
    clock: Callable[[], float] = time.monotonic,
    now_us: Callable[[], int] = now_us,
) -> Iterator[ReadyWorkers | None]:
    """Wait for a schema of the stream that has the model's features and start the workers with it; None when stopped.

    Raises GnomonError.
    """
    score, names = settings.score, Topics(settings.require_stream(), settings.topic_prefix)
    limits = worker_limits(settings, network=allow_network or model.kind == "server")
    keep_memory_private()
    store = TopicSchemas(clients.client_config(settings), names.schemas, timeout_s=settings.kafka.timeout_seconds)
    with ExitStack() as resources:
        resources.callback(store.close)
        registry = resources.enter_context(registry_schemas(settings.kafka.properties))

        def start(live: Schema | None) -> ReadyWorkers | None:
            """Start workers with a schema; without one, wait for the newest."""
            pool = Pool(score.workers, model, limits, score.call_seconds, clock=clock, now_us=now_us)
            with ExitStack() as closing:  # a refused model leaves no worker process
                closing.callback(pool.close)
                schemas = WriterSchemas(store, registry, pool, names.schemas)
                live = live or schemas.wait(stopping)
                if live is None:
                    return None
                schemas.learn(live.fingerprint, live)
                pool.start(live, stopping)
                resources.push(closing.pop_all())
            return ReadyWorkers(pool, schemas, live)

        try:
            workers = start(None)
        except ConfigurationError as error:
            workers = _started_with_another(store, start, error)
        yield None if stopping() else workers


def _started_with_another(
    store: TopicSchemas, start: Callable[[Schema], ReadyWorkers | None], refusal: ConfigurationError
) -> ReadyWorkers | None:
    """Start with an older record that has features which the newest lacks: another producer may still write it.

    Raises `refusal` if the model fits none of them. Captures of the newest record then fail one by one, with the
    feature's name.
    """
    captures = store.live_schemas()[::-1]
    if not captures:
        raise refusal
    newest = captures[0]
    for schema in captures[1 : 1 + _MOST_OTHERS]:
        if feature_names(schema) <= feature_names(newest):
            continue
        try:
            workers = start(schema)
        except ConfigurationError:
            continue
        log.warning(
            "the newest record of the stream lacks features of the model: its captures fail, an older record is used",
            reason=" ".join(str(refusal).split()), newest=str(newest.fingerprint), taken=str(schema.fingerprint),
            way_out="a second service writes another record under this stream: give it its own stream",
        )  # fmt: skip
        return workers
    raise refusal


def feature_names(live: Schema) -> set[str]:
    """Return the names of a capture record's features."""
    return {field["name"] for field in features_of(live)["fields"]}
