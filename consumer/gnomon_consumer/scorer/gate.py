"""Writer schemas for the workers: a capture is handed on when its schema is known, or known to be nowhere."""

import time
from collections.abc import Callable, Iterable

from gnomon_consumer.logs import get_logger
from gnomon_consumer.scorer.pool import Pool
from gnomon_consumer.scorer.scoring import LIVE
from gnomon_schemas.codec import SchemaFinder
from gnomon_schemas.errors import DecodeError, DependencyUnreachableError
from gnomon_schemas.framing import SchemaKey, unframe
from gnomon_schemas.schema import Schema
from gnomon_schemas.store import TopicSchemas

_REFRESH_SECONDS = 1.0  # a flood of hostile fingerprints costs one read of the topic a second
_MAX_REFUSED = 10_000
log = get_logger("schemas")


class SchemaGate:
    """Asks the store once more for each unknown schema, after the capture that names it was seen."""

    def __init__(self, store: TopicSchemas, registry: SchemaFinder, pool: Pool, topic: str) -> None:
        self._store = store
        self._registry = registry
        self._pool = pool
        self._topic = topic
        self._known: set[bytes] = set()
        self._refused: set[bytes] = set()
        self._refreshed_at = float("-inf")

    def wait(self, stopping: Callable[[], bool]) -> Schema | None:
        """The newest capture schema of the stream; waits, audibly, while the topic is empty. None when stopped."""
        said = False
        while not stopping():
            self._store.refresh()
            captures = [schema for schema in self._store.live_schemas() if schema.name == LIVE]
            if captures:
                self.learn(captures[-1].fingerprint, captures[-1])
                return captures[-1]
            if not said:
                log.info("waiting for the first capture's schema", topic=self._topic)
                said = True
            time.sleep(0.2)
        return None

    def learn(self, key: SchemaKey, schema: Schema) -> None:
        """Hand a schema to the workers."""
        self._pool.learn(key, schema)
        self._known.add(key.header)

    def ready(self, values: Iterable[bytes], now: float) -> bool:
        """Whether captures may go to the workers; False: ask again a little later."""
        unknown: dict[bytes, SchemaKey] = {}
        for start in {value[:10] for value in values} - self._known:
            header = start if start[:2] == b"\xc3\x01" else start[:5]
            if header not in self._known and header not in self._refused and header not in unknown:
                try:
                    unknown[header] = unframe(start).key
                except DecodeError:
                    continue  # the worker will say what is wrong with it
        if not unknown:
            return True
        if now - self._refreshed_at < _REFRESH_SECONDS:
            return False
        self._refreshed_at = now
        if len(self._refused) > _MAX_REFUSED:
            self._refused.clear()
        try:
            self._store.refresh()
            for header, key in unknown.items():
                schema = self._store.find(key) or self._registry.find(key)
                if schema is None:
                    self._refused.add(header)
                else:
                    self.learn(key, schema)
        except DependencyUnreachableError as error:
            log.warning("cannot be read", reason=str(error))
            return False
        return True
