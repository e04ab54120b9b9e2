"""The scorer's loop: drain, sample, seal, score, commit. One thread; workers are asked and never waited for."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from gnomon_consumer import kafka
from gnomon_consumer.logs import get_logger
from gnomon_consumer.metrics import Pulse, ScorerMetrics, observed
from gnomon_consumer.scorer.assignment import Assignment
from gnomon_consumer.scorer.gate import SchemaGate
from gnomon_consumer.scorer.jobs import Finished
from gnomon_consumer.scorer.live import StartAt
from gnomon_consumer.scorer.options import Options
from gnomon_consumer.scorer.outcomes import STATUSES, Scored, undecoded
from gnomon_consumer.scorer.pool import Pool
from gnomon_consumer.scorer.rehearsal import WARM_UP_ROWS, captures, check_golden, read_examples, rehearse, synthetic
from gnomon_consumer.scorer.sandbox import Limits
from gnomon_consumer.scorer.sealer import Sealer
from gnomon_consumer.scorer.shadowlog import ShadowLog
from gnomon_consumer.scorer.tick import SealedWindow, Tick, policy_hash
from gnomon_consumer.scorer.window import Ownership
from gnomon_consumer.scorer.writer import Uncertain, Writer
from gnomon_consumer.settings import Settings
from gnomon_schemas.errors import ConfigurationError, DependencyUnreachableError, GnomonError
from gnomon_schemas.features import FeatureSchema
from gnomon_schemas.records import CloseReason, Failure, FailureKind
from gnomon_schemas.registry import registry_schemas
from gnomon_schemas.schema import Schema
from gnomon_schemas.store import TopicSchemas
from gnomon_schemas.topics import Topics

CONSUME = 1000
DRAIN_SECONDS = 5.0  # how long a stop waits for outcomes
_BUSY_POLL, _IDLE_POLL = 0.01, 0.05
_RETRY_SECONDS = 1.0
_PASSING = (
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._PARTITION_EOF,
    KafkaError._TIMED_OUT,
    KafkaError._RESOLVE,
)
log = get_logger("score")


class PoisonError(GnomonError):
    """Too many captures cannot be read: the producers, or the schemas, are broken."""


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
    _ticks: deque[Tick] = field(default_factory=deque)
    _poison: deque[float] = field(default_factory=deque)
    _pending: set[int] = field(default_factory=set)  # assigned to us, but the broker did not answer yet
    _retry_at: float = 0.0
    _error: GnomonError | None = None
    _idle_since: float | None = None
    committed_windows: int = 0
    committed_rows: int = 0

    def __post_init__(self) -> None:
        settings, options = self.settings, self.options
        self._names = Topics(settings.require_stream(), settings.topic_prefix)
        self._policy = policy_hash(settings.score, options.no_sampling)
        self.metrics = ScorerMetrics(self._names.stream, options.deployment)
        self._pulse = Pulse(self.clock)
        self._assignment = Assignment(settings, options, self._names, self._policy, self.stopping, self.now_us)

    # --- life ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Score until stopped; raises GnomonError."""
        self._assignment.prepare(kafka.list_topics(self.settings))
        with observed(self.options.metrics, self.metrics, self._pulse, lambda: bool(self._owned), log):
            self._live()

    def _live(self) -> None:
        names, deployment, score = self._names, self.options.deployment, self.settings.score
        network = self.options.allow_network or self.options.model.kind == "server"
        limits = Limits(score.memory_bytes, network=network)
        self._pool = Pool(score.workers, self.options.model, limits, score.call_seconds, self.clock, self.now_us)
        store = TopicSchemas(
            kafka.client_config(self.settings), names.schemas, timeout_s=self.settings.kafka.timeout_seconds
        )
        registry = registry_schemas(self.settings.kafka.properties)
        self._gate = SchemaGate(store, registry, self._pool, names.schemas)
        self._writer = Writer(self.settings, names, deployment, self.options.member, self.clock, self.stopping)
        self._shadow = ShadowLog(self.settings, names.shadow(deployment), self.clock)
        group = f"{names.prefix}.{names.stream}.score.{deployment}"
        self._consumer = kafka.make_consumer(self.settings, group, _strategy(self.settings))
        try:
            live = self._gate.wait(self.stopping)
            if live is not None:
                self._pool.start(live, self.stopping)
                self._rehearse(live)
                self._score()
        finally:
            self._pool.close()
            self._writer.close()
            self._consumer.close()
            self._shadow.close()
            store.close()
            log.info("stopped", windows=self.committed_windows, rows=self.committed_rows)

    def _rehearse(self, live: Schema) -> None:
        """Compare with golden answers, then warm the workers up and measure them."""
        batch = self.settings.score.batch_rows
        if self.options.golden is not None:
            source = self.options.golden
            examples = read_examples(source)
            found, _ = rehearse(self._pool, captures(live, examples, source), batch, self.stopping)
            if len(found) == len(examples):
                largest = check_golden(examples, found, self.options.tolerance, source)
                log.info("golden", rows=len(examples), largest_difference=largest)
        if isinstance(self.options.warm_up, int):
            examples = synthetic(FeatureSchema.in_live(live).features, self.options.warm_up or WARM_UP_ROWS)
        else:
            examples = read_examples(self.options.warm_up)
        rows = captures(live, examples)
        for _ in range(2):  # the second time counts
            _, rate = rehearse(self._pool, rows, batch, self.stopping)
        rate = max(rate, 1.0) * self.settings.score.workers
        log.info("warmed up", rows=len(rows), rows_per_second=round(rate))
        self._sealer = Sealer(self.settings.score, rate, self.options.no_sampling, self.clock(), self.now_us)

    def _score(self) -> None:
        if self.stopping():
            return
        self._writer.open()
        callbacks = {"on_assign": self._on_assign, "on_revoke": self._on_revoke, "on_lost": self._on_revoke}
        self._consumer.subscribe([self._names.live], **callbacks)
        model = self.options.model
        log.info(
            "scoring",
            deployment=self.options.deployment,
            role=self.options.role,
            model=model.name,
            sha256=model.sha256[:12],
            sandbox=dict(self._pool.sandbox),
        )
        while not self.stopping():
            timeout = _BUSY_POLL if self._ticks else _IDLE_POLL
            # One at a time keeps this member in its group.
            count = 1 if self._sealer.is_full(self._queued) else CONSUME
            messages = self._consumer.consume(count, timeout=timeout)
            if self._error is not None:
                raise self._error
            if messages:
                self._drain(messages)
            if self._pending and self.clock() >= self._retry_at:
                self._resume_pending()
            self._turn()
            self._skip_backlog()
            if self._is_idle(bool(messages)):
                log.info("idle", seconds=self.options.exit_when_idle)
                return
        self._finish()

    def _turn(self) -> None:
        self._pulse.turn()
        now = self.clock()
        reason = self._sealer.due(now, idle=self._pool.idle and all(tick.dispatched for tick in self._ticks))
        if reason is not None:
            self._seal(reason, now)
        self._dispatch(now)
        for finished in self._pool.poll(wait=_BUSY_POLL if self._sealer.is_full(self._queued) else 0.0):
            self._take(finished)
        self._time_out(now)
        self._commit()

    @property
    def _queued(self) -> int:
        """Sampled rows that have no outcome yet."""
        return sum(tick.open_rows for tick in self._ticks)

    def _is_idle(self, got: bool) -> bool:
        limit = self.options.exit_when_idle
        if limit is None:
            return False
        if got or self._ticks or self._sealer.open or not self._owned or not self._at_end():
            self._idle_since = None
            return False
        self._idle_since = self._idle_since or self.clock()
        return self.clock() - self._idle_since >= limit

    def _at_end(self) -> bool:
        for partition, owned in self._owned.items():
            _, high = self._watermarks(partition)
            if owned.next_offset < high:
                return False
        return True

    def _watermarks(self, partition: int) -> tuple[int, int]:
        place = TopicPartition(self._names.live, partition)
        try:
            low, high = self._consumer.get_watermark_offsets(place, timeout=self.settings.kafka.timeout_seconds)
        except KafkaException as error:
            raise kafka.unreachable(self.settings, error) from None
        return low, high

    def _finish(self) -> None:
        """Stopped: seal what is open if the workers can still do it, commit what is complete, abandon the rest."""
        deadline = self.clock() + DRAIN_SECONDS
        if self._sealer.open:
            self._seal("shutdown", self.clock())
        while self._ticks and self.clock() < deadline:
            self._dispatch(self.clock())
            for finished in self._pool.poll(wait=0.05):
                self._take(finished)
            self._commit()
        if self._ticks:
            log.warning("abandoned", windows=sum(len(tick.windows) for tick in self._ticks))

    # --- drain --------------------------------------------------------------------------------------------------

    def _drain(self, messages: Sequence[Message]) -> None:
        now = self.clock()
        events = any(map(Message.error, messages))
        for key, group in groupby(messages, _event_or_partition if events else Message.partition):
            run = list(group)
            if key is None:
                for message in run:
                    self._on_error(message)
            else:
                self._take_run(key, run, now)

    def _take_run(self, partition: int, run: Sequence[Message], now: float) -> None:
        """Captures of one partition; what is skipped between them is a gap."""
        owned = self._owned.get(partition)
        if owned is None:
            return
        offsets: list[int] = list(map(Message.offset, run))  # type: ignore[arg-type]  # captures have one
        at = 0
        while at < len(run):
            offset = offsets[at]
            if offset < owned.next_offset:
                at += 1
                continue
            if offset > owned.next_offset:
                self._gap(owned, offset, "hole")
            whole = offsets[at:] == list(range(offset, offset + len(run) - at))
            end = len(run) if whole else at + 1
            self._sealer.add(owned.owner, offset, run[at:end], now)
            owned.next_offset = offset + end - at
            at = end
        self._sealer.position_lag = max(0.0, self.now_us() / 1e6 - run[-1].timestamp()[1] / 1e3)
        self.metrics.position_lag.set(self._sealer.position_lag)

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
        partition = owned.owner.partition
        low, high = self._watermarks(partition)
        if not low > owned.next_offset:
            raise ConfigurationError(
                f"{self._names.live} [{partition}] ends at {high}, before offset {owned.next_offset} that is due:"
                " the topic was re-created or its broker reset; start another --deployment"
            )
        self._gap(owned, low, "truncated")
        self._read_on(owned)

    def _skip_backlog(self) -> None:
        """Further behind than allowed (more arrives than can be read): what is older than half of that is a gap.

        Half, so that a scorer that stays overloaded skips now and then, and not at every poll.
        """
        limit = self.settings.score.skip_behind_seconds
        if not 0 < limit < self._sealer.position_lag:
            return
        oldest = StartAt("time", self.now_us() // 1000 - round(500 * limit))
        for partition, owned in self._owned.items():
            try:
                start = oldest.offset(self._consumer, self._names.live, partition, self.settings.kafka.timeout_seconds)
            except KafkaException as error:
                log.warning("nothing is skipped", reason=str(error))
                return
            if start > owned.next_offset:
                self._gap(owned, start, "overload")
                self._read_on(owned)
        self._sealer.position_lag = 0.0  # the next capture tells

    def _read_on(self, owned: _Owned) -> None:
        """Read at the offset that is due now."""
        place = TopicPartition(self._names.live, owned.owner.partition, owned.next_offset)
        self._consumer.incremental_unassign([TopicPartition(place.topic, place.partition)])
        self._consumer.incremental_assign([place])

    def _gap(self, owned: _Owned, until: int, reason: str) -> None:
        """Record that [due, until) can never be read, as a window of its own, in order."""
        now = self.clock()
        if owned.owner.partition in self._sealer.open:
            self._seal("idle", now)
        log.error("gap", partition=owned.owner.partition, start=owned.next_offset, end=until, reason=reason)
        self._ticks.append(self._sealer.gap(owned.owner, owned.next_offset, until, reason, now))
        owned.next_offset = until

    # --- seal and score -----------------------------------------------------------------------------------------

    def _seal(self, reason: CloseReason, now: float) -> None:
        before = self._sealer.breaker.state
        self._ticks.append(self._sealer.seal(reason, now, self._queued))
        self._tell_breaker(before)

    def _tell_breaker(self, before: str) -> None:
        state = self._sealer.breaker.state
        if state != before:
            log.warning("circuit breaker", state=state, before=before)
        self.metrics.breaker.set(state == "open")

    def _dispatch(self, now: float) -> None:
        """Hand sealed windows to the workers, in order, once the schemas that they need are known."""
        score = self.settings.score
        # A batch takes a tenth of what a call may take at most, however slow the model is.
        within = self._sealer.rate.rows_per_second / score.workers * score.call_seconds / 10
        batch = max(1, min(score.batch_rows, int(within)))
        for tick in self._ticks:
            for window in tick.windows:
                if window.dispatched:
                    continue
                if not self._gate.ready(window.rows.values, now):
                    return
                window.dispatched = True
                for job in window.jobs(score.probe_rows, batch):
                    self._pool.submit(job)

    def _take(self, finished: Finished) -> None:
        for tick in self._ticks:
            for window in tick.windows:
                if window.window_id == finished.job.window_id:
                    window.take(finished)
                    self._sealer.observe(finished)
                    return

    def _time_out(self, now: float) -> None:
        """Rows that have no outcome at their deadline are timed out; whoever still works on them is killed."""
        model = self.options.model.artefact
        failure = Failure(
            FailureKind.TIMEOUT, f"not scored within {self.settings.score.deadline_seconds:g} s of its window's seal"
        )
        for tick in self._ticks:
            if now < tick.deadline or tick.complete:
                continue
            late = [window for window in tick.windows if not window.complete]
            self._pool.cancel({window.window_id for window in late})
            for window in late:
                for place in window.missing:
                    message = undecoded(window.rows[place], window.window_id, model, failure, self.now_us())
                    window.put(place, Scored("timed_out", message))

    # --- commit -------------------------------------------------------------------------------------------------

    def _commit(self) -> None:
        """Write the complete ticks at the head of the queue, in order."""
        if not self._consumer.memberid():
            return  # the group has dropped us, its callback comes with the next poll: until then we may write nothing
        ready: list[Tick] = []
        while self._ticks and self._ticks[0].complete:
            tick = self._ticks.popleft()
            tick.windows = [window for window in tick.windows if self._is_owned(window.owner)]
            if tick.windows:
                ready.append(tick)
        if not ready:
            return
        try:
            self._writer.commit(ready, self.settings.score.seed, self._policy, self._consumer)
        except (Uncertain, DependencyUnreachableError) as reason:
            log.warning("positions are read again", reason=str(reason))
            self.metrics.uncertain.inc()
            self._reposition()
            return
        for tick in ready:
            self._count(tick)

    def _count(self, tick: Tick) -> None:
        now = self.clock()
        before = self._sealer.breaker.state
        seen = sampled = dead = failed = 0
        for window in tick.windows:
            tally = window.tally()
            self.committed_windows += 1
            seen += sum(cell.seen for cell in window.cells)
            sampled += len(window.rows)
            dead += tally.dead_lettered
            failed += tally.failed + tally.timed_out
            self.metrics.windows(window.reason).inc()
            self.metrics.gaps.inc(window.gap.lost if window.gap else 0)
            self.metrics.delay.observe(max(0.0, (self.now_us() - window.opened_at) / 1e6))
            for status in STATUSES:
                self.metrics.outcomes(status).inc(getattr(tally, status))
        self.committed_rows += sampled
        self.metrics.seen.inc(seen)
        self.metrics.sampled_out.inc(seen - sampled)
        if seen:
            self.metrics.fraction.set(sampled / seen)
        self.metrics.restarts.set(self._pool.restarts)
        self.metrics.rate.set(self._sealer.rate.rows_per_second)
        self.metrics.committed_lag.set(sum(window.seen for window in self._sealer.open.values()))
        self._sealer.breaker.observe(sampled - dead - failed, failed, now)
        self._tell_breaker(before)
        self._count_poison(dead, tick.windows[-1], now)

    def _count_poison(self, dead: int, window: SealedWindow, now: float) -> None:
        self._poison.extend([now] * dead)
        while self._poison and now - self._poison[0] > 60.0:
            self._poison.popleft()
        if len(self._poison) >= self.settings.score.poison_limit:
            raise PoisonError(
                f"{len(self._poison)} captures within a minute cannot be read (the last window ends at"
                f" {self._names.live} [{window.owner.partition}] offset {window.end}); see {self._names.dead_letters}"
            )

    # --- assignment ---------------------------------------------------------------------------------------------

    def _is_owned(self, owner: Ownership) -> bool:
        owned = self._owned.get(owner.partition)
        return owned is not None and owned.owner is owner

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Find where each partition goes on, before the first message of it."""
        try:
            if partitions:
                self._resume(consumer, [one.partition for one in partitions])
        except (DependencyUnreachableError, KafkaException) as error:
            consumer.incremental_assign([])  # the partitions are ours, but nothing is read before their place is known
            self._wait_for_broker({one.partition for one in partitions}, error)
        except GnomonError as error:
            self._error = error  # raised in the loop: an exception in a callback of librdkafka's would be lost

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """A partition takes its own windows with it, open and sealed; the others go on."""
        if self._pending & {one.partition for one in partitions}:
            # Without this call all of them would be given back, those too that were never assigned to librdkafka.
            consumer.incremental_unassign([one for one in partitions if one.partition not in self._pending])
            self._pending -= {one.partition for one in partitions}
        for one in partitions:
            self._owned.pop(one.partition, None)
            self._sealer.open.pop(one.partition, None)
        windows = [window for tick in self._ticks for window in tick.windows]
        gone = {window.window_id for window in windows if not self._is_owned(window.owner)}
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
        self._sealer.open.clear()
        self._owned.clear()
        if held:
            self._consumer.incremental_unassign([TopicPartition(self._names.live, partition) for partition in held])
            self._pending |= set(held)
            self._resume_pending()

    def _resume_pending(self) -> None:
        """Go on where the shadow log ends, as soon as the broker says where that is; the group is polled meanwhile."""
        pending = sorted(self._pending)
        try:
            self._resume(self._consumer, pending)
            self._pending -= set(pending)
        except (DependencyUnreachableError, KafkaException) as error:
            self._wait_for_broker(set(pending), error)

    def _wait_for_broker(self, partitions: set[int], error: Exception) -> None:
        self._pending |= partitions
        self._retry_at = self.clock() + _RETRY_SECONDS
        log.warning("waiting for the broker", partitions=sorted(self._pending), reason=str(error))

    def _resume(self, consumer: Consumer, partitions: list[int]) -> None:
        offsets = self._assignment.resume(consumer, partitions, self._shadow, self._writer)
        for partition, offset in offsets.items():
            self._owned[partition] = _Owned(Ownership(partition), offset)
        places = [TopicPartition(self._names.live, partition, offset) for partition, offset in offsets.items()]
        consumer.incremental_assign(places)
        log.info("assigned", offsets={str(partition): offset for partition, offset in sorted(offsets.items())})


def _event_or_partition(message: Message) -> int | None:
    return message.partition() if message.error() is None else None


def _strategy(settings: Settings) -> dict[str, Any]:
    """Cooperative rebalancing; the newer group protocol has it built in and refuses the property."""
    if settings.kafka.properties.get("group.protocol", "classic").lower() == "consumer":
        return {}
    return {"partition.assignment.strategy": "cooperative-sticky"}
