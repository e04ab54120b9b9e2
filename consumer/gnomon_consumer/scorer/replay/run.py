"""One run of a replay: another deployment's shadow log, window by window, written as a new deployment."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace

from confluent_kafka import Consumer, Message, TopicPartition

from gnomon_consumer.kafka import log_reading
from gnomon_consumer.runtime.logging import get_logger
from gnomon_consumer.scorer.intake.resume import Resumption
from gnomon_consumer.scorer.intake.shadow_tail import ShadowLog, Tail, check_identity
from gnomon_consumer.scorer.options import Options
from gnomon_consumer.scorer.replay.recorded_window import RecordedWindow, recorded_windows, sealed
from gnomon_consumer.scorer.sampling.open_window import AssignmentToken
from gnomon_consumer.scorer.sealed.in_flight import WindowsInFlight
from gnomon_consumer.scorer.sealed.sealer import Sealer
from gnomon_consumer.scorer.sealed.transaction import Uncertain, WindowTransaction
from gnomon_consumer.scorer.sealed.window import Tick
from gnomon_consumer.settings import Settings
from gnomon_schemas.errors import ConfigurationError, DependencyUnreachableError
from gnomon_schemas.topics import Topics

COMMIT_SECONDS = 0.5
Captures = dict[int, tuple[bytes, bytes]]
log = get_logger("replay")


@dataclass(kw_only=True)
class ReplaySummary:
    """Counts of written windows, of rows by bucket of the ledger, and of captures in windows that no longer exist."""

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


@dataclass(slots=True, kw_only=True, eq=False)
class ReplayRun:
    """The parts of a running replay. `theirs` is the shadow log to follow, `own` the one to write.

    `live` reads the captures; `clock` gives seconds, `now_us` the wall clock in epoch microseconds.
    """

    settings: Settings
    options: Options
    names: Topics
    like: str
    theirs: ShadowLog
    own: ShadowLog
    live: Consumer
    sealer: Sealer
    in_flight: WindowsInFlight
    transaction: WindowTransaction
    starts: Resumption
    stopping: Callable[[], bool]
    clock: Callable[[], float]
    now_us: Callable[[], int]
    done: ReplaySummary = field(default_factory=ReplaySummary)
    _committed_at: float = 0.0

    def follow(self, partition: int) -> None:
        """Replay one partition up to the current end of the other's shadow log; raise GnomonError."""
        tail = self.own.tail(partition, self.stopping)
        position: int | None = None
        low, _ = log_reading.watermarks(self.settings, self.live, TopicPartition(self.names.live, partition))
        reader = _Reader(self.settings, self.live, TopicPartition(self.names.live, partition))
        for window in recorded_windows(self.theirs.records(partition)):
            if self.stopping():
                return
            if position is None:
                if tail.start is None and (not window.whole or window.start < low):
                    continue  # windows that retention had removed before this deployment began do not belong to it
                position = self._begin(partition, window, tail)
            if window.end <= position:
                continue
            if window.start < position:
                raise ConfigurationError(
                    f"{self.options.deployment} ends at offset {position} of partition {partition}, inside a window of"
                    f" {self.like}: it was not written by this replay; use another --deployment name"
                )
            if window.start > position:
                self._append(self._gap(window, position, window.start))
            captures = self._captures(window, reader)
            self._append(self._tick(window, captures) if captures is not None else self._gap(window))
            position = window.end
        while self.in_flight and not self.stopping():
            self._step(wait=0.05)
        self._commit()
        log.info("replayed", partition=partition, **asdict(self.done))

    def _begin(self, partition: int, first: RecordedWindow, tail: Tail) -> int:
        """Return the offset at which this deployment continues; write the first record of a partition without one."""
        topic = self.names.shadow(self.options.deployment)
        start = first.start if tail.start is None else tail.start.start_offset
        wanted = self.starts.start_record(partition, start)
        wanted = replace(wanted, seed=first.seal.seed, policy=first.seal.policy)
        if tail.start is not None:
            check_identity(wanted, tail.start, topic)
        elif tail.expired:
            raise ConfigurationError(f"{topic} [{partition}]: its beginning has expired; use another name")
        else:
            self._certainly(lambda: self.transaction.start([wanted], None))
        return start if tail.end_offset is None else tail.end_offset

    def _captures(self, window: RecordedWindow, reader: "_Reader") -> Captures | None:
        """Return the captures that a window sampled; None if some no longer exist."""
        wanted = {row["source_offset"]: row["request_id"] for row in window.rows}
        if not window.whole:
            return None
        if not wanted:
            return {}
        found: Captures = {}
        for offset, key, value in reader.between(min(wanted), max(wanted) + 1):
            if offset in wanted:
                if key.decode("utf-8", "replace") != wanted[offset]:
                    place = f"{self.names.live} [{window.seal.source_partition}] offset {offset}"
                    raise ConfigurationError(
                        f"{place} is not the request that {self.like} scored: the topic was re-created since"
                    )
                found[offset] = key, value
        return found if len(found) == len(wanted) else None

    # --- windows in flight ----------------------------------------------------------------------------------------

    def _tick(self, window: RecordedWindow, captures: Captures) -> Tick:
        seal = window.seal
        one = sealed(
            window,
            captures,
            self.now_us(),
            probe_rows=self.settings.score.probe_rows,
            allocation=self.settings.score.allocation,
        )
        return Tick(windows=[one], deadline=float("inf"), seed=seal.seed, policy=seal.policy, tick_id=seal.tick_id)

    def _gap(self, window: RecordedWindow, start: int | None = None, end: int | None = None) -> Tick:
        """Return a gap for a window, or for the offsets before it, that can no longer be scored."""
        owner = AssignmentToken(window.seal.source_partition)
        first, last = window.start if start is None else start, window.end if end is None else end
        log.error("gap", partition=owner.partition, start=first, end=last, reason="truncated")
        tick = self.sealer.gap(owner, first, last, "truncated", self.clock())
        return replace(tick, seed=window.seal.seed, policy=window.seal.policy)

    def _append(self, tick: Tick) -> None:
        """Queue a window; wait while the workers are busy enough."""
        self.in_flight.append(tick)
        self._step(wait=0.0)
        score = self.settings.score
        while self.in_flight.queued > 2 * score.batch_rows * score.workers and not self.stopping():
            self._step(wait=0.05)

    def _step(self, wait: float) -> None:
        self.in_flight.step(self.clock(), wait)
        if self.clock() - self._committed_at > COMMIT_SECONDS:
            self._commit()

    def _commit(self) -> None:
        self._committed_at = self.clock()
        ready = self.in_flight.pop_complete(lambda _: True, self.transaction.largest_message)
        if not ready:
            return
        self._certainly(lambda: self.transaction.commit(ready, None))
        for window in (window for tick in ready for window in tick.windows):
            self.done.windows += 1
            self.done.lost += window.lost
            for bucket, rows in asdict(window.sample.tally()).items():
                setattr(self.done, bucket, getattr(self.done, bucket) + rows)

    def _certainly(self, write: Callable[[], None]) -> None:
        try:
            write()
        except Uncertain as reason:
            raise DependencyUnreachableError(
                f"it is not certain what was written ({reason}); run it again: it continues where the shadow log ends"
            ) from None


class _Reader:
    """A partition of the live log, read once from front to back; `between` must be called with ascending ranges."""

    def __init__(self, settings: Settings, consumer: Consumer, source: TopicPartition) -> None:
        self._settings = settings
        self._consumer = consumer
        self._source = source
        self._messages: Iterator[Message] | None = None
        self._next: Message | None = None

    def between(self, start: int, end: int) -> Iterator[tuple[int, bytes, bytes]]:
        """Return offset, key and value of the existing messages in [start, end)."""
        if self._messages is None:
            first = TopicPartition(self._source.topic, self._source.partition, start)
            self._messages = log_reading.read(self._settings, self._consumer, first, 2**63 - 1)
            self._next = next(self._messages, None)
        while self._next is not None and (offset := self._next.offset() or 0) < end:
            if offset >= start:
                key, value = self._next.key(), self._next.value()
                yield offset, key if isinstance(key, bytes) else b"", value if isinstance(value, bytes) else b""
            self._next = next(self._messages, None)
