"""The scorer's loop: drain, sample, seal, score, commit. One thread; workers are asked and never waited for."""

import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from gnomon_consumer import kafka, topics
from gnomon_consumer.logs import get_logger
from gnomon_consumer.scorer.breaker import Breaker
from gnomon_consumer.scorer.lag import RateEstimate, SealPolicy, TokenBucket
from gnomon_consumer.scorer.live import StartAt
from gnomon_consumer.scorer.models import ModelSpec
from gnomon_consumer.scorer.outcomes import Row, undecoded
from gnomon_consumer.scorer.pool import Finished, Pool
from gnomon_consumer.scorer.sampler import NO_STRATUM, ranker, seal
from gnomon_consumer.scorer.sandbox import Limits
from gnomon_consumer.scorer.scoring import LIVE, Scored
from gnomon_consumer.scorer.shadowlog import ShadowLog, check_identity
from gnomon_consumer.scorer.tick import SealedWindow, Tick, policy_hash
from gnomon_consumer.scorer.window import Caps, OpenWindow, Ownership
from gnomon_consumer.scorer.writer import Uncertain, Writer
from gnomon_consumer.settings import Settings
from gnomon_schemas.codec import peek
from gnomon_schemas.errors import ConfigurationError, DecodeError, DependencyUnreachableError, GnomonError
from gnomon_schemas.framing import SchemaKey, unframe
from gnomon_schemas.records import CloseReason, DeploymentStart, Failure, FailureKind, Gap, Role
from gnomon_schemas.registry import registry_schemas
from gnomon_schemas.schema import Schema
from gnomon_schemas.store import TopicSchemas
from gnomon_schemas.topics import Topics

CONSUME = 1000
DRAIN_SECONDS = 5.0  # how long a stop waits for outcomes
_BUSY_POLL, _IDLE_POLL = 0.01, 0.05
_REFRESH_SECONDS = 1.0
_RATE_ROWS, _RATE_SECONDS = 64, 0.05  # smaller batches say more about overhead than about the model
log = get_logger("score")


class PoisonError(GnomonError):
    """Too many captures cannot be read: the producers, or the schemas, are broken."""


@dataclass(frozen=True)
class Options:
    """What the command line says beside the settings."""

    deployment: str
    role: Role
    model: ModelSpec
    member: str
    start: StartAt
    no_sampling: bool = False
    allow_network: bool = False
    exit_when_idle: float | None = None


@dataclass(slots=True, eq=False)
class _Owned:
    """A partition of this assignment, and the offset of the capture that is due next."""

    owner: Ownership
    next_offset: int


@dataclass
class Scorer:
    """`gnomon score`. `stopping` is asked often; the clock gives seconds, `now_us` the wall clock."""

    settings: Settings
    options: Options
    stopping: Callable[[], bool]
    clock: Callable[[], float] = time.monotonic
    now_us: Callable[[], int] = lambda: time.time_ns() // 1000
    _owned: dict[int, _Owned] = field(default_factory=dict)
    _open: dict[int, OpenWindow[Message]] = field(default_factory=dict)
    _ticks: deque[Tick] = field(default_factory=deque)
    _error: GnomonError | None = None

    def __post_init__(self) -> None:
        score = self.settings.score
        self._names = Topics(self.settings.require_stream(), self.settings.topic_prefix)
        self._shadow_topic = self._names.shadow(self.options.deployment)
        self._rank = ranker(score.seed)
        self._policy = policy_hash(score, self.options.no_sampling)
        self._seal_policy = SealPolicy(
            score.window_seconds, score.min_window_seconds, score.window_captures, score.window_bytes
        )
        self._caps = Caps(score.reservoir_rows)
        self._breaker = Breaker()
        self._refused: dict[bytes, float] = {}
        self._known: set[bytes] = set()
        self._refreshed_at = -1e9
        self._poison: deque[float] = deque()
        self._position_lag = 0.0
        self._idle_since: float | None = None
        self._opened_at = 0.0
        self.committed_windows = 0
        self.committed_rows = 0

    # --- life ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Score until stopped; raises GnomonError."""
        metadata = kafka.list_topics(self.settings)
        self._cluster_id = str(metadata.cluster_id)
        self._is_mock = kafka.is_mock(metadata)
        self._prepare_topics(metadata)
        self._schemas = TopicSchemas(
            kafka.client_config(self.settings), self._names.schemas, timeout_s=self.settings.kafka.timeout_seconds
        )
        self._registry = registry_schemas(self.settings.kafka.properties)
        self._pool = self._make_pool()
        self._writer = Writer(
            self.settings, self._names, self.options.deployment, self.options.member, self.clock, self.stopping
        )
        self._log = ShadowLog(self.settings, self._shadow_topic, self.clock)
        self._consumer = kafka.make_consumer(
            self.settings,
            f"{self._names.prefix}.{self._names.stream}.score.{self.options.deployment}",
            _strategy(self.settings),
        )
        try:
            live = self._wait_for_schema()
            if live is None:
                return
            self._pool.start(live, self.stopping)
            self._learn(live.fingerprint, live)
            rate = float(self.settings.score.batch_rows * 10 * self.settings.score.workers)
            ceiling = self.settings.score.budget_rows_per_second or float("inf")
            self._rate = RateEstimate(rate, ceiling)
            self._bucket = TokenBucket(
                self.settings.score.efficiency, self.settings.score.window_seconds, min(rate, ceiling), self.clock()
            )
            self._writer.open()
            self._consumer.subscribe(
                [self._names.live], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
            )
            log.info(
                "scoring",
                deployment=self.options.deployment,
                role=self.options.role,
                model=self.options.model.name,
                sha256=self.options.model.sha256[:12],
                sandbox=dict(self._pool.sandbox),
            )
            self._loop()
        finally:
            self._close()

    def _close(self) -> None:
        self._pool.close()
        self._writer.close()
        self._consumer.close()
        self._log.close()
        self._schemas.close()
        log.info("stopped", windows=self.committed_windows, rows=self.committed_rows)

    def _make_pool(self) -> Pool:
        score = self.settings.score
        network = self.options.allow_network or self.options.model.kind == "server"
        limits = Limits(score.memory_bytes, network=network)
        return Pool(score.workers, self.options.model, limits, score.call_seconds, self.clock, self.now_us)

    def _prepare_topics(self, metadata: Any) -> None:
        """The shadow topic must have a partition for each live one, before one is taken."""
        if self._is_mock:
            client = kafka.make_producer(self.settings)
            for name in (self._names.live, self._shadow_topic, self._names.schemas, self._names.dead_letters):
                kafka.list_topics(self.settings, name, client)
            self._topic_id = None
            self._first_partitions = 2**31
            return
        live = metadata.topics.get(self._names.live)
        if live is None or live.error is not None:
            raise ConfigurationError(
                f"the topic {self._names.live} does not exist: run `gnomon topics create --stream"
                f" {self._names.stream} --deployment {self.options.deployment}`"
            )
        # A partition beyond these appeared later, and is scored from its beginning whatever --from says.
        shadow = metadata.topics.get(self._shadow_topic)
        self._first_partitions = len(live.partitions) if shadow is None else len(shadow.partitions)
        self._grow(len(live.partitions))
        self._topic_id = kafka.topic_id(self.settings, self._names.live, metadata)

    def _grow(self, partitions: int) -> None:
        wanted = topics.plan(self._names, partitions, [self.options.deployment])
        shadow = [plan for plan in wanted if plan.name == self._shadow_topic]
        for result in topics.create(self.settings, shadow):
            if result.outcome != "exists":
                log.info("shadow topic", outcome=result.outcome, topic=result.name, partitions=result.partitions)

    def _wait_for_schema(self) -> Schema | None:
        """The newest capture schema of the stream; waits, audibly, while the topic is empty. None when stopped."""
        said = False
        while not self.stopping():
            self._schemas.refresh()
            captures = [schema for schema in self._schemas.live_schemas() if schema.name == LIVE]
            if captures:
                return captures[-1]
            if not said:
                log.info("waiting for the first capture's schema", topic=self._names.schemas)
                said = True
            time.sleep(0.2)
        return None

    def _learn(self, key: SchemaKey, schema: Schema) -> None:
        self._pool.learn(key, schema)
        self._known.add(key.header)

    # --- the loop -----------------------------------------------------------------------------------------------

    def _loop(self) -> None:
        while not self.stopping():
            busy = bool(self._ticks)
            messages = self._consumer.consume(CONSUME, timeout=_BUSY_POLL if busy else _IDLE_POLL)
            if self._error is not None:
                raise self._error
            if messages:
                self._drain(messages)
            self._turn()
            if self._is_idle(bool(messages)):
                log.info("idle", seconds=self.options.exit_when_idle)
                return
        self._finish()

    def _turn(self) -> None:
        now = self.clock()
        self._bucket.refill(now, self._rate.rows_per_second)
        reason = self._due(now)
        if reason is not None:
            self._seal(reason, now)
        self._dispatch(now)
        for finished in self._pool.poll():
            self._take(finished)
        self._time_out(now)
        self._commit()

    def _is_idle(self, got: bool) -> bool:
        limit = self.options.exit_when_idle
        if limit is None:
            return False
        if got or self._ticks or self._open or not self._owned or not self._at_end():
            self._idle_since = None
            return False
        self._idle_since = self._idle_since or self.clock()
        return self.clock() - self._idle_since >= limit

    def _at_end(self) -> bool:
        for partition, owned in self._owned.items():
            _, high = self._consumer.get_watermark_offsets(
                TopicPartition(self._names.live, partition), timeout=self.settings.kafka.timeout_seconds, cached=False
            )
            if owned.next_offset < high:
                return False
        return True

    def _finish(self) -> None:
        """Stopped: seal what is open if the workers can still do it, commit what is complete, abandon the rest."""
        deadline = self.clock() + DRAIN_SECONDS
        now = self.clock()
        if self._open:
            self._bucket.refill(now, self._rate.rows_per_second)
            self._seal("shutdown", now)
        while self._ticks and self.clock() < deadline:
            self._dispatch(self.clock())
            for finished in self._pool.poll(wait=0.05):
                self._take(finished)
            self._commit()
        if self._ticks:
            log.warning("abandoned", windows=sum(len(tick.windows) for tick in self._ticks))

    # --- drain --------------------------------------------------------------------------------------------------

    def _drain(self, messages: Iterable[Message]) -> None:
        last: Message | None = None
        for message in messages:
            if message.error() is not None:
                self._on_error(message)
                continue
            partition, offset = message.partition(), message.offset()
            assert partition is not None
            assert offset is not None
            owned = self._owned.get(partition)
            if owned is None or offset < owned.next_offset:
                continue
            if offset > owned.next_offset:
                self._gap(owned, offset, "hole")
            window = self._open.get(partition)
            if window is None:
                window = self._open_window(owned)
            key = message.key() or b""
            window.add(
                offset,
                key if isinstance(key, bytes) else key.encode(),
                _stratum(message),
                len(message),
                message,
                self._rank,
            )
            owned.next_offset = offset + 1
            last = message
        if last is not None:
            self._position_lag = max(0.0, self.now_us() / 1e6 - last.timestamp()[1] / 1e3)

    def _open_window(self, owned: _Owned) -> OpenWindow[Message]:
        if not self._open:
            self._opened_at = self.clock()
            self._caps = Caps(self.settings.score.reservoir_rows)
        window: OpenWindow[Message] = OpenWindow(
            owned.owner, owned.next_offset, self.now_us(), self._caps, self.settings.score.max_strata
        )
        self._open[owned.owner.partition] = window
        return window

    def _on_error(self, message: Message) -> None:
        error = message.error()
        assert error is not None
        partition = message.partition()
        if error.code() == KafkaError._AUTO_OFFSET_RESET and partition in self._owned:
            self._truncated(self._owned[partition])
        elif error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART or not (error.retriable() or error.code() in _PASSING):
            raise ConfigurationError(f"{self._names.live} cannot be read: {error.str()}")
        else:
            log.warning("kafka", reason=error.str())

    def _truncated(self, owned: _Owned) -> None:
        """The offset that is due is not in the log: recorded as a gap if the log has moved on, refused otherwise."""
        place = TopicPartition(self._names.live, owned.owner.partition)
        low, high = self._consumer.get_watermark_offsets(place, timeout=self.settings.kafka.timeout_seconds)
        if not low > owned.next_offset:
            raise ConfigurationError(
                f"{self._names.live} [{owned.owner.partition}] ends at {high}, before offset {owned.next_offset} that"
                " is due: the topic was re-created or its broker reset; start another --deployment"
            )
        self._gap(owned, low, "truncated")
        self._move(owned)

    def _move(self, owned: _Owned) -> None:
        place = TopicPartition(self._names.live, owned.owner.partition, owned.next_offset)
        self._consumer.incremental_unassign([TopicPartition(self._names.live, owned.owner.partition)])
        self._consumer.incremental_assign([place])

    def _gap(self, owned: _Owned, until: int, reason: str) -> None:
        """Record that [due, until) can never be read, as a window of its own, in order."""
        now = self.clock()
        if owned.owner.partition in self._open:
            self._seal("idle", now)
        lost = until - owned.next_offset
        log.error("gap", partition=owned.owner.partition, start=owned.next_offset, end=until, reason=reason)
        window = self._sealed(owned.owner, owned.next_offset, until, self.now_us(), None, "idle")
        window.gap = Gap(reason, lost)
        self._ticks.append(Tick([window], now + self.settings.score.deadline_seconds))
        owned.next_offset = until

    # --- seal and score -----------------------------------------------------------------------------------------

    def _due(self, now: float) -> CloseReason | None:
        if not self._open:
            return None
        seen = sum(window.seen for window in self._open.values())
        size = sum(window.bytes_seen for window in self._open.values())
        covered = self.options.no_sampling or self._bucket.tokens >= seen
        reason: Any = self._seal_policy.reason(now - self._opened_at, seen, size, not self._ticks, covered)
        result: CloseReason | None = reason
        return result

    def _seal(self, reason: CloseReason, now: float) -> None:
        """Sample all open windows with one budget, and queue them as one tick."""
        tick_id = str(uuid.uuid4())
        queued = sum(tick.open_rows for tick in self._ticks)
        seen = sum(window.seen for window in self._open.values())
        budget = seen if self.options.no_sampling else self._bucket.budget(seen, queued)
        budget = self._breaker.limit(budget, now)
        for window in self._open.values():
            window.shrink()
        sampled = seal(
            {partition: window.strata for partition, window in self._open.items()},
            budget,
            self.settings.score.allocation,
            lambda partition: self._rank(f"{tick_id}/{partition}".encode()),
        )
        tick = Tick([], now + self.settings.score.deadline_seconds, tick_id)
        for partition, window in self._open.items():
            sealed = self._sealed(window.owner, window.start, window.next_offset, window.opened_at, window, reason)
            sealed.fill([_with_rows(cell, partition) for cell in sampled[partition]])
            tick.windows.append(sealed)
        self._bucket.spend(tick.open_rows)
        self._open = {}
        self._ticks.append(tick)

    def _sealed(
        self,
        owner: Ownership,
        start: int,
        end: int,
        opened_at: int,
        window: OpenWindow[Message] | None,
        reason: CloseReason,
    ) -> SealedWindow:
        first = last = None
        if window is not None:
            first, last = _captured_at(window.first), _captured_at(window.last)
        return SealedWindow(
            owner, str(uuid.uuid4()), start, end, opened_at, self.now_us(), first, last, reason, self._position_lag
        )

    def _dispatch(self, now: float) -> None:
        """Hand sealed windows to the workers, once every schema that they need is known or known to be nowhere."""
        for tick in self._ticks:
            for window in tick.windows:
                if window.dispatched:
                    continue
                if not self._find_schemas(window, now):
                    return
                window.dispatched = True
                for job in window.jobs(self.settings.score.probe_rows, self.settings.score.batch_rows):
                    self._pool.submit(job)

    def _find_schemas(self, window: SealedWindow, now: float) -> bool:
        unknown = {}
        for row in window.rows:
            header = row.value[:10] if row.value[:2] == b"\xc3\x01" else row.value[:5]
            if header not in self._known and header not in self._refused and header not in unknown:
                try:
                    unknown[header] = unframe(row.value).key
                except DecodeError:
                    continue  # the worker will say what is wrong with it
        if not unknown:
            return True
        if now - self._refreshed_at < _REFRESH_SECONDS:
            return False
        self._refreshed_at = now
        try:
            self._schemas.refresh()
        except DependencyUnreachableError as error:
            log.warning("schemas", reason=str(error))
            return False
        if len(self._refused) > 10_000:
            self._refused.clear()
        for header, key in unknown.items():
            schema = self._schemas.find(key) or self._registry.find(key)
            if schema is None:
                self._refused[header] = now
            else:
                self._learn(key, schema)
        return True

    def _take(self, finished: Finished) -> None:
        for tick in self._ticks:
            for window in tick.windows:
                if window.window_id == finished.job.window_id:
                    window.take(finished)
                    rows = len(finished.scored)
                    if finished.seconds > 0 and (rows >= _RATE_ROWS or finished.seconds >= _RATE_SECONDS):
                        self._rate.observe(rows * self.settings.score.workers, finished.seconds)
                    return

    def _time_out(self, now: float) -> None:
        """Rows that have no outcome at their deadline are timed out; whoever still works on them is killed."""
        for tick in self._ticks:
            if now < tick.deadline or tick.complete:
                continue
            late = [window for window in tick.windows if not window.complete]
            self._pool.cancel({window.window_id for window in late})
            text = f"not scored within {self.settings.score.deadline_seconds:g} s of its window's seal"
            for window in late:
                for place, outcome in enumerate(window.outcomes):
                    if outcome is None:
                        failure = Failure(FailureKind.TIMEOUT, text)
                        message = undecoded(
                            window.rows[place], window.window_id, self.options.model.artefact, failure, self.now_us()
                        )
                        window.outcomes[place] = Scored("timed_out", message)
                window.open_rows = 0

    # --- commit -------------------------------------------------------------------------------------------------

    def _commit(self) -> None:
        """Write the complete ticks at the head of the queue, in order."""
        ready: list[Tick] = []
        while self._ticks and self._ticks[0].complete:
            tick = self._ticks.popleft()
            tick.windows = [window for window in tick.windows if self._is_owned(window.owner)]
            if tick.windows:
                ready.append(tick)
        if not ready:
            return
        try:
            # A member that the group does not know (yet, or any more) has no right to move its offsets.
            member = bool(self._consumer.memberid())
            self._writer.commit(ready, self.settings.score.seed, self._policy, self._consumer, member)
        except Uncertain as reason:
            log.warning("positions are read again", reason=str(reason))
            self._reposition()
            return
        for tick in ready:
            for window in tick.windows:
                self._count(window)

    def _count(self, window: SealedWindow) -> None:
        statuses = window.statuses()
        self.committed_windows += 1
        self.committed_rows += len(statuses)
        good = statuses.count("scored")
        dead = statuses.count("dead_lettered")
        now = self.clock()
        self._breaker.observe(good, len(statuses) - good - dead, now)
        self._poison.extend([now] * dead)
        while self._poison and now - self._poison[0] > 60.0:
            self._poison.popleft()
        if len(self._poison) >= self.settings.score.poison_limit:
            raise PoisonError(
                f"{len(self._poison)} captures within a minute cannot be read (the last window ends at"
                f" {self._names.live} [{window.owner.partition}] offset {window.end}); see {self._names.dead_letters}"
            )

    def _is_owned(self, owner: Ownership) -> bool:
        owned = self._owned.get(owner.partition)
        return owned is not None and owned.owner is owner

    # --- assignment ---------------------------------------------------------------------------------------------

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Find where each partition goes on, before the first message of it."""
        try:
            if partitions:
                self._resume(consumer, [one.partition for one in partitions])
        except GnomonError as error:
            self._error = error  # raised in the loop: an exception in a callback of librdkafka's would be lost
        except KafkaException as error:
            self._error = kafka.unreachable(self.settings, error)

    def _on_revoke(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        """A partition takes its own windows with it, open and sealed; the others go on."""
        for one in partitions:
            self._owned.pop(one.partition, None)
            self._open.pop(one.partition, None)
        gone = {window.window_id for tick in self._ticks for window in tick.windows if not self._is_owned(window.owner)}
        if gone:
            self._pool.cancel(gone)
            for tick in self._ticks:
                tick.windows = [window for window in tick.windows if window.window_id not in gone]
        if partitions:
            log.info("revoked", partitions=sorted(one.partition for one in partitions))

    def _reposition(self) -> None:
        """After anything ambiguous: forget what is in the air, and go on where the shadow log ends."""
        held = sorted(self._owned)
        self._pool.cancel({window.window_id for tick in self._ticks for window in tick.windows})
        self._ticks.clear()
        self._open.clear()
        self._owned.clear()
        if held:
            self._consumer.incremental_unassign([TopicPartition(self._names.live, partition) for partition in held])
            self._resume(self._consumer, held)

    def _resume(self, consumer: Consumer, partitions: list[int]) -> None:
        self._grow_for(partitions)
        # With a transactional commit still pending, the broker holds this answer back (KIP-447).
        places = [TopicPartition(self._names.live, partition) for partition in partitions]
        committed = {
            one.partition: one.offset for one in consumer.committed(places, timeout=self.settings.kafka.timeout_seconds)
        }
        while not self.stopping():
            try:
                offsets = self._offsets(consumer, partitions, committed)
                break
            except Uncertain as reason:
                log.warning("the start of the shadow log is tried again", reason=str(reason))
        else:
            return
        for partition, offset in offsets.items():
            self._owned[partition] = _Owned(Ownership(partition), offset)
        consumer.incremental_assign(
            [TopicPartition(self._names.live, partition, offset) for partition, offset in offsets.items()]
        )
        log.info("assigned", offsets={str(partition): offset for partition, offset in sorted(offsets.items())})

    def _grow_for(self, partitions: list[int]) -> None:
        if not self._is_mock:
            known = kafka.list_topics(self.settings, self._shadow_topic, self._consumer)
            if max(partitions) >= len(known.topics[self._shadow_topic].partitions):
                self._grow(max(partitions) + 1)

    def _offsets(self, consumer: Consumer, partitions: list[int], committed: dict[int, int]) -> dict[int, int]:
        """Where each partition goes on; writes the first record of those that have none."""
        offsets: dict[int, int] = {}
        starts: list[DeploymentStart] = []
        for partition in partitions:
            tail = self._log.tail(partition, self.stopping)
            if tail.start is not None:
                wanted = self._start_record(partition, tail.start.start_offset)
                check_identity(wanted, tail.start, self._shadow_topic)
            if tail.end_offset is not None:
                offsets[partition] = tail.end_offset
                if committed.get(partition, -1) > tail.end_offset:
                    log.error("committed offset is ahead", partition=partition, committed=committed[partition])
            elif tail.start is not None:
                offsets[partition] = tail.start.start_offset
            elif tail.expired:
                if committed.get(partition, -1) < 0:
                    raise ConfigurationError(
                        f"{self._shadow_topic} [{partition}]: retention has removed every window and the group has no"
                        " offset, so nobody knows where to go on: use another --deployment name"
                    )
                log.warning("resumed from the committed offset", partition=partition, offset=committed[partition])
                offsets[partition] = committed[partition]
            else:
                offset = self._first_offset(consumer, partition)
                offsets[partition] = offset
                starts.append(self._start_record(partition, offset))
        if starts:
            self._writer.start(starts)
        return offsets

    def _first_offset(self, consumer: Consumer, partition: int) -> int:
        start = self.options.start if partition < self._first_partitions else StartAt("earliest")
        return start.offset(consumer, self._names.live, partition, self.settings.kafka.timeout_seconds)

    def _start_record(self, partition: int, offset: int) -> DeploymentStart:
        return DeploymentStart(
            deployment=self.options.deployment,
            role=self.options.role,
            cluster_id=self._cluster_id,
            topic_id=self._topic_id,
            source_partition=partition,
            start_offset=offset,
            model=self.options.model.artefact,
            seed=self.settings.score.seed,
            policy=self._policy,
            started_at=self.now_us(),
        )


_PASSING = (
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._PARTITION_EOF,
    KafkaError._TIMED_OUT,
    KafkaError._RESOLVE,
)


def _strategy(settings: Settings) -> dict[str, Any]:
    """Cooperative rebalancing; the newer group protocol has it built in and refuses the property."""
    if settings.kafka.properties.get("group.protocol", "classic").lower() == "consumer":
        return {}
    return {"partition.assignment.strategy": "cooperative-sticky"}


def _stratum(message: Message) -> str:
    headers: Any = message.headers()
    for name, value in headers or ():
        if name == "stratum" and value:
            return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return NO_STRATUM


def _captured_at(message: Message | None) -> int | None:
    if message is None:
        return None
    try:
        return peek(_bytes(message.value())).captured_at
    except DecodeError:
        return None


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else b"" if value is None else str(value).encode()


def _with_rows(cell: Any, partition: int) -> Any:
    """The sampled messages of a cell as rows: only now are their bytes taken."""
    probability = cell.inclusion_probability
    stratum = None if cell.stratum == NO_STRATUM else cell.stratum
    cell.entries[:] = [
        (rank, key, offset, Row(partition, offset, key, _bytes(message.value()), stratum, rank, probability))
        for rank, key, offset, message in cell.entries
    ]
    return cell
