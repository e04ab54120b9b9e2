"""The merge join of one partition: shadow log and live log, each in offset order, matched by source offset.

No input or output and no clock. Whoever drives a `Pairing` hands it what the two logs hold, in whatever interleaving it
arrives, and takes windows that are complete on both sides. Memory: the shadow rows of the windows that are still open,
their matched live messages, and what was read of the live log ahead of the last seal.
"""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import pairwise

from gnomon_consumer.joiner.window import JoinedWindow, LiveMessage, OpenWindow
from gnomon_schemas.codec import Record
from gnomon_schemas.errors import GnomonError


class PairingError(GnomonError):
    """The logs contradict each other or what is joined already; the partition stops, nothing is skipped."""


class Pairing:
    """The join of one partition from `next_source` on; None until a DeploymentStart says where it begins."""

    def __init__(self, partition: int, next_source: int | None = None) -> None:
        self.partition = partition
        self.start: Record | None = None
        self.discarded = 0
        self._next_source = next_source
        self._rows: dict[str, dict[int, Record]] = {}
        self._open: deque[OpenWindow] = deque()
        self._complete: list[JoinedWindow] = []
        self._ahead: deque[LiveMessage] = deque()
        self._ahead_until = -1
        self._live_position = next_source or 0

    # What the shadow log holds.

    def shadow(self, offset: int, name: str, record: Record) -> None:
        """Take one record of the shadow log; raise PairingError when it contradicts what came before."""
        kind = name.rpartition(".")[2]
        if kind == "DeploymentStart":
            self._take_start(record)
        elif kind == "ShadowPrediction":
            self.row(offset, record)
        elif self._next_source is None:
            raise self._headless(offset, kind)
        elif kind == "SamplingWindow":
            self._take_seal(offset, record)
        else:
            raise PairingError(f"{self._here(offset)}: a record {name} has no place in a shadow log")

    def _take_start(self, record: Record) -> None:
        self.start = record
        if self._next_source is None:
            self._next_source = self._live_position = record["start_offset"]

    def row(self, offset: int, row: Record) -> None:
        """Take a ShadowPrediction, as `shadow` does: most records are."""
        if self._next_source is None:
            raise self._headless(offset, "ShadowPrediction")
        if row["source_partition"] != self.partition:
            raise PairingError(f"{self._here(offset)}: the row is of source partition {row['source_partition']}")
        rows = self._rows.get(row["window_id"])
        if rows is None:
            rows = self._rows[row["window_id"]] = {}
        # The same offset again in one window is the same row sent twice; the first one stands.
        rows.setdefault(row["source_offset"], row)

    def _take_seal(self, offset: int, seal: Record) -> None:
        assert self._next_source is not None
        start, end = seal["start_offset"], seal["end_offset"]
        rows = self._rows.pop(seal["window_id"], {})
        # A seal ends whatever stood before it: rows of other windows were never sealed and never will be.
        self.discarded += sum(map(len, self._rows.values()))
        self._rows.clear()
        if seal["source_partition"] != self.partition or end < start:
            raise PairingError(
                f"{self._here(offset)}: a window of partition {seal['source_partition']} over [{start}, {end})"
            )
        if end <= self._next_source:
            # A replay. (An empty window at the border changes nothing and is skipped with it.)
            self.discarded += len(rows)
            return
        if start < self._next_source:
            raise PairingError(
                f"{self._here(offset)}: window [{start}, {end}) straddles {self._next_source}, where the join stands"
            )
        if start > self._next_source:
            raise PairingError(
                f"{self._here(offset)}: a hole [{self._next_source}, {start}) that no gap record explains"
            )
        outside = [at for at in rows if not start <= at < end]
        if outside:
            raise PairingError(f"{self._here(offset)}: offset {outside[0]} lies outside its window [{start}, {end})")
        self._next_source = end
        self._open.append(OpenWindow(seal, offset, rows))
        ahead, self._ahead = self._ahead, deque()
        self._advance()
        self.live(ahead)

    # What the live log holds.

    def live(self, messages: Iterable[LiveMessage]) -> None:
        """Take messages of the live log, in the order of their offsets; what was read before is passed over."""
        run = list(messages)
        offsets: list[int] = [message.offset() for message in run]  # type: ignore[misc]  # captures have one
        # Where the log is read again from an earlier offset on, another run begins.
        backs = [at for at, (one, other) in enumerate(pairwise(offsets), 1) if other <= one]
        for first, end in pairwise([0, *backs, len(run)]):
            self._ascending(offsets[first:end], run[first:end])

    def _ascending(self, offsets: Sequence[int], run: Sequence[LiveMessage]) -> None:
        at = 0
        while at < len(run):
            if self._ahead:
                at = bisect_right(offsets, self._ahead_until, at)
                self._hold(offsets[at:], run[at:])
                return
            at = bisect_left(offsets, self._live_position, at)
            if at == len(run):
                return
            self._live_reached(offsets[at])
            if not self._open:
                self._hold(offsets[at:], run[at:])
                return
            window = self._open[0]
            end = bisect_left(offsets, window.end, at)
            window.take(offsets[at:end], run[at:end])
            self._live_reached(offsets[end - 1] + 1)
            at = end

    def _hold(self, offsets: Sequence[int], messages: Sequence[LiveMessage]) -> None:
        if offsets:
            self._ahead.extend(messages)
            self._ahead_until = offsets[-1]

    def live_reached(self, position: int) -> None:
        """Say that the live log holds nothing below `position` that was not handed over: sampled rows are orphans."""
        if not self._ahead:
            self._live_reached(position)

    def _live_reached(self, position: int) -> None:
        if position > self._live_position:
            # Never beyond the last seal: what lies there belongs to windows that are not known yet.
            limit = self._open[-1].end if self._open else self._live_position
            self._live_position = max(self._live_position, min(position, limit))
            self._advance()

    def _advance(self) -> None:
        while self._open and (self._open[0].skipped or self._open[0].end <= self._live_position):
            window = self._open.popleft()
            self._live_position = max(self._live_position, window.end)
            self._complete.append(window.finish())

    # What is done, and what is wanted.

    def take(self) -> list[JoinedWindow]:
        """The windows that are complete on both sides, in order; each is handed out once."""
        complete, self._complete = self._complete, []
        return complete

    @property
    def next_source(self) -> int | None:
        """The end of the last window that was accepted."""
        return self._next_source

    @property
    def live_position(self) -> int:
        """The first live offset that is not read yet, or is held ahead."""
        return self._live_position

    @property
    def wants_live(self) -> bool:
        """Whether a sealed window waits for the live log."""
        return bool(self._open)

    @property
    def idle(self) -> bool:
        """Whether nothing is held that a later record could complete."""
        return not self._open and not self._rows and not self._complete

    @property
    def held_ahead(self) -> int:
        """Live messages read beyond the last seal."""
        return len(self._ahead)

    @property
    def held_rows(self) -> int:
        """Shadow rows held, sealed or not."""
        return sum(len(window.rows) + len(window.joined.matches) for window in self._open) + sum(
            map(len, self._rows.values())
        )

    def _headless(self, offset: int, kind: str) -> PairingError:
        return PairingError(
            f"{self._here(offset)}: {kind} before any DeploymentStart; the beginning of the log is gone"
        )

    def _here(self, offset: int) -> str:
        return f"shadow partition {self.partition}, offset {offset}"
