"""The parts of confluent-kafka's clients that the product uses, over the broker in memory.

Callbacks run in `consume` and `poll`, whichever is called. A request of the same consumer inside of a callback is a
violation: librdkafka ends the process at its next callback.
"""

from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from tests.simulation.broker import Broker, Headers, Log
from tests.simulation.group import Member
from tests.simulation.world import Killed, ViolationError

CLUSTER = "simulated"
HANGS_S = 1e9


def timed_out(retriable: bool = True) -> KafkaException:
    """Return the error for a missing answer."""
    return KafkaException(KafkaError(KafkaError._TIMED_OUT, "timed out", False, retriable))


class Client:
    """Common behaviour of all clients."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.world = broker.world
        process = self.world.process
        assert process is not None
        self.process = process
        self.within_callback = False

    def request(self, timeout: float) -> None:
        """Ask the broker; raise KafkaException if it does not answer."""
        if self.within_callback:
            raise ViolationError("a request inside of a rebalance callback")
        self.world.pause()
        deadline = self.world.now + timeout
        if self.broker.silent_until > self.world.now:
            self.world.sleep(min(timeout, self.broker.silent_until - self.world.now))
            if self.world.now >= deadline:
                raise timed_out()

    def list_topics(self, topic: str | None = None, timeout: float = -1) -> Any:
        """Return metadata."""
        self.request(timeout)
        names = self.broker.topics if topic is None else [topic]
        found = {
            name: SimpleNamespace(
                error=None, partitions={log.number: SimpleNamespace() for log in self.broker.topics.get(name, [])}
            )
            for name in names
        }
        return SimpleNamespace(cluster_id=CLUSTER, topics=found)

    def describe_topics(self, topics: Any, request_timeout: float) -> dict[str, Any]:
        """Return the ids of topics, as futures."""
        refused: KafkaException | None = None
        try:
            self.request(request_timeout)
        except KafkaException as error:
            refused = error

        def result() -> Any:
            if refused is not None:
                raise refused
            return SimpleNamespace(topic_id="id")

        return {name: SimpleNamespace(result=result) for name in topics.topic_names}

    def list_offsets(self, wanted: dict[TopicPartition, Any], request_timeout: float) -> dict[TopicPartition, Any]:
        """Return the ends of partitions, as futures; the answer arrives after a moment."""
        asked: dict[TopicPartition, Future[Any]] = {place: Future() for place in wanted}
        self.world.later(self.world.dice.uniform(0.001, request_timeout), lambda: self._answer(asked))
        return asked

    def _answer(self, asked: dict[TopicPartition, "Future[Any]"]) -> None:
        for place, future in asked.items():
            log = self.broker.log(place.topic, place.partition)
            if log is None or self.broker.silent_until > self.world.now:
                future.set_exception(timed_out())
            else:
                future.set_result(SimpleNamespace(offset=log.high))

    def poll(self, timeout: float = 0) -> None:
        """Serve an admin client or a producer."""
        self.world.sleep(timeout)


class Consumer(Client):
    """A consumer of a group, or one that assigns by hand."""

    def __init__(self, broker: Broker, config: dict[str, Any]) -> None:
        super().__init__(broker)
        self._committed_only = config["isolation.level"] == "read_committed"
        self._group_id = str(config["group.id"])
        self._incremental = "cooperative" in str(config.get("partition.assignment.strategy", ""))
        self._callbacks: dict[str, Callable[[Any, list[TopicPartition]], None]] = {}
        self._member: Member | None = None
        self._topic = ""
        self._positions: dict[tuple[str, int], int] = {}
        self._told_end: dict[tuple[str, int], int] = {}
        self._out: set[tuple[str, int]] = set()
        self._paused: set[tuple[str, int]] = set()
        self._changed = False

    # The group.

    def subscribe(self, topics: list[str], **callbacks: Any) -> None:
        (self._topic,) = topics
        self._callbacks = callbacks
        self._group = self.broker.groups[self._group_id]
        self._member = self._group.join(self.process)

    def memberid(self) -> str:
        return "" if self._member is None or self._member.expired else self._member.id

    def consumer_group_metadata(self) -> tuple[str, int]:
        assert self._member is not None
        return self._member.id, self._member.generation

    def committed(self, places: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        self.request(timeout)
        deadline = self.world.now + timeout
        while self._group.pending:
            if self.world.now >= deadline:
                raise timed_out()
            self.world.sleep(0.2)
        return [
            TopicPartition(place.topic, place.partition, self._group.committed.get(place.partition, -1001))
            for place in places
        ]

    def commit(self, **_: Any) -> None:
        """Commit for lag tools, or fail."""

    def _serve(self) -> None:
        """Call the pending callbacks, at most one rebalance."""
        member = self._member
        event = None if member is None else self._group.next_event(member)
        if member is None or event is None:
            return
        kind, numbers = event
        partitions = [TopicPartition(self._topic, number) for number in sorted(numbers)]
        self._changed, self.within_callback = False, True
        try:
            self._callbacks[f"on_{kind}"](self, partitions)
        finally:
            self.within_callback = False
        if kind == "assign":
            if not self._changed:
                raise ViolationError("librdkafka would assign the partitions at the group's offsets")
            member.has |= numbers
            return
        if not self._changed:
            gone = [place for place in partitions if (place.topic, place.partition) in self._positions]
            self.incremental_unassign(gone)
        member.has -= numbers
        if kind == "lost":
            self._member = self._group.join(self.process)

    # Assignment.

    def assign(self, places: list[TopicPartition]) -> None:
        self._positions.clear()
        self._told_end.clear()
        self._out.clear()
        self.incremental_assign(places)

    def unassign(self) -> None:
        self.assign([])

    def incremental_assign(self, places: list[TopicPartition]) -> None:
        self._changed = True
        for place in places:
            at = place.topic, place.partition
            if at in self._positions:
                raise KafkaException(KafkaError(KafkaError._CONFLICT, f"{at} is assigned already"))
            log = self.broker.log(*at)
            self._positions[at] = log.low if log is not None and place.offset == -2 else place.offset

    def incremental_unassign(self, places: list[TopicPartition]) -> None:
        self._changed = True
        for place in places:
            at = place.topic, place.partition
            if at not in self._positions:
                raise KafkaException(KafkaError(KafkaError._INVALID_ARG, f"{at} is not assigned"))
            del self._positions[at]
            self._told_end.pop(at, None)
            self._out.discard(at)
            self._paused.discard(at)

    def seek(self, place: TopicPartition) -> None:
        at = place.topic, place.partition
        if at not in self._positions:
            raise KafkaException(KafkaError(KafkaError._STATE, f"{at} is not assigned"))
        log = self.broker.log(*at)
        self._positions[at] = log.low if log is not None and place.offset == -2 else place.offset
        self._told_end.pop(at, None)
        self._out.discard(at)

    def pause(self, places: list[TopicPartition]) -> None:
        self._paused |= {(place.topic, place.partition) for place in places}

    def resume(self, places: list[TopicPartition]) -> None:
        self._paused -= {(place.topic, place.partition) for place in places}

    def position(self, places: list[TopicPartition]) -> list[TopicPartition]:
        return [TopicPartition(one.topic, one.partition, self._positions[one.topic, one.partition]) for one in places]

    # Reading.

    def get_watermark_offsets(self, place: TopicPartition, timeout: float) -> tuple[int, int]:
        self.request(timeout)
        log = self.broker.log(place.topic, place.partition)
        if log is None:
            raise KafkaException(KafkaError(KafkaError._UNKNOWN_PARTITION))
        return log.low, log.stable if self._committed_only else log.high

    def poll(self, timeout: float = 0) -> None:
        self.world.sleep(timeout)
        self._serve()

    def consume(self, count: int, timeout: float = 0) -> list[Message]:
        if self.within_callback:
            raise ViolationError("a request inside of a rebalance callback")
        self.world.pause()
        self._serve()
        found = self._fetch(count)
        if not found and timeout > 0:
            self.world.sleep(timeout * self.world.dice.uniform(1, 8) * self.world.idle)
            self._serve()
            found = self._fetch(count)
        return found

    def _fetch(self, count: int) -> list[Message]:
        if self.broker.silent_until > self.world.now:
            return []
        found: list[Message] = []
        places = sorted(at for at in self._positions if at not in self._paused and at not in self._out)
        self.world.dice.shuffle(places)
        for at in places:
            log = self.broker.log(*at)
            room = count - len(found)
            if log is not None and room > 0:
                found += self._fetch_from(log, at, min(room, self.world.dice.choice((1, 3, 20, 1000))))
        return found[:count]

    def _fetch_from(self, log: Log, at: tuple[str, int], room: int) -> list[Message]:
        position = self._positions[at]
        if not log.low <= position <= log.high:
            self._out.add(at)
            return [_event(at, position, KafkaError._AUTO_OFFSET_RESET)]
        found: list[Message] = []
        for entry in log.read(position, self._committed_only):
            if len(found) == room:
                return found
            found.append(
                Message(
                    topic=at[0],
                    partition=at[1],
                    offset=entry.offset,
                    key=entry.key,
                    value=entry.value,
                    headers=entry.headers,
                    timestamp=(1, entry.at_ms),
                )
            )
            self._positions[at] = entry.offset + 1
        end = self._positions[at] = max(self._positions[at], log.stable if self._committed_only else log.high)
        if self._told_end.get(at) != end and len(found) < room:
            self._told_end[at] = end
            found.append(_event(at, end, KafkaError._PARTITION_EOF))
        return found

    def close(self) -> None:
        if self.process.dead:
            raise Killed
        if self._member is not None:
            if self._member.has and not self._member.expired:
                gone = [TopicPartition(self._topic, number) for number in sorted(self._member.has)]
                self._callbacks["on_revoke"](self, gone)
            self._group.leave(self._member)
            self._member = None


def _event(at: tuple[str, int], offset: int, code: int) -> Message:
    return Message(topic=at[0], partition=at[1], offset=offset, error=KafkaError(code, "event", False, False))


class Producer(Client):
    """A transactional producer."""

    def __init__(self, broker: Broker, config: dict[str, Any]) -> None:
        super().__init__(broker)
        self.id = str(config.get("transactional.id", ""))
        self._epoch = -1
        self._buffer: list[tuple[str, int, bytes | None, bytes, Headers]] = []
        self._answers: list[KafkaError | None] = []

    def __len__(self) -> int:
        return len(self._buffer)

    def init_transactions(self, timeout: float) -> None:
        self.request(timeout)
        self._epoch = self.broker.init(self.id)

    def begin_transaction(self) -> None:
        self._buffer, self._answers = [], []

    def produce(
        self,
        topic: str,
        value: bytes,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Any = None,
    ) -> None:
        at = self.world.dice.randrange(len(self.broker.topics[topic])) if partition is None else partition
        self._buffer.append((topic, at, key, value, headers))
        if self.world.chance(0.02):
            self._send(self.world.dice.randrange(len(self._buffer)))

    def send_offsets_to_transaction(self, offsets: list[TopicPartition], member: Any, timeout: float) -> None:
        if self.world.chance(0.01) and not self.world.calm:
            self.world.count("send_offsets never returns")
            self.world.sleep(HANGS_S)
        self.request(timeout)
        self._send(self.world.dice.randint(0, len(self._buffer)))
        group = next(one for one in self.broker.groups.values() if not one.eager)
        ends = {place.partition: place.offset for place in offsets}
        _raise(self.broker.add_offsets(self.id, self._epoch, group, member, ends))

    def commit_transaction(self, timeout: float) -> None:
        deadline = self.world.now + timeout
        self.request(timeout)
        while self._buffer:
            self._send(self.world.dice.randint(1, len(self._buffer)))
            self.world.pause()
        self._ask_to_end(commit=True)
        while not self._answers:
            if self.world.now >= deadline:
                raise timed_out()
            self.world.sleep(0.05)
        _raise(self._answers[0])

    def abort_transaction(self, timeout: float) -> None:
        self.request(timeout)
        self._buffer.clear()
        _raise(self.broker.end(self.id, self._epoch, False))

    def purge(self) -> None:
        self._buffer.clear()

    def _send(self, count: int) -> None:
        """Let the first `count` records arrive."""
        if self.broker.silent_until > self.world.now:
            self.world.sleep(self.broker.silent_until - self.world.now)
        sent, self._buffer = self._buffer[:count], self._buffer[count:]
        for topic, partition, key, value, headers in sent:
            _raise(self.broker.write(self.id, self._epoch, topic, partition, key, value, headers))

    def _ask_to_end(self, commit: bool) -> None:
        """Send the request; it, or its answer, may arrive late or never."""
        fate = self.world.dice.random()
        if fate < 0.06:
            self.world.count("EndTxn late")
            self.world.later(self.world.dice.uniform(1, 20), lambda: self._end(commit, heard=True))
        elif fate < 0.09:
            self.world.count("EndTxn lost")
        elif fate < 0.13:
            self.world.count("answer to EndTxn lost")
            self._end(commit, heard=False)
        else:
            self.world.pause()
            self._end(commit, heard=True)

    def _end(self, commit: bool, heard: bool) -> None:
        answer = self.broker.end(self.id, self._epoch, commit)
        if heard:
            self._answers.append(answer)


def _raise(error: KafkaError | None) -> None:
    if error is not None:
        raise KafkaException(error)
