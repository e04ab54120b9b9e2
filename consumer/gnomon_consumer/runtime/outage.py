"""Outages of the database or Kafka: a long-running consumer logs them once, waits, and tries again."""

import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import psycopg
from confluent_kafka import KafkaError
from psycopg import errors

from gnomon_consumer.database.errors import explain
from gnomon_consumer.kafka.errors import Right, refusal
from gnomon_schemas.errors import DependencyUnreachableError, GnomonError

UNREACHABLE = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    errors.ReadOnlySqlTransaction,
    errors.IdleInTransactionSessionTimeout,
    DependencyUnreachableError,
)
RETRY_S = 1.0
_LOOK_S = 0.1
T = TypeVar("T")


class Outage:
    """The state of a dependency: whether it is unreachable (`ongoing`), since when, and when to try again."""

    def __init__(self, log: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._since: float | None = None
        self._next_try = 0.0

    @property
    def ongoing(self) -> bool:
        """Return whether it is unreachable."""
        return self._since is not None

    def begin(self, error: Exception) -> None:
        """Record that it was lost with this error, one of UNREACHABLE."""
        self._log.warning("waiting for a dependency", reason=" ".join(str(explain(error) or error).split()))
        self._since = self._clock()
        self._next_try = self._since + RETRY_S

    def lasts(self, connect: Callable[[], None]) -> bool:
        """Return whether it is still unreachable; try `connect` once a second, which then raises one of UNREACHABLE."""
        if self._since is None:
            return False
        if self._clock() < self._next_try:
            return True
        self._next_try = self._clock() + RETRY_S
        try:
            connect()
        except UNREACHABLE:
            return True
        self._log.info("dependency reachable again", seconds=round(self._clock() - self._since, 1))
        self._since = None
        return False


class Renewable(Generic[T]):
    """An object that needs a connection (`now`); `renew` creates it again after an outage."""

    def __init__(self, make: Callable[[], T]) -> None:
        """Create the object; raise like `make`."""
        self._make = make
        self.now = make()

    def renew(self) -> None:
        """Create it again, or raise like `make` and change nothing; the caller closes the old one."""
        self.now = self._make()


def wait_for(connect: Callable[[], T], stop: threading.Event, outage: Outage, *, once: bool) -> T | None:
    """Call `connect` until it succeeds, or only `once`, and return its result; None if `stop` was set before.

    Raises one of UNREACHABLE if it may not wait, and at any time an error that waiting cannot fix.
    """
    made: list[T] = []

    def attempt() -> None:
        made.append(connect())

    try:
        attempt()
    except UNREACHABLE as error:
        if once:
            raise
        outage.begin(error)
        while outage.lasts(attempt):
            if stop.wait(_LOOK_S):
                return None
    return made[-1]


class KafkaErrorLog:
    """Kafka's errors: log once those that librdkafka retries itself, raise those that it does not."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self._said: set[str] = set()

    def handle(self, error: KafkaError, *needed: Right) -> None:
        """Handle one; raise ConfigurationError for a missing right of those `needed`, GnomonError for a fatal error."""
        if denied := refusal(error, *needed):
            raise denied
        if error.fatal():
            raise GnomonError(f"Kafka: {error.str()}")
        if error.name() not in self._said:
            self._said.add(error.name())
            self._log.warning("waiting for Kafka", reason=error.str())
