"""One window of the merge join: the scorer's claim, and the joiner's own count. No input or output, no clock."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gnomon_consumer.joiner.merge.assertions import contradictions
from gnomon_consumer.joiner.merge.matches import Matches, Refusal
from gnomon_consumer.joiner.merge.producer_runs import ProducerRuns, RunCounts
from gnomon_consumer.joiner.merge.shadow_records import chosen, numbers, part, plain, with_approximate_probe
from gnomon_consumer.times import EARLIEST_US, HOUR_US, LATEST_US
from gnomon_schemas.arrays import Integers
from gnomon_schemas.codec import Record
from gnomon_schemas.peeks import Peeks, peeks
from gnomon_schemas.records import NO_STRATUM, OTHER_STRATUM, FailureKind, SamplingWindow
from gnomon_schemas.texts import storable


class LiveMessage(Protocol):
    """The part of a live message that the join reads; confluent-kafka's Message has it."""

    def offset(self) -> int | None:
        """Return its offset."""
        ...

    def key(self) -> str | bytes | None:
        """Return the request id."""
        ...

    def value(self) -> bytes | None:
        """Return the framed capture."""
        ...

    def headers(self) -> Any:
        """Return pairs of name and bytes, or None."""
        ...


class LiveRun(NamedTuple):
    """Live messages of one partition at ascending offsets."""

    offsets: Integers
    messages: Sequence[LiveMessage]

    @classmethod
    def joined(cls, runs: Sequence["LiveRun"]) -> "LiveRun":
        """Return consecutive runs as one run."""
        if len(runs) == 1:
            return runs[0]
        return cls(np.concatenate([run.offsets for run in runs]), [one for run in runs for one in run.messages])

    def between(self, first: int, end: int) -> "LiveRun":
        """Return the messages from index `first` to `end` - 1."""
        return LiveRun(self.offsets[first:end], self.messages[first:end])


@dataclass(slots=True)
class JoinedWindow:
    """A window that is complete on both sides. `seal` is the scorer's claim, the rest is the joiner's own count.

    `contradictions` says where the claim and the scorer's own rows disagree.
    """

    seal: SamplingWindow
    shadow_offset: int
    _: KW_ONLY
    matches: Matches = field(default_factory=Matches)
    refusals: list[Refusal] = field(default_factory=list)
    orphans: list[tuple[str, Record]] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    hours: Counter[tuple[int, str]] = field(default_factory=Counter)
    runs: RunCounts = field(default_factory=RunCounts.none)
    contradictions: list[str] = field(default_factory=list)

    @property
    def joined_seen(self) -> int:
        """Return the number of captures that the joiner read in the window's range."""
        return self.seen.total()

    @property
    def claimed_seen(self) -> int:
        """Return the number of captures that the scorer claims to have seen there."""
        return sum(cell.seen for cell in self.seal.cells)


class MergingWindow:
    """A sealed window whose live range is being read; `rows` are its outcomes, ascending by source offset."""

    def __init__(self, seal: SamplingWindow, shadow_offset: int, rows: pa.RecordBatch) -> None:
        if is_approximate(seal):
            rows = with_approximate_probe(rows)
        self.start = seal.start_offset
        self.end = seal.end_offset
        self.rows = rows
        self.joined = JoinedWindow(seal, shadow_offset, contradictions=contradictions(seal, rows))
        self._sampled = numbers(rows, "source_offset")
        self._found = np.zeros(len(self._sampled), np.bool_)
        self._matched: list[Integers] = []
        self._runs = ProducerRuns()
        kinds = part(rows.column("error"), "kind")
        self._unread = pc.fill_null(pc.equal(kinds, FailureKind.DEAD_LETTER.value), fill_value=False).to_numpy(
            zero_copy_only=False
        )
        self._cells = {storable(cell.stratum) for cell in seal.cells}
        self._stratified = self._cells - {NO_STRATUM} != set()
        self._fallback = next((s for s in (OTHER_STRATUM, NO_STRATUM) if s in self._cells), None)
        self._hour = (seal.first_captured_at or seal.opened_at) // HOUR_US
        # A gap holds no readable captures. A window with claims but no rows is read, so that the captures are
        # recounted.
        self.skipped = seal.gap is not None and self.joined.claimed_seen == 0 and not rows.num_rows

    def read(self, run: LiveRun) -> None:
        """Count live messages of the range, and match those that were sampled."""
        values = [message.value() for message in run.messages]
        strata = [self._stratum(message) for message in run.messages] if self._stratified else None
        if strata is None:
            self.joined.seen[NO_STRATUM] += len(values)
        else:
            self.joined.seen.update(strata)
        self._count(peeks(values), strata, len(values))
        first, end = np.searchsorted(self._sampled, [run.offsets[0], run.offsets[-1] + 1])
        places = np.searchsorted(run.offsets, self._sampled[first:end])
        here = run.offsets[places] == self._sampled[first:end]
        rows, places = np.arange(first, end)[here], places[here]
        if len(rows):
            self._found[rows] = True
            messages = run.messages
            if len(places) < len(messages):
                own = places.tolist()
                messages, values = [messages[place] for place in own], [values[place] for place in own]
                strata = None if strata is None else [strata[place] for place in own]
            self._match(rows, [message.key() for message in messages], values, strata or [NO_STRATUM] * len(values))

    def _count(self, read: Peeks, strata: Sequence[str] | None, count: int) -> None:
        """Count captures by hour and stratum and by producer run; an implausible time counts in the window's hour."""
        sane = (read.captured_at >= EARLIEST_US) & (read.captured_at <= LATEST_US) & (read.sequences >= 0)
        hours = np.full(count, self._hour)
        hours[read.places[sane]] = read.captured_at[sane] // HOUR_US
        if strata is None:
            found, counts = np.unique(hours, return_counts=True)
            for hour, times in zip(found.tolist(), counts.tolist(), strict=True):
                self.joined.hours[hour, NO_STRATUM] += times
        else:
            self.joined.hours.update(zip(hours.tolist(), strata, strict=True))
        self._runs.add_captures(read, np.flatnonzero(sane))

    def finish(self) -> JoinedWindow:
        """Count producer runs, and sampled captures that are not in the live log: those are orphans."""
        joined, lost = self.joined, np.flatnonzero(~self._found)
        joined.runs = self._runs.counts()
        if self._matched:
            joined.matches.shadow = chosen(self.rows, np.concatenate(self._matched))
        joined.orphans.extend((storable(row["stratum"] or NO_STRATUM), row) for row in plain(self.rows, lost))
        return joined

    def _stratum(self, message: LiveMessage) -> str:
        """Return the cell that counts this capture: its own, or the scorer's cell for remaining strata."""
        if not self._stratified:
            return NO_STRATUM
        name = stratum_of(message.headers())
        return name if name in self._cells or self._fallback is None else self._fallback

    def _match(
        self, rows: Integers, keys: Sequence[str | bytes | None], values: list[bytes | None], cells: list[str]
    ) -> None:
        """Match rows with the messages at their offsets; refuse those that cannot become pairs."""
        wanted = chosen(self.rows, rows).column("request_id").cast(pa.binary())
        others = pc.fill_null(pc.not_equal(pa.array(keys, pa.binary()), wanted), fill_value=False).to_numpy(
            zero_copy_only=False
        )
        others = np.flatnonzero(others | self._unread[rows])
        refused: set[int] = set()
        for at, row in zip(others.tolist(), plain(self.rows, rows[others]), strict=True):
            size, key = len(values[at] or b""), keys[at]
            if self._unread[rows[at]]:
                reason, _, detail = row["error"]["message"].partition(": ")
                self.joined.refusals.append(
                    Refusal(shadow=row, cell=cells[at], stage="score", reason=reason, detail=detail, size=size)
                )
            elif key is not None and _text(key) != row["request_id"]:
                detail = f"the live log has request id {_text(key)!r}, the shadow log {row['request_id']!r}"
                self.joined.refusals.append(
                    Refusal(shadow=row, cell=cells[at], stage="join", reason="correlation", detail=detail, size=size)
                )
            else:  # an invalid UTF-8 key is decoded in the same way as its request id
                continue
            refused.add(at)
        if refused:
            kept = [at for at in range(len(values)) if at not in refused]
            rows, values, cells = rows[kept], [values[at] for at in kept], [cells[at] for at in kept]
        self._matched.append(rows)
        self.joined.matches.values += values
        self.joined.matches.cells += cells


def is_approximate(seal: SamplingWindow) -> bool:
    """Return whether an earlier version wrote the window, whose probe had no exact probability."""
    return any(cell.probed is None for cell in seal.cells)


def stratum_of(headers: Sequence[tuple[str, bytes | None]] | Mapping[str, bytes | None] | None) -> str:
    """Return the `stratum` header of a live message, '' for none."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers or ()
    for name, value in pairs:
        if name == "stratum":
            return storable(_text(value)) if value is not None else NO_STRATUM
    return NO_STRATUM


def _text(key: str | bytes) -> str:
    return key if isinstance(key, str) else key.decode("utf-8", "replace")
