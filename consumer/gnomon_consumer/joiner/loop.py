"""The joiner's loop: read both logs, write complete windows, report partitions joined to their end. One thread.

The database holds the progress. A partition is opened by reading it there, so an assignment, a restart and the return
of the database take the same path; Kafka offsets are committed only for lag tools.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gnomon_consumer.joiner.merge.window import JoinedWindow
from gnomon_consumer.joiner.postgres.sink import ProgressMovedError, Sink
from gnomon_consumer.joiner.reading.both_logs import Logs
from gnomon_consumer.joiner.spans import JoinSpans
from gnomon_consumer.runtime.http import Pulse
from gnomon_consumer.runtime.metrics import JoinerMetrics
from gnomon_consumer.runtime.outage import UNREACHABLE, Outage, Renewable
from gnomon_consumer.runtime.progress import PartitionProgress
from gnomon_consumer.settings import JoinSettings
from gnomon_schemas.columnar import ColumnarReader

IDLE_CHECK_S = 0.5
REPORT_S = 10.0
FINISH_S = 3.0


@dataclass(slots=True, kw_only=True, eq=False)
class JoiningLoop:
    """The parts of a running joiner, and the order in which they take turns.

    `sinks` gives the sink of the current connection; `reconnect` is called after an outage and raises one of
    UNREACHABLE while there is no answer. `same_topics` says whether all messages read so far came from the topics with
    which this join began, `topic` describes them. `commits_offsets`: whether the group's offsets are committed. With
    `drain` the loop ends when nothing is left to join. The clock gives seconds.
    """

    logs: Logs
    sinks: Renewable[Sink]
    reader: ColumnarReader
    progress: PartitionProgress
    metrics: JoinerMetrics
    spans: JoinSpans
    pulse: Pulse
    outage: Outage
    limits: JoinSettings
    reconnect: Callable[[], None]
    same_topics: Callable[[], bool]
    topic: dict[str, Any]
    commits_offsets: bool
    stop: threading.Event
    drain: bool
    clock: Callable[[], float]
    log: Any
    pairs: int = 0
    windows: int = 0
    _next_idle_check: float = 0.0
    _next_report: float = 0.0

    def run(self) -> None:
        """Join until stopped or drained; raise what stopped a partition, or the join."""
        try:
            while not self.stop.is_set() and not self._is_finished():
                self._step()
        finally:
            self._finish()
        if self.logs.failed:  # before the group is left, which forgets partitions and their failures
            raise next(iter(self.logs.failed.values()))

    def ready(self) -> bool:
        """Return whether this joiner has partitions, reaches the database and makes progress."""
        return bool(self.logs.owned) and not self.outage.ongoing and self.pulse.is_quick()

    @property
    def _sink(self) -> Sink:
        return self.sinks.now

    def _is_finished(self) -> bool:
        """Return whether nothing is left to do: every partition failed or, with `drain`, is joined to its end."""
        logs = self.logs
        if logs.failed and logs.failed.keys() == logs.owned.keys() | logs.failed.keys():
            return True
        owned = [state for partition, state in logs.owned.items() if partition not in logs.failed]
        return self.drain and bool(owned) and not logs.unopened and all(state.caught_up for state in owned)

    def _finish(self) -> None:
        """Finish the current write before the end."""
        try:
            finish_last_write(self._sink, self.log)
        except UNREACHABLE as error:
            self.log.warning("the last windows will be joined again", reason=" ".join(str(error).split()))
        self._record_written()

    # One step of the loop.

    def _step(self) -> None:
        self.pulse.beat()
        self.progress.step()
        if self.outage.lasts(self.reconnect):
            self.logs.follow_shadow(0.2)
            return
        try:
            self._open()
            found = self.logs.follow(0 if self._sink.busy else self.limits.poll_seconds)
            self._apply()
            if not found:
                self._sink.finish_write(self.limits.poll_seconds)
            self._record_written()
            self.logs.balance()
            self._mark_caught_up()
        except UNREACHABLE as error:
            self._begin_outage(error)
        if self.clock() >= self._next_report:
            self._next_report = self.clock() + REPORT_S
            self.metrics.held.set(sum(state.held for state in self.logs.owned.values()))
            self.same_topics()  # also if no more messages arrive
            self.log.info("progress", windows=self.windows, pairs=self.pairs, partitions=len(self.logs.owned))

    def _open(self) -> None:
        """Read the progress of new partitions, and begin to read their logs."""
        partitions = self.logs.unopened
        if partitions and self._finish_write():
            self.logs.open(partitions, self._sink.progress(partitions), self.topic)

    def _apply(self) -> None:
        """Begin to write all complete windows, in one transaction."""
        owned = self.logs.owned
        if any(state.begins for state in owned.values()) and not self._finish_write():
            return
        for partition, state in owned.items():
            while state.begins:
                record, offset = state.begins[0]
                self._sink.begin(partition, record, offset)
                state.begins.pop(0)
        windows = [window for state in owned.values() for window in state.complete_windows()]
        if not windows or not self.same_topics():
            return
        assembled = self._sink.assembled(windows, self.reader)
        if not self._finish_write():
            return
        try:
            self._sink.start(windows, assembled)
        except ProgressMovedError as moved:
            self.log.warning("another joiner advanced the progress", partition=moved.partition)
            self.logs.reopen([moved.partition])
            return
        for state in owned.values():
            state.ready.clear()

    def _finish_write(self) -> bool:
        """Wait for the current write; return False only if this joiner is asked to stop first."""
        while not self._sink.finish_write(self.limits.poll_seconds):
            if self.stop.is_set():
                return False
        return True

    def _record_written(self) -> None:
        """Count the rows that were written meanwhile."""
        for windows, pairs in self._sink.written():
            self.pairs += pairs
            self.windows += len(windows)
            self._count(windows, pairs)
            self.spans.written(windows)
            if self.commits_offsets:
                ends = {window.seal.source_partition: window.shadow_offset + 1 for window in windows}
                self.logs.commit_group_offsets(ends)

    def _count(self, windows: Sequence[JoinedWindow], pairs: int) -> None:
        told, now = self.metrics, time.time()
        orphans = sum(len(window.orphans) for window in windows)
        told.windows.inc(len(windows))
        told.seen.inc(sum(window.joined_seen for window in windows))
        told.pairs.inc(pairs)
        told.orphans.inc(orphans)
        told.dead_letters.inc(sum(cell.sampled for w in windows for cell in w.seal.cells) - pairs - orphans)
        for window in windows:
            told.delay.observe(max(0.0, now - window.seal.sealed_at / 1e6))
            for text in window.contradictions:
                # `gnomon doctor` and the verdict find it in the ledger; here it is logged at once.
                self.log.error(
                    "window is inconsistent",
                    partition=window.seal.source_partition,
                    start=window.seal.start_offset,
                    reason=text,
                )

    def _mark_caught_up(self) -> None:
        """Mark partitions joined to the end of their live log, by which labels mature.

        Stop those whose log lost its end.
        """
        if self.clock() < self._next_idle_check:
            return
        self._next_idle_check = self.clock() + IDLE_CHECK_S
        self.logs.look_for_lost_ends()
        reached = self.logs.at_the_end()
        if reached and self._sink.finish_write(self.limits.poll_seconds):  # a later step tries again if this one fails
            self._sink.caught_up(reached)
            for partition in reached:
                self.logs.owned[partition].caught_up = True

    def _begin_outage(self, error: Exception) -> None:
        """Stop reading, stay in the group, and wait for the database."""
        self.outage.begin(error)
        self._record_written()
        self._sink.close()
        self.logs.reopen(list(self.logs.owned))


def finish_last_write(sink: Sink, log: Any) -> None:
    """Wait for the current write; if it takes too long, progress shows the next member whether it was committed."""
    if not sink.finish_write(FINISH_S):
        log.warning("PostgreSQL makes no progress with the last windows", seconds=FINISH_S)
