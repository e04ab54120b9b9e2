"""What a long-running consumer does while the database or Kafka is away: say so once, wait, and try again."""

import time
from collections.abc import Callable
from typing import Any

import psycopg
from confluent_kafka import KafkaError
from psycopg import errors

from gnomon_schemas.errors import DependencyUnreachableError, GnomonError

AWAY = (psycopg.OperationalError, psycopg.InterfaceError, errors.ReadOnlySqlTransaction, DependencyUnreachableError)
RETRY_S = 1.0


class Absence:
    """Whether a dependency is away (`away`), since when, and when it is tried again."""

    def __init__(self, log: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._since: float | None = None
        self._next_try = 0.0

    @property
    def away(self) -> bool:
        """Whether it is away."""
        return self._since is not None

    def begin(self, error: Exception) -> None:
        """It was lost by this error, one of AWAY."""
        self._log.warning("something is away; waiting", reason=" ".join(str(error).split()))
        self._since = self._clock()
        self._next_try = self._since + RETRY_S

    def lasts(self, connect: Callable[[], None]) -> bool:
        """Whether it is still away; `connect` is tried once a second and raises one of AWAY if it is."""
        if self._since is None:
            return False
        if self._clock() < self._next_try:
            return True
        self._next_try = self._clock() + RETRY_S
        try:
            connect()
        except AWAY:
            return True
        self._log.info("it is back", seconds=round(self._clock() - self._since, 1))
        self._since = None
        return False


class Complaints:
    """Kafka's errors: what librdkafka retries by itself is said once, what it gives up is raised."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self._said: set[str] = set()

    def hear(self, error: KafkaError) -> None:
        """Take one; raises GnomonError for a fatal one."""
        if error.fatal():
            raise GnomonError(f"Kafka: {error.str()}")
        if error.name() not in self._said:
            self._said.add(error.name())
            self._log.warning("waiting for Kafka", reason=error.str())
