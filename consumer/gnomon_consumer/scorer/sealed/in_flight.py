"""Windows in flight, in order: sealed, sent to workers, and complete when every sampled row has its outcome."""

from collections import deque
from collections.abc import Callable

from gnomon_consumer.runtime.logging import get_logger
from gnomon_consumer.scorer.outcomes import Scored, status_of
from gnomon_consumer.scorer.pool.jobs import Finished
from gnomon_consumer.scorer.pool.pool import Pool
from gnomon_consumer.scorer.pool.writer_schemas import WriterSchemas
from gnomon_consumer.scorer.sampling.open_window import AssignmentToken
from gnomon_consumer.scorer.sealed.sealer import Sealer
from gnomon_consumer.scorer.sealed.window import SealedWindow, Tick
from gnomon_consumer.scorer.worker.encoding import undecoded
from gnomon_consumer.settings import ScoreSettings
from gnomon_schemas.records import Artefact, CloseReason, Failure, FailureKind

_OF_A_KEY = 4  # a fourth of the largest message: the longest key of an outcome that was replaced because it did not fit
log = get_logger("score")


class WindowsInFlight:
    """The ticks between seal and commit. The scorer's thread asks the workers and never waits for one."""

    def __init__(
        self,
        sealer: Sealer,
        pool: Pool,
        *,
        schemas: WriterSchemas,
        settings: ScoreSettings,
        model: Artefact,
        now_us: Callable[[], int],
    ) -> None:
        self._sealer = sealer
        self._pool = pool
        self._schemas = schemas
        self._settings = settings
        self._model = model
        self._now_us = now_us
        self._ticks: deque[Tick] = deque()

    def __bool__(self) -> bool:
        return bool(self._ticks)

    @property
    def queued(self) -> int:
        """Return the number of sampled rows without an outcome."""
        return sum(tick.open_rows for tick in self._ticks)

    @property
    def busy(self) -> bool:
        """Return whether any row is in a worker, or waits for one."""
        return self._pool.busy

    @property
    def windows(self) -> int:
        """Return the number of sealed windows that are not committed."""
        return sum(len(tick.windows) for tick in self._ticks)

    @property
    def captures(self) -> int:
        """Return the number of captures in these windows, sampled or not."""
        return sum(window.seen for tick in self._ticks for window in tick.windows)

    @property
    def idle(self) -> bool:
        """Return whether no sealed row waits for a worker."""
        return self._pool.idle and all(tick.dispatched for tick in self._ticks)

    def seal(self, reason: CloseReason, now: float) -> None:
        """Seal all open windows."""
        self._ticks.append(self._sealer.seal(reason, now, self.queued))

    def append(self, tick: Tick) -> None:
        """Accept windows that were sealed elsewhere, by a replay."""
        self._ticks.append(tick)

    def gap(self, owner: AssignmentToken, start: int, end: int, reason: str, now: float) -> None:
        """Record that [start, end) is never read, as a separate window, in order."""
        if owner.partition in self._sealer.open:
            self.seal("idle", now)
        log.error("gap", partition=owner.partition, start=start, end=end, reason=reason)
        self._ticks.append(self._sealer.gap(owner, start, end, reason, now))

    def step(self, now: float, wait: float) -> None:
        """Send sealed windows to workers, accept results, time out late rows; wait at most `wait` seconds."""
        self._dispatch(now)
        for finished in self._pool.poll(wait):
            self._store_result(finished)
        self._time_out(now)

    @property
    def ready(self) -> bool:
        """Return whether there is something to commit."""
        return bool(self._ticks) and self._ticks[0].complete

    def pop_complete(self, owns: Callable[[AssignmentToken], bool], largest_message: int) -> list[Tick]:
        """Pop the complete ticks from the head of the queue; return those of their windows that this member owns.

        `largest_message`: the topics' limit in bytes; a larger outcome becomes a failure with that reason.
        """
        ready: list[Tick] = []
        while self._ticks and self._ticks[0].complete:
            tick = self._ticks.popleft()
            tick.windows = [window for window in tick.windows if owns(window.owner)]
            for window in tick.windows:
                self._bound(window, largest_message)
            if tick.windows:
                ready.append(tick)
        return ready

    def drop_unowned(self, owns: Callable[[AssignmentToken], bool]) -> None:
        """Abandon every window, open or sealed, that this member no longer owns."""
        self._sealer.drop_unowned(owns)
        gone = {window.window_id for tick in self._ticks for window in tick.windows if not owns(window.owner)}
        if not gone:
            return
        self._pool.cancel(gone)
        for tick in self._ticks:
            tick.windows = [window for window in tick.windows if window.window_id not in gone]
        self._ticks = deque(tick for tick in self._ticks if tick.windows)

    def _dispatch(self, now: float) -> None:
        """Send sealed windows to the workers, in order, as soon as the schemas that they need are known."""
        score = self._settings
        # A batch takes at most a tenth of the maximum duration of a call, however slow the model is.
        within = self._sealer.rate.rows_per_second / score.workers * score.call_seconds / 10
        batch = max(1, min(score.batch_rows, int(within)))
        for tick in self._ticks:
            for window in tick.windows:
                if window.dispatched:
                    continue
                if not self._schemas.ready(window.sample.rows.values, now):
                    self._postpone_deadlines(now)
                    return
                window.dispatched = True
                for job in window.jobs(batch, score.workers):
                    self._pool.submit(job)

    def _postpone_deadlines(self, now: float) -> None:
        """Postpone the deadlines of rows that wait for their schema: a model's time begins when its rows are sent."""
        for tick in self._ticks:
            if not tick.dispatched:
                tick.deadline = max(tick.deadline, now + self._settings.deadline_seconds)

    def _store_result(self, finished: Finished) -> None:
        for tick in self._ticks:
            for window in tick.windows:
                if window.window_id == finished.job.window_id:
                    window.store(finished)
                    self._sealer.observe(len(finished.scored), finished.seconds, finished.job.single)
                    return

    def _bound(self, window: SealedWindow, limit: int) -> None:
        """Replace outcomes above the topics' limit by failures with that reason; the window stays."""
        sample = window.sample
        for place in sample.larger_than(limit):
            row, size = sample.rows[place], len(sample.messages[place])
            failure = Failure(FailureKind.MODEL_ERROR, f"the outcome has {size} bytes, the topics accept {limit}")
            if place in sample.dead:
                failure = Failure(FailureKind.DEAD_LETTER, ": ".join(sample.dead[place]))
            # An outcome contains the key twice. The joiner refuses a row whose request id was cut, with its address.
            row = row._replace(key=row.key[: limit // _OF_A_KEY])
            message = undecoded(row, window.window_id, self._model, failure, self._now_us())
            sample.replace(place, row.key, Scored(status_of(failure), message))

    def _time_out(self, now: float) -> None:
        """Time out rows without an outcome at their deadline, and kill the workers that still hold them."""
        text = f"not scored within {self._settings.deadline_seconds:g} s of its window's seal"
        failure = Failure(FailureKind.TIMEOUT, text)
        for tick in self._ticks:
            if now < tick.deadline or tick.complete:
                continue
            late = [window for window in tick.windows if not window.complete]
            self._pool.cancel({window.window_id for window in late})
            for window in late:
                for place in window.sample.missing:
                    message = undecoded(
                        window.sample.rows[place], window.window_id, self._model, failure, self._now_us()
                    )
                    window.sample.store_one(place, Scored("timed_out", message))
