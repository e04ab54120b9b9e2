"""`gnomon replay --like`: score exactly what another deployment sampled, with its probabilities, as one of its own.

The other deployment's shadow log says which captures, the live log holds them. What is written is a shadow log like any
other, window for window the other one's, so that joiner, ledger and reports treat it as any other.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import ClusterMetadata

from gnomon_consumer import kafka
from gnomon_consumer.logs import get_logger
from gnomon_consumer.scorer.assignment import Assignment
from gnomon_consumer.scorer.crew import Crew, started
from gnomon_consumer.scorer.flight import Flight
from gnomon_consumer.scorer.frozen import FrozenWindow, frozen, sealed
from gnomon_consumer.scorer.options import Options
from gnomon_consumer.scorer.rehearsal import rehearsed
from gnomon_consumer.scorer.sealer import Sealer
from gnomon_consumer.scorer.shadowlog import ShadowLog, Tail, check_identity
from gnomon_consumer.scorer.tick import Tick
from gnomon_consumer.scorer.window import Ownership
from gnomon_consumer.scorer.writer import Uncertain, Writer
from gnomon_consumer.settings import Settings
from gnomon_schemas.errors import ConfigurationError, DependencyUnreachableError
from gnomon_schemas.topics import Topics

COMMIT_SECONDS = 0.5
Captures = dict[int, tuple[bytes, bytes]]
log = get_logger("replay")


@dataclass
class Replayed:
    """What was written: windows, rows by bucket of the ledger, captures of windows that are gone."""

    windows: int = 0
    scored: int = 0
    failed: int = 0
    timed_out: int = 0
    dead_lettered: int = 0
    lost: int = 0

    def __str__(self) -> str:
        rows = self.scored + self.failed + self.timed_out + self.dead_lettered
        return (
            f"{self.windows} windows, {rows} captures: {self.scored} scored, {self.failed} failed,"
            f" {self.timed_out} timed out, {self.dead_lettered} dead letters; {self.lost} in windows that are gone"
        )


@dataclass
class Replay:
    """One run, from where the deployment's own shadow log ends to where the other's ends now."""

    settings: Settings
    options: Options
    like: str
    stopping: Callable[[], bool]
    clock: Callable[[], float] = time.monotonic
    now_us: Callable[[], int] = lambda: time.time_ns() // 1000

    def __post_init__(self) -> None:
        self._names = Topics(self.settings.require_stream(), self.settings.topic_prefix)
        self._done = Replayed()
        self._committed_at = self.clock()
        # The policy is each window's own.
        self._assignment = Assignment(self.settings, self.options, self._names, "", self.stopping, self.now_us)

    def run(self) -> Replayed:
        """Replay until the end or until stopped; raises GnomonError."""
        settings, options = self.settings, self.options
        if options.deployment == self.like:
            raise ConfigurationError(f"--deployment {self.like} is --like {self.like}: give the replay its own name")
        metadata = kafka.list_topics(settings)
        theirs = metadata.topics.get(self._names.shadow(self.like))
        if theirs is None or theirs.error is not None:
            raise ConfigurationError(f"stream {self._names.stream} has no deployment {self.like} to be --like")
        self._refuse_beside_a_scorer(metadata)
        self._assignment.prepare(metadata)
        with ExitStack() as held:
            crew = held.enter_context(
                started(settings, options.model, self.stopping, options.allow_network, self.clock, self.now_us)
            )
            if crew is not None:
                self._connect(crew, held)
                for partition in sorted(theirs.partitions):
                    self._partition(partition)
        return self._done

    def _refuse_beside_a_scorer(self, metadata: ClusterMetadata) -> None:
        """Two writers of one shadow log would contradict each other; the mock cannot tell."""
        if kafka.is_mock(metadata):
            return
        group = self.options.group(self._names)
        seconds = self.settings.kafka.timeout_seconds
        admin = kafka.make_admin(self.settings)
        try:
            members = admin.describe_consumer_groups([group], request_timeout=seconds)[group].result().members
        except KafkaException as error:
            if kafka.kafka_error(error).code() != KafkaError.GROUP_ID_NOT_FOUND:
                raise kafka.unreachable(self.settings, error) from None
        else:
            if members:
                raise ConfigurationError(
                    f"`gnomon score` runs as {self.options.deployment}: stop it, or use another name"
                )

    def _connect(self, crew: Crew, held: ExitStack) -> None:
        settings, names, deployment = self.settings, self._names, self.options.deployment
        rate = rehearsed(crew.pool, crew.live, self.options, settings.score, self.stopping)
        self._sealer = Sealer(settings.score, rate, True, self.clock(), self.now_us)
        model = self.options.model.artefact
        self._flight = Flight(self._sealer, crew.pool, crew.gate, settings.score, model, self.now_us)
        self._theirs = held.enter_context(closing(ShadowLog(settings, names.shadow(self.like), self.clock)))
        self._own = held.enter_context(closing(ShadowLog(settings, names.shadow(deployment), self.clock)))
        self._live = kafka.make_consumer(settings, defaults={"enable.partition.eof": True})
        held.callback(self._live.close)
        self._writer = Writer(settings, names, deployment, self.options.member, self.clock, self.stopping)
        held.callback(self._writer.close)
        self._writer.open()

    # --- one partition after the other ----------------------------------------------------------------------------

    def _partition(self, partition: int) -> None:
        tail = self._own.tail(partition, self.stopping)
        position: int | None = None
        low, _ = kafka.watermarks(self.settings, self._live, TopicPartition(self._names.live, partition))
        reader = _Reader(self.settings, self._live, TopicPartition(self._names.live, partition))
        for window in frozen(self._theirs.records(partition)):
            if self.stopping():
                return
            if position is None:
                if tail.start is None and (not window.whole or window.start < low):
                    continue  # what retention had removed before this deployment began is none of its windows
                position = self._begin(partition, window, tail)
            if window.end <= position:
                continue
            if window.start < position:
                raise ConfigurationError(
                    f"{self.options.deployment} ends at offset {position} of partition {partition}, inside a window of"
                    f" {self.like}: it was not replayed like it; use another --deployment name"
                )
            if window.start > position:
                self._put(self._gap(window, position, window.start))
            captures = self._captures(window, reader)
            self._put(self._tick(window, captures) if captures is not None else self._gap(window))
            position = window.end
        while self._flight and not self.stopping():
            self._turn(wait=0.05)
        self._commit()
        log.info("replayed", partition=partition, **asdict(self._done))

    def _begin(self, partition: int, first: FrozenWindow, tail: Tail) -> int:
        """Where this deployment goes on; writes the first record of a partition that has none."""
        topic = self._names.shadow(self.options.deployment)
        start = first.start if tail.start is None else tail.start.start_offset
        wanted = self._assignment.start_record(partition, start)
        wanted = replace(wanted, seed=first.seal["seed"], policy=first.seal["policy"])
        if tail.start is not None:
            check_identity(wanted, tail.start, topic)
        elif tail.expired:
            raise ConfigurationError(f"{topic} [{partition}]: retention has removed its beginning; use another name")
        else:
            self._certainly(lambda: self._writer.start([wanted]))
        return start if tail.end_offset is None else tail.end_offset

    def _captures(self, window: FrozenWindow, reader: "_Reader") -> Captures | None:
        """The captures that a window sampled; None where some are gone."""
        wanted = {row["source_offset"]: row["request_id"] for row in window.rows}
        if not window.whole:
            return None
        if not wanted:
            return {}
        found: Captures = {}
        for offset, key, value in reader.between(min(wanted), max(wanted) + 1):
            if offset in wanted:
                if key.decode("utf-8", "replace") != wanted[offset]:
                    place = f"{self._names.live} [{window.seal['source_partition']}] offset {offset}"
                    raise ConfigurationError(
                        f"{place} is not the request that {self.like} scored: the topic was re-created since"
                    )
                found[offset] = key, value
        return found if len(found) == len(wanted) else None

    # --- windows in flight ----------------------------------------------------------------------------------------

    def _tick(self, window: FrozenWindow, captures: Captures) -> Tick:
        seal = window.seal
        one = sealed(window, captures, self.now_us())
        return Tick([one], float("inf"), seal["seed"], seal["policy"], seal["tick_id"])

    def _gap(self, window: FrozenWindow, start: int | None = None, end: int | None = None) -> Tick:
        """A window, or what lies before it, that can be scored no more."""
        owner = Ownership(window.seal["source_partition"])
        first, last = window.start if start is None else start, window.end if end is None else end
        log.error("gap", partition=owner.partition, start=first, end=last, reason="truncated")
        tick = self._sealer.gap(owner, first, last, "truncated", self.clock())
        return replace(tick, seed=window.seal["seed"], policy=window.seal["policy"])

    def _put(self, tick: Tick) -> None:
        """Queue a window; waits while the workers have enough to do."""
        self._flight.put(tick)
        self._turn(wait=0.0)
        score = self.settings.score
        while self._flight.queued > 2 * score.batch_rows * score.workers and not self.stopping():
            self._turn(wait=0.05)

    def _turn(self, wait: float) -> None:
        self._flight.turn(self.clock(), wait)
        if self.clock() - self._committed_at > COMMIT_SECONDS:
            self._commit()

    def _commit(self) -> None:
        self._committed_at = self.clock()
        ready = self._flight.complete(lambda _: True)
        if not ready:
            return
        self._certainly(lambda: self._writer.commit(ready, None))
        for window in (window for tick in ready for window in tick.windows):
            self._done.windows += 1
            self._done.lost += window.gap.lost if window.gap else 0
            for bucket, rows in asdict(window.tally()).items():
                setattr(self._done, bucket, getattr(self._done, bucket) + rows)

    def _certainly(self, write: Callable[[], None]) -> None:
        try:
            write()
        except Uncertain as reason:
            raise DependencyUnreachableError(
                f"it is not certain what was written ({reason}); run this again, it goes on where the shadow log ends"
            ) from None


class _Reader:
    """A partition of the live log, read once from front to back; `between` is asked for ever later ranges."""

    def __init__(self, settings: Settings, consumer: Consumer, place: TopicPartition) -> None:
        self._settings = settings
        self._consumer = consumer
        self._place = place
        self._messages: Iterator[Message] | None = None
        self._next: Message | None = None

    def between(self, start: int, end: int) -> Iterator[tuple[int, bytes, bytes]]:
        """Offset, key and value of what is there of [start, end)."""
        if self._messages is None:
            place = TopicPartition(self._place.topic, self._place.partition, start)
            self._messages = kafka.read(self._settings, self._consumer, place, 2**63 - 1)
            self._next = next(self._messages, None)
        while self._next is not None and (offset := self._next.offset() or 0) < end:
            if offset >= start:
                key, value = self._next.key(), self._next.value()
                yield offset, key if isinstance(key, bytes) else b"", value if isinstance(value, bytes) else b""
            self._next = next(self._messages, None)
