"""Windows in flight: sealed, at the workers, and complete when every sampled row has its outcome; kept in order."""

from collections import deque
from collections.abc import Callable

from gnomon_consumer.logs import get_logger
from gnomon_consumer.scorer.gate import SchemaGate
from gnomon_consumer.scorer.jobs import Finished
from gnomon_consumer.scorer.outcomes import Scored, undecoded
from gnomon_consumer.scorer.partitions import Owned
from gnomon_consumer.scorer.pool import Pool
from gnomon_consumer.scorer.sealer import Sealer
from gnomon_consumer.scorer.tick import Tick
from gnomon_consumer.scorer.window import Ownership
from gnomon_consumer.settings import ScoreSettings
from gnomon_schemas.records import Artefact, CloseReason, Failure, FailureKind

log = get_logger("score")


class Flight:
    """The ticks between seal and commit. The scorer's thread asks the workers and never waits for one."""

    def __init__(
        self,
        sealer: Sealer,
        pool: Pool,
        gate: SchemaGate,
        settings: ScoreSettings,
        model: Artefact,
        now_us: Callable[[], int],
    ) -> None:
        self._sealer = sealer
        self._pool = pool
        self._gate = gate
        self._settings = settings
        self._model = model
        self._now_us = now_us
        self._ticks: deque[Tick] = deque()

    def __bool__(self) -> bool:
        return bool(self._ticks)

    @property
    def queued(self) -> int:
        """Sampled rows that have no outcome yet."""
        return sum(tick.open_rows for tick in self._ticks)

    @property
    def busy(self) -> bool:
        """Whether any row is at a worker, or waits for one."""
        return self._pool.busy

    @property
    def windows(self) -> int:
        """Sealed windows that are not committed."""
        return sum(len(tick.windows) for tick in self._ticks)

    @property
    def captures(self) -> int:
        """Captures of these windows, sampled or not."""
        return sum(window.end - window.start for tick in self._ticks for window in tick.windows)

    @property
    def idle(self) -> bool:
        """Whether no sealed row waits for a worker."""
        return self._pool.idle and all(tick.dispatched for tick in self._ticks)

    def seal(self, reason: CloseReason, now: float) -> None:
        """Seal all open windows."""
        self._ticks.append(self._sealer.seal(reason, now, self.queued))

    def put(self, tick: Tick) -> None:
        """Take windows that were sealed elsewhere."""
        self._ticks.append(tick)

    def gap(self, owned: Owned, until: int, reason: str, now: float) -> None:
        """Record that [due, until) is never read, as a window of its own, in order."""
        if owned.owner.partition in self._sealer.open:
            self.seal("idle", now)
        log.error("gap", partition=owned.owner.partition, start=owned.next_offset, end=until, reason=reason)
        self._ticks.append(self._sealer.gap(owned.owner, owned.next_offset, until, reason, now))
        owned.next_offset = until

    def turn(self, now: float, wait: float) -> None:
        """Hand out what is sealed, take what is scored, time out what is late; waits `wait` seconds at most."""
        self._dispatch(now)
        for finished in self._pool.poll(wait):
            self._take(finished)
        self._time_out(now)

    @property
    def ready(self) -> bool:
        """Whether there is something to commit."""
        return bool(self._ticks) and self._ticks[0].complete

    def complete(self, owns: Callable[[Ownership], bool]) -> list[Tick]:
        """Take the complete ticks off the head of the queue: those of their windows that are still ours."""
        ready: list[Tick] = []
        while self._ticks and self._ticks[0].complete:
            tick = self._ticks.popleft()
            tick.windows = [window for window in tick.windows if owns(window.owner)]
            if tick.windows:
                ready.append(tick)
        return ready

    def keep(self, owns: Callable[[Ownership], bool]) -> None:
        """Abandon every window, open or sealed, that is no longer ours."""
        self._sealer.keep(owns)
        gone = {window.window_id for tick in self._ticks for window in tick.windows if not owns(window.owner)}
        if not gone:
            return
        self._pool.cancel(gone)
        for tick in self._ticks:
            tick.windows = [window for window in tick.windows if window.window_id not in gone]
        self._ticks = deque(tick for tick in self._ticks if tick.windows)

    def _dispatch(self, now: float) -> None:
        """Hand sealed windows to the workers, in order, once the schemas that they need are known."""
        score = self._settings
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
                for job in window.jobs(score.probe_rows, batch, score.workers):
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
        text = f"not scored within {self._settings.deadline_seconds:g} s of its window's seal"
        failure = Failure(FailureKind.TIMEOUT, text)
        for tick in self._ticks:
            if now < tick.deadline or tick.complete:
                continue
            late = [window for window in tick.windows if not window.complete]
            self._pool.cancel({window.window_id for window in late})
            for window in late:
                for place in window.missing:
                    message = undecoded(window.rows[place], window.window_id, self._model, failure, self._now_us())
                    window.put(place, Scored("timed_out", message))
