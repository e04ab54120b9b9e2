"""Services that are restarted after they end, with growing pauses while they keep failing."""

import time
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field

from gnomon_consumer.runtime.logging import get_logger
from gnomon_consumer.runtime.supervisor import Child, Children
from gnomon_schemas.errors import ConfigurationError

FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 60.0
# A run of this length counts as a success: the next failure is the first one again.
STEADY_S = 60.0
USAGE = 2

log = get_logger("run")


@dataclass
class Backoff:
    """The pause before the next start: 1, 2, 4, … 60 seconds, from 1 again after a steady run."""

    _delay: float = field(default=FIRST_DELAY_S, init=False)

    def after(self, lived_seconds: float) -> float:
        """Return the seconds to wait after a run of this length."""
        if lived_seconds >= STEADY_S:
            self._delay = FIRST_DELAY_S
        delay, self._delay = self._delay, min(2 * self._delay, LONGEST_DELAY_S)
        return delay


@dataclass
class _Service:
    name: str
    arguments: tuple[str, ...]
    child: Child | None
    started_at: float
    _: KW_ONLY
    due_at: float = 0.0
    backoff: Backoff = field(default_factory=Backoff)


class RestartedServices:
    """`gnomon` commands that should run until they are stopped; `step` restarts those that have ended.

    A command that ends with status 2 is not restarted, because its arguments and files would be the same.
    """

    def __init__(self, children: Children, clock: Callable[[], float] = time.monotonic) -> None:
        self._children = children
        self._clock = clock
        self._services: list[_Service] = []

    def start_service(self, name: str, *arguments: object) -> None:
        """Start a command and keep it running."""
        given = tuple(map(str, arguments))
        child = self._children.start_gnomon(name, *given)
        self._services.append(_Service(name, given, child, self._clock()))

    def step(self) -> None:
        """Detect ended commands and start those whose pause is over; raise ConfigurationError if one refuses to run."""
        now = self._clock()
        for service in self._services:
            if service.child is None:
                if now >= service.due_at:
                    service.child = self._children.start_gnomon(service.name, *service.arguments)
                    service.started_at = now
                    log.info("restarted", service=service.name)
            elif (status := service.child.process.poll()) is not None:
                self._ended(service, status, now)

    def _ended(self, service: _Service, status: int, now: float) -> None:
        if service.child is not None:
            self._children.forget(service.child)
        service.child = None
        if status == USAGE:
            raise ConfigurationError(f"{service.name} refuses to run (status 2); the line above says why")
        delay = service.backoff.after(now - service.started_at)
        service.due_at = now + delay
        how = {"signal": -status} if status < 0 else {"status": status}
        log.warning("ended", service=service.name, **how, restart_in_seconds=delay)
