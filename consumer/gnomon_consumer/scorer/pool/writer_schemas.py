"""Writer schemas for the workers: a capture waits until a store has its schema, or every store reports it missing."""

import time
from collections.abc import Callable, Iterable
from operator import itemgetter
from typing import Protocol

from gnomon_consumer.runtime.logging import get_logger
from gnomon_schemas.codec import SchemaFinder
from gnomon_schemas.errors import DecodeError, DependencyUnreachableError
from gnomon_schemas.framing import SINGLE_OBJECT_MARKER, Fingerprint, SchemaKey, unframe
from gnomon_schemas.schema import Schema

_REFRESH_SECONDS = 1.0  # a flood of hostile fingerprints causes one read of the topic a second
_READ_SECONDS = 2.0  # how long one read may block the scorer's loop; the next one continues where it stopped
_REFUSED_SECONDS = 5.0  # a schema may be published after the first capture that needs it
_MAX_REFUSED = 10_000
_BEGINNING = itemgetter(slice(10))  # holds a header of either framing
log = get_logger("schemas")


class SchemaSource(SchemaFinder, Protocol):
    """The part of the `schemas` topic that is used here (see `TopicSchemas`)."""

    def refresh(self, timeout_s: float | None = None) -> None:
        """Read to the end; raise DependencyUnreachableError."""
        ...

    def live_schemas(self) -> list[Schema]:
        """Return every schema read so far, oldest first."""
        ...


class Learner(Protocol):
    """The part of the workers that is used here (see `Pool`)."""

    def learn(self, key: SchemaKey, schema: Schema) -> None:
        """Give a schema to every worker."""
        ...


class WriterSchemas:
    """Asks the stores for each unknown schema, after the capture that names it was seen.

    A schema is refused when every store has answered and none has it; some seconds later it is looked up again. While a
    store does not answer, the captures that need the schema wait.
    """

    def __init__(self, store: SchemaSource, registry: SchemaFinder, pool: Learner, topic: str) -> None:
        self._store = store
        self._registry = registry
        self._pool = pool
        self._topic = topic
        self._known: set[bytes] = set()
        self._refused: dict[bytes, float] = {}
        self._refreshed_at = float("-inf")
        self._waited_for = ""

    def wait(self, stopping: Callable[[], bool]) -> Schema | None:
        """Return the newest capture schema of the stream; wait and log while the topic is empty. None when stopped."""
        said = False
        while not stopping():
            self._store.refresh()
            captures = self._store.live_schemas()
            if captures:
                self.learn(captures[-1].fingerprint, captures[-1])
                return captures[-1]
            if not said:
                log.info("waiting for the first capture's schema", topic=self._topic)
                said = True
            time.sleep(0.2)  # the topic does not announce a new schema
        return None

    def learn(self, key: SchemaKey, schema: Schema) -> None:
        """Give a schema to the workers."""
        self._pool.learn(key, schema)
        self._known.add(key.header)

    def ready(self, values: Iterable[bytes], now: float) -> bool:
        """Return whether captures may go to the workers; False: ask again a little later."""
        unknown = self._unknown(values, now)
        if not unknown:
            return True
        if now - self._refreshed_at < _REFRESH_SECONDS:
            return False
        self._refreshed_at = now
        try:
            if any(isinstance(key, Fingerprint) for key in unknown.values()):
                self._store.refresh(_READ_SECONDS)
            for header, key in unknown.items():
                schema = self._store.find(key) or self._registry.find(key)
                if schema is None:
                    self._refused[header] = now
                else:
                    self.learn(key, schema)
        except DependencyUnreachableError as error:
            if str(error) != self._waited_for:  # logged once, not every second
                self._waited_for = str(error)
                log.warning("captures wait for their schema", reason=str(error))
            return False
        return True

    def _unknown(self, values: Iterable[bytes], now: float) -> dict[bytes, SchemaKey]:
        """Return the schemas to ask for, by the headers of the captures that need them."""
        if len(self._refused) > _MAX_REFUSED:
            self._refused.clear()
        unknown: dict[bytes, SchemaKey] = {}
        for start in set(map(_BEGINNING, values)) - self._known:
            header = start if start[:2] == SINGLE_OBJECT_MARKER else start[:5]
            refused = now - self._refused.get(header, float("-inf")) < _REFUSED_SECONDS
            if header not in self._known and not refused and header not in unknown:
                try:
                    unknown[header] = unframe(start).key
                except DecodeError:
                    continue  # the worker will report what is wrong with it
        return unknown
