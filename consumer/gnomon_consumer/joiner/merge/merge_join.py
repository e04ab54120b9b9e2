"""The merge join of one partition: shadow log and live log, each in offset order, matched by source offset.

No input or output and no clock. The caller of a `MergeJoin` passes it the messages of both logs, interleaved in any
way, and pops windows that are complete on both sides. Memory: the shadow rows of the windows that are still open, their
matched live messages, and the live messages read ahead of the last seal.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa

from gnomon_consumer.joiner.merge.shadow_records import chosen, numbers, outcomes, together
from gnomon_consumer.joiner.merge.window import JoinedWindow, LiveMessage, LiveRun, MergingWindow
from gnomon_schemas.arrays import Integers
from gnomon_schemas.codec import Record
from gnomon_schemas.errors import GnomonError
from gnomon_schemas.records import DeploymentStart, SamplingWindow, from_dict


class ContradictionError(GnomonError):
    """The logs contradict each other or what is joined already; the partition stops, nothing is skipped."""


class MergeJoin:
    """The join of one partition from `next_source` on; None until a DeploymentStart says where it begins."""

    def __init__(self, partition: int, next_source: int | None = None) -> None:
        self.partition = partition
        self.start: DeploymentStart | None = None
        self._next_source = next_source
        self._rows: dict[str, list[pa.RecordBatch]] = {}
        self._open: deque[MergingWindow] = deque()
        self._complete: list[JoinedWindow] = []
        self._ahead: list[LiveRun] = []
        self._ahead_until = -1
        self._live_position = next_source or 0

    # The records of the shadow log.

    def shadow(self, offset: int, name: str, record: Record) -> None:
        """Accept one record of the shadow log; raise ContradictionError if it contradicts an earlier one."""
        kind = name.rpartition(".")[2]
        if kind == "DeploymentStart":
            self._accept_start(from_dict(DeploymentStart, record))
        elif kind == "ShadowPrediction":
            self.outcomes(np.array([offset]), outcomes([record]))
        elif self._next_source is None:
            raise self._headless(offset, kind)
        elif kind == "SamplingWindow":
            self._accept_seal(offset, from_dict(SamplingWindow, record))
        else:
            raise ContradictionError(f"{self._here(offset)}: a record {name} is not allowed in a shadow log")

    def _accept_start(self, start: DeploymentStart) -> None:
        self.start = start
        if self._next_source is None:
            self._next_source = self._live_position = start.start_offset

    def outcomes(self, offsets: Sequence[int] | Integers, rows: pa.RecordBatch) -> None:
        """Accept the ShadowPredictions at `offsets` of the shadow log, as `shadow` does for one of them."""
        if self._next_source is None:
            raise self._headless(int(offsets[0]), "ShadowPrediction")
        partitions = numbers(rows, "source_partition")
        for at in np.flatnonzero(partitions != self.partition)[:1].tolist():
            raise ContradictionError(f"{self._here(int(offsets[at]))}: the row is of source partition {partitions[at]}")
        ids = rows.column("window_id").dictionary_encode()
        windows = ids.dictionary.to_pylist()
        for number, window_id in enumerate(windows):
            own = rows if len(windows) == 1 else chosen(rows, np.flatnonzero(ids.indices.to_numpy() == number))
            self._rows.setdefault(window_id, []).append(own)

    def _accept_seal(self, offset: int, seal: SamplingWindow) -> None:
        assert self._next_source is not None
        start, end = seal.start_offset, seal.end_offset
        rows = together(self._rows.pop(seal.window_id, []))
        # A seal ends the window before it: rows of other windows were never sealed and never will be.
        self._rows.clear()
        if seal.source_partition != self.partition or end < start:
            raise ContradictionError(
                f"{self._here(offset)}: a window of partition {seal.source_partition} over [{start}, {end})"
            )
        if end <= self._next_source:
            return  # a replay; an empty window at the border changes nothing and is skipped with it
        if start < self._next_source:
            raise ContradictionError(
                f"{self._here(offset)}: window [{start}, {end}) straddles {self._next_source}, the position of the join"
            )
        if start > self._next_source:
            raise ContradictionError(
                f"{self._here(offset)}: a hole [{self._next_source}, {start}) that no gap record explains"
            )
        offsets = numbers(rows, "source_offset")
        for at in offsets[(offsets < start) | (offsets >= end)][:1].tolist():
            raise ContradictionError(f"{self._here(offset)}: offset {at} is outside its window [{start}, {end})")
        if not (np.diff(offsets) > 0).all():
            # The same offset again in one window is the same row sent twice; the first one counts.
            rows = chosen(rows, np.unique(offsets, return_index=True)[1])
        self._next_source = end
        self._open.append(MergingWindow(seal, offset, rows))
        ahead, self._ahead = self._ahead, []
        self._advance()
        if ahead:
            # at once: messages that were read in small batches cost no more than one large batch
            self._ascending(LiveRun.joined(ahead))

    # The messages of the live log.

    def live(self, messages: Iterable[LiveMessage]) -> None:
        """Accept messages of the live log, in offset order; skip those read before."""
        run = list(messages)
        offsets = np.array([message.offset() for message in run], np.int64)
        # If the log is read again from an earlier offset, another run begins.
        backs = (np.flatnonzero(np.diff(offsets) <= 0) + 1).tolist()
        for first, end in pairwise([0, *backs, len(run)]):
            self._ascending(LiveRun(offsets[first:end], run[first:end]))

    def _ascending(self, run: LiveRun) -> None:
        at, count = 0, len(run.offsets)
        while at < count:
            if self._ahead:
                self._hold(run.between(int(np.searchsorted(run.offsets, self._ahead_until, "right")), count))
                return
            at = max(at, int(np.searchsorted(run.offsets, self._live_position)))
            if at == count:
                return
            self._live_reached(int(run.offsets[at]))
            if not self._open:
                self._hold(run.between(at, count))
                return
            window = self._open[0]
            end = int(np.searchsorted(run.offsets, window.end))
            window.read(run.between(at, end))
            self._live_reached(int(run.offsets[end - 1]) + 1)
            at = end

    def _hold(self, run: LiveRun) -> None:
        if len(run.offsets):
            self._ahead.append(run)
            self._ahead_until = int(run.offsets[-1])

    def live_reached(self, position: int) -> None:
        """Record that the live log holds no further message below `position`: sampled rows there are orphans."""
        if not self._ahead:
            self._live_reached(position)

    def _live_reached(self, position: int) -> None:
        if position > self._live_position:
            # Never beyond the last seal: messages after it belong to windows that are not known yet.
            limit = self._open[-1].end if self._open else self._live_position
            self._live_position = max(self._live_position, min(position, limit))
            self._advance()

    def _advance(self) -> None:
        while self._open and (self._open[0].skipped or self._open[0].end <= self._live_position):
            window = self._open.popleft()
            self._live_position = max(self._live_position, window.end)
            self._complete.append(window.finish())

    # What is complete, and what is still needed.

    def pop_complete(self) -> list[JoinedWindow]:
        """Return the windows that are complete on both sides, in order, each once."""
        complete, self._complete = self._complete, []
        return complete

    @property
    def next_source(self) -> int | None:
        """Return the end of the last window that was accepted."""
        return self._next_source

    @property
    def live_position(self) -> int:
        """Return the first live offset that is not yet read, or is read ahead."""
        return self._live_position

    @property
    def wants_live(self) -> bool:
        """Return whether a sealed window waits for the live log."""
        return bool(self._open)

    @property
    def idle(self) -> bool:
        """Return whether no row in memory waits for a later record."""
        return not self._open and not self._rows and not self._complete

    @property
    def held_ahead(self) -> int:
        """Return the number of live messages that were read beyond the last seal."""
        return sum(len(run.messages) for run in self._ahead)

    @property
    def held_rows(self) -> int:
        """Return the number of shadow rows in memory, sealed or not."""
        parts = [part for parts in self._rows.values() for part in parts]
        return sum(rows.num_rows for rows in (*(window.rows for window in self._open), *parts))

    def _headless(self, offset: int, kind: str) -> ContradictionError:
        return ContradictionError(
            f"{self._here(offset)}: {kind} before any DeploymentStart; the beginning of the log is gone"
        )

    def _here(self, offset: int) -> str:
        return f"shadow partition {self.partition}, offset {offset}"
