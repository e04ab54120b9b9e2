"""The captures of the live service, and the simulation's own ledger of them."""

from functools import cache
from typing import NamedTuple

from gnomon_schemas.codec import Codec
from tests.simulation.broker import Broker, Headers, Transaction
from tests.simulation.database import REFUSED
from tests.simulation.world import World
from tests.support.logs import FEATURES, capture

POISON = b"\xc3\x01broken"
_STRATA = ("", "", "", "a", "b")


class Captured(NamedTuple):
    """One capture as the service knows it."""

    request_id: str
    stratum: str


@cache
def _codec() -> Codec:
    return Codec(FEATURES.live)


@cache
def _message(sequence: int, request_id: str) -> bytes:
    return _codec().encode(capture(sequence, request_id))


class Traffic:
    """Writes captures to the live topic; `captured[partition][offset]` is what is there."""

    def __init__(self, world: World, broker: Broker, topic: str, rate: float) -> None:
        self.captured: dict[int, dict[int, Captured]] = {}
        self.rate = rate
        self.stopped = False
        self._world = world
        self._broker = broker
        self._topic = topic
        self._sequence = 0

    def start(self) -> None:
        """Start."""
        self._burst()

    def _burst(self) -> None:
        if self.stopped:
            return
        dice = self._world.dice
        logs = self._broker.topics[self._topic]
        for _ in range(dice.randint(1, 8)):
            log = logs[0] if dice.random() < 0.3 else dice.choice(logs)  # one partition is hotter than the others
            self._capture(log.number)
        if dice.random() < 0.05:
            self._transaction(dice.choice(logs).number)
        self._world.later(dice.expovariate(self.rate / 4.5), self._burst)

    def _capture(self, partition: int, transaction: Transaction | None = None) -> None:
        self._sequence += 1
        dice = self._world.dice
        request_id = f"r{self._sequence}"
        if dice.random() < 0.01:
            request_id = f"r{max(1, self._sequence - 3)}"  # a service that retries captures a request twice
        elif dice.random() < 0.01:
            request_id += REFUSED
        stratum = dice.choice(_STRATA)
        value = POISON if dice.random() < 0.01 else _message(self._sequence, request_id)
        log = self._broker.topics[self._topic][partition]
        headers: Headers = [("stratum", stratum.encode())] if stratum else None
        offset = log.append(request_id.encode(), value, headers, self._broker.now_ms, transaction)
        if transaction is None or transaction.state != "aborted":
            self.captured.setdefault(partition, {})[offset] = Captured(request_id, stratum)

    def _transaction(self, partition: int) -> None:
        """Write another program's transaction into the live log: markers, and aborted records."""
        log = self._broker.topics[self._topic][partition]
        transaction = Transaction("service", self._world.now)
        committed = self._world.chance(0.5)
        kept = dict(self.captured.get(partition, {}))
        for _ in range(self._world.dice.randint(1, 3)):
            self._capture(partition, transaction)
        transaction.state = "committed" if committed else "aborted"
        log.close(transaction, self._broker.now_ms)
        if not committed:
            self.captured[partition] = kept
