"""The doctor's check of a model: how its outputs are read, and whether it answers."""

from collections.abc import Iterator

from gnomon_consumer.doctor.finding import Finding
from gnomon_consumer.kafka import clients
from gnomon_consumer.scorer.pool.pool import Pool
from gnomon_consumer.scorer.pool.startup import ready_workers
from gnomon_consumer.scorer.rehearsal.warm_up import NAME_THEM, check_warm_up, rehearse, warm_up_rows
from gnomon_consumer.scorer.worker.models import ModelSpec, describe
from gnomon_consumer.settings import Settings
from gnomon_schemas.errors import DependencyUnreachableError, GnomonError
from gnomon_schemas.store import TopicSchemas
from gnomon_schemas.topics import Topics

_ROWS = 64
_MOST_FILES = 20
_REMEDY = "see docs/models.md for what is accepted"


def examine_model(settings: Settings, location: str, signature: str | None) -> Iterator[Finding]:
    """Load the model in one worker with the stream's newest schema, and score generated rows."""
    if settings.stream is None:
        yield Finding("model", "note", "no stream is configured", "give --stream: its features are what a model needs")
        return
    one_worker = settings.model_copy(update={"score": settings.score.model_copy(update={"workers": 1})})
    score = settings.score
    try:
        spec = describe(location, signature=signature, seconds=score.call_seconds, authorization=score.authorization)
        if not _has_schema(settings):
            remedy = "start the live service once: it publishes the schema with its first capture"
            yield Finding("model", "note", "the stream has no schema, so the model cannot be tried", remedy)
            return
        with ready_workers(one_worker, spec, lambda: False) as workers:
            if workers is None:
                return
            yield Finding("model", "ok", f"{location}: {workers.pool.reading}")
            yield from _covered(workers.pool, spec)
            rows = warm_up_rows(workers.live, _ROWS, workers.pool.widths)
            found, _ = rehearse(workers.pool, rows, score.batch_rows, lambda: False)
            check_warm_up(found, made_up=True, allow_failing=False)
            answered = sum(one["error"] is None for one in found)
            yield Finding("model", "ok", f"answers {answered} of {len(found)} generated rows")
    except DependencyUnreachableError as error:
        yield Finding("model", "unreachable", str(error), "start the server, or check its address")
    except GnomonError as error:
        yield Finding("model", "failed", str(error), _REMEDY)


def _covered(pool: Pool, spec: ModelSpec) -> Iterator[Finding]:
    """Say which files the SHA-256 of a Python model covers, and where files may be missing."""
    if spec.kind != "callable":
        return
    more = f" and {len(pool.files) - _MOST_FILES} more" if len(pool.files) > _MOST_FILES else ""
    listed = ", ".join(pool.files[:_MOST_FILES]) + more
    covered = f" and of the files opened while loading: {listed}" if pool.files else ""
    yield Finding("model", "ok", f"SHA-256 {pool.model.sha256}, of its source{covered}")
    if pool.unseen:
        yield Finding("model", "note", f"files that C libraries open are not in its SHA-256: {pool.unseen}", NAME_THEM)


def _has_schema(settings: Settings) -> bool:
    topics = Topics(settings.require_stream(), settings.topic_prefix)
    store = TopicSchemas(clients.client_config(settings), topics.schemas, timeout_s=settings.kafka.timeout_seconds)
    try:
        store.refresh()
        return bool(store.live_schemas())
    finally:
        store.close()
