"""A Kafka cluster in memory: partitions with offsets, markers and a last stable offset, and the transactions' state.

It behaves like a cluster without KIP-890: a late end of a transaction ends whatever transaction its producer has open
then.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from confluent_kafka import KafkaError

from tests.simulation.group import Group
from tests.simulation.world import ViolationError, World

TRANSACTION_S = 10.0
Headers = list[tuple[str, str | bytes | None]] | None


@dataclass(eq=False)
class Transaction:
    """The records that one producer writes together; `state` is open, committed or aborted."""

    producer: str
    started_at: float
    state: str = "open"
    logs: set["Log"] = field(default_factory=set)
    offsets: list[tuple[Group, dict[int, int]]] = field(default_factory=list)


class Entry(NamedTuple):
    """One record of a log, or a marker."""

    offset: int
    key: bytes | None
    value: bytes
    headers: Headers
    at_ms: int
    transaction: Transaction | None
    marker: bool = False


class Log:
    """One partition; `low` is its first existing offset."""

    def __init__(self, topic: str, number: int) -> None:
        self.topic = topic
        self.number = number
        self.low = 0
        self.entries: list[Entry] = []
        self._open: dict[Transaction, int] = {}

    @property
    def high(self) -> int:
        """Return the end."""
        return len(self.entries)

    @property
    def stable(self) -> int:
        """Return the last stable offset: no transaction is open below it."""
        return min(self._open.values(), default=self.high)

    def append(
        self,
        key: bytes | None,
        value: bytes,
        headers: Headers,
        at_ms: int,
        transaction: Transaction | None = None,
        marker: bool = False,
    ) -> int:
        """Append at the end; return the offset."""
        offset = self.high
        if transaction is not None and not marker:
            self._open.setdefault(transaction, offset)
            transaction.logs.add(self)
        self.entries.append(Entry(offset, key, value, headers, at_ms, transaction, marker))
        return offset

    def close(self, transaction: Transaction, at_ms: int) -> None:
        """Write the marker of a transaction that ended."""
        self._open.pop(transaction, None)
        self.append(None, b"", None, at_ms, transaction, marker=True)

    def read(self, position: int, committed: bool) -> Iterator[Entry]:
        """Return what a consumer gets from a position on; markers and aborted records are left out."""
        end = self.stable if committed else self.high
        for offset in range(max(position, self.low), end):
            entry = self.entries[offset]
            hidden = committed and entry.transaction is not None and entry.transaction.state == "aborted"
            if not entry.marker and not hidden:
                yield entry


@dataclass
class ProducerState:
    """The coordinator's state of one transactional id."""

    epoch: int = 0
    transaction: Transaction | None = None
    last: str | None = None


class Broker:
    """The cluster. `on_commit` is called with each log of a transaction that was committed."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.topics: dict[str, list[Log]] = {}
        self.groups: dict[str, Group] = {}
        self.silent_until = 0.0
        self.on_commit: Callable[[Log], None] = lambda _: None
        self.writable: Callable[[str], bool] = lambda _: True
        self._producers: dict[str, ProducerState] = {}

    def grow(self, topic: str, partitions: int) -> None:
        """Grow a topic to at least so many partitions."""
        logs = self.topics.setdefault(topic, [])
        logs += [Log(topic, number) for number in range(len(logs), partitions)]
        self.world.on_change()

    def log(self, topic: str, partition: int) -> Log | None:
        """Return a partition, None if there is none."""
        logs = self.topics.get(topic, [])
        return logs[partition] if partition < len(logs) else None

    def silence(self, until: float) -> None:
        """Answer no request until a time."""
        self.silent_until = until
        self.world.on_change()

    @property
    def now_ms(self) -> int:
        """Return the wall clock."""
        return self.world.now_us() // 1000

    # Transactions.

    def init(self, producer: str) -> int:
        """Fence earlier producers of the same id and abort their open transactions; return the new epoch."""
        state = self._producers.setdefault(producer, ProducerState())
        state.epoch += 1
        self._finish(state, "aborted")
        state.last = None
        return state.epoch

    def write(
        self, producer: str, epoch: int, topic: str, partition: int, key: bytes | None, value: bytes, headers: Headers
    ) -> KafkaError | None:
        """Append one record in the producer's transaction."""
        if not self.writable(topic):
            raise ViolationError(f"{producer} writes to {topic}")
        state = self._producers[producer]
        if epoch != state.epoch:
            return fenced()
        log = self.log(topic, partition)
        if log is None:
            return KafkaError(KafkaError._UNKNOWN_PARTITION, "no such partition", False, False, True)
        log.append(key, value, headers, self.now_ms, self._transaction(producer, state))
        return None

    def add_offsets(
        self, producer: str, epoch: int, group: Group, member: tuple[str, int], offsets: dict[int, int]
    ) -> KafkaError | None:
        """Commit offsets of a group with the transaction, if the member is of the group's generation."""
        state = self._producers[producer]
        if epoch != state.epoch:
            return fenced()
        if (error := group.refuses(member)) is not None:
            return error
        transaction = self._transaction(producer, state)
        transaction.offsets.append((group, offsets))
        group.pending.add(id(transaction))
        return None

    def end(self, producer: str, epoch: int, commit: bool) -> KafkaError | None:
        """Accept the request that ends the transaction which this producer has open now, whichever it is."""
        state = self._producers[producer]
        outcome = "committed" if commit else "aborted"
        if epoch != state.epoch:
            return fenced()
        if state.transaction is None:
            if state.last in (None, outcome):
                return None
            return KafkaError(KafkaError.INVALID_TXN_STATE, "no transaction", True)
        self._finish(state, outcome)
        return None

    @property
    def rests(self) -> bool:
        """Return whether further ticks change nothing but the members' last heartbeats, until something happens."""
        return not any(state.transaction for state in self._producers.values()) and all(
            group.rests for group in self.groups.values()
        )

    def tick(self) -> None:
        """Abort transactions that are open for too long, and fence their producers; update the groups."""
        for state in self._producers.values():
            transaction = state.transaction
            if transaction is not None and self.world.now - transaction.started_at > TRANSACTION_S:
                self.world.count("transaction timed out")
                state.epoch += 1
                self._finish(state, "aborted")
        for group in self.groups.values():
            group.tick()

    def _transaction(self, producer: str, state: ProducerState) -> Transaction:
        if state.transaction is None:
            state.transaction = Transaction(producer, self.world.now)
            self.world.on_change()
        return state.transaction

    def _finish(self, state: ProducerState, outcome: str) -> None:
        transaction, state.transaction, state.last = state.transaction, None, outcome
        if transaction is None:
            return
        transaction.state = outcome
        logs = sorted(transaction.logs, key=lambda log: (log.topic, log.number))
        for log in logs:
            log.close(transaction, self.now_ms)
        for group, offsets in transaction.offsets:
            group.pending.discard(id(transaction))
            if outcome == "committed":
                group.committed.update(offsets)
        if outcome == "committed":
            for log in logs:
                self.on_commit(log)


class Ticks:
    """Calls `Broker.tick` every `seconds`, from time 0. While the broker rests, ticks are left out.

    So the clock goes from event to event: an hour in which nothing happens costs nothing.
    """

    def __init__(self, broker: Broker, seconds: float) -> None:
        self._broker = broker
        self._world = broker.world
        self._seconds = seconds
        self._resting = False
        self._world.on_change = self._go_on
        self._tick()

    def _tick(self) -> None:
        self._broker.tick()
        self._resting = self._broker.rests
        if not self._resting:
            self._world.at(self._world.now + self._seconds, self._tick)

    def _go_on(self) -> None:
        """Something changed: catch up with the ticks that were left out, and go on with the next one."""
        if not self._resting:
            return
        self._resting = False
        last = self._world.now // self._seconds * self._seconds
        for group in self._broker.groups.values():
            group.heard(last)
        self._world.at(last + self._seconds, self._tick)


def fenced() -> KafkaError:
    """Another producer is newer and has the same transactional id."""
    return KafkaError(KafkaError._FENCED, "fenced", True)
