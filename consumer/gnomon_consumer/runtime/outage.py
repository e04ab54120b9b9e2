"""What a long-running consumer does while the database or Kafka is away: say so once, wait, and try again."""

import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import psycopg
from confluent_kafka import KafkaError
from psycopg import errors

from gnomon_consumer.database.errors import explain
from gnomon_consumer.kafka.errors import refusal
from gnomon_schemas.errors import DependencyUnreachableError, GnomonError

AWAY = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    errors.ReadOnlySqlTransaction,
    errors.IdleInTransactionSessionTimeout,
    DependencyUnreachableError,
)
RETRY_S = 1.0
_LOOK_S = 0.1
T = TypeVar("T")


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
        self._log.warning("something is away; waiting", reason=" ".join(str(explain(error) or error).split()))
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


class Renewable(Generic[T]):
    """What stands on a connection to a dependency (`now`); `renew` makes it again after the dependency was away."""

    def __init__(self, make: Callable[[], T]) -> None:
        """Raises what `make` raises."""
        self._make = make
        self.now = make()

    def renew(self) -> None:
        """Make it again, or raise what `make` raises and change nothing; the one before is the caller's to close."""
        self.now = self._make()


def wait_for(connect: Callable[[], T], stop: threading.Event, absence: Absence, *, once: bool) -> T | None:
    """Call `connect` until it succeeds, or only `once`, and return its result; None where `stop` was set before.

    Raises one of AWAY where it may not wait, and at any time what waiting does not mend.
    """
    made: list[T] = []

    def attempt() -> None:
        made.append(connect())

    try:
        attempt()
    except AWAY as error:
        if once:
            raise
        absence.begin(error)
        while absence.lasts(attempt):
            if stop.wait(_LOOK_S):
                return None
    return made[-1]


class Complaints:
    """Kafka's errors: what librdkafka retries by itself is said once, what it gives up is raised."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self._said: set[str] = set()

    def hear(self, error: KafkaError) -> None:
        """Take one; raises ConfigurationError for a right that is missing, GnomonError for a fatal error."""
        if denied := refusal(error):
            raise denied
        if error.fatal():
            raise GnomonError(f"Kafka: {error.str()}")
        if error.name() not in self._said:
            self._said.add(error.name())
            self._log.warning("waiting for Kafka", reason=error.str())
