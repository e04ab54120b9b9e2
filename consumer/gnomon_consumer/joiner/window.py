"""One window of the merge join: the scorer's claim, and what the join finds. No input or output, no clock."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from gnomon_schemas.codec import Record
from gnomon_schemas.peeks import Peeks, peeks
from gnomon_schemas.records import FailureKind

HOUR_US = 3_600_000_000
FIRST_US, LAST_US = -62_135_596_800_000_000, 253_402_300_799_999_999
"""The years 1 to 9999: an event time beyond them is no time."""
NO_STRATUM = ""
OTHER_STRATUM = "other"


class LiveMessage(Protocol):
    """What the join reads of a live message; confluent-kafka's Message is one."""

    def offset(self) -> int | None:
        """Its offset."""
        ...

    def key(self) -> str | bytes | None:
        """The request id."""
        ...

    def value(self) -> bytes | None:
        """The framed capture."""
        ...

    def headers(self) -> Any:
        """Pairs of name and bytes, or None."""
        ...


@dataclass(slots=True)
class Run:
    """What a window received of one producer run."""

    sequences: list[int]
    first_captured_at: int
    last_captured_at: int

    def add(self, other: "Run") -> None:
        """Take what else was received of it."""
        self.sequences += other.sequences
        self.first_captured_at = min(self.first_captured_at, other.first_captured_at)
        self.last_captured_at = max(self.last_captured_at, other.last_captured_at)

    @property
    def repeated(self) -> int:
        """How many sequence numbers came more than once."""
        return len(self.sequences) - len(set(self.sequences))


class Match(NamedTuple):
    """A shadow outcome and the live message at its source offset."""

    shadow: Record
    value: bytes | None
    cell: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """A sampled capture that cannot become a pair, and why: the reason is of a closed vocabulary."""

    shadow: Record
    cell: str
    stage: str
    reason: str
    detail: str
    size: int | None


@dataclass(slots=True)
class JoinedWindow:
    """A window, complete on both sides. `seal` is the scorer's claim, the rest what the join found for itself."""

    seal: Record
    shadow_offset: int
    matches: list[Match] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    orphans: list[tuple[str, Record]] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    hours: Counter[tuple[int, str]] = field(default_factory=Counter)
    runs: dict[str, Run] = field(default_factory=dict)

    @property
    def joined_seen(self) -> int:
        """Captures read in the window's range."""
        return self.seen.total()

    @property
    def claimed_seen(self) -> int:
        """Captures that the scorer says it saw there."""
        return sum(int(cell["seen"]) for cell in self.seal["cells"])


class OpenWindow:
    """A sealed window whose live range is being read; `rows` are the sampled ones that are not found there yet."""

    def __init__(self, seal: Record, shadow_offset: int, rows: dict[int, Record]) -> None:
        self.start: int = seal["start_offset"]
        self.end: int = seal["end_offset"]
        self.rows = rows
        self.joined = JoinedWindow(seal, shadow_offset)
        self._cells = {printable(cell["stratum"]) for cell in seal["cells"]}
        self._stratified = self._cells - {NO_STRATUM} != set()
        self._fallback = next((s for s in (OTHER_STRATUM, NO_STRATUM) if s in self._cells), None)
        self._hour = (seal["first_captured_at"] or seal["opened_at"]) // HOUR_US
        # A gap holds nothing that could be read; claims without rows are read, to be recounted.
        self.skipped = seal["gap"] is not None and self.joined.claimed_seen == 0 and not rows

    def take(self, offsets: Sequence[int], messages: Sequence[LiveMessage]) -> None:
        """Count live messages of the range, and match those that were sampled."""
        values = [message.value() for message in messages]
        strata = [self._stratum(message) for message in messages] if self._stratified else None
        if strata is None:
            self.joined.seen[NO_STRATUM] += len(values)
        else:
            self.joined.seen.update(strata)
        self._count(peeks(values), strata, len(values))
        found = self.rows.pop
        for place, offset in enumerate(offsets):
            row = found(offset, None)
            if row is not None:
                cell = NO_STRATUM if strata is None else strata[place]
                self._match(row, cell, messages[place].key(), values[place])

    def _count(self, read: Peeks, strata: Sequence[str] | None, count: int) -> None:
        """Count captures by hour and stratum and by producer run; one without a sane time falls into the window's."""
        sane = (read.captured_at >= FIRST_US) & (read.captured_at <= LAST_US) & (read.sequences >= 0)
        hours = np.full(count, self._hour)
        hours[read.places[sane]] = read.captured_at[sane] // HOUR_US
        if strata is None:
            found, counts = np.unique(hours, return_counts=True)
            for hour, times in zip(found.tolist(), counts.tolist(), strict=True):
                self.joined.hours[hour, NO_STRATUM] += times
        else:
            self.joined.hours.update(zip(hours.tolist(), strata, strict=True))
        for at, producer_id in enumerate(read.producers):
            own = sane & (read.producer_of == at)
            if own.any():
                times = read.captured_at[own]
                run = Run(read.sequences[own].tolist(), int(times.min()), int(times.max()))
                if producer_id in self.joined.runs:
                    self.joined.runs[producer_id].add(run)
                else:
                    self.joined.runs[producer_id] = run

    def finish(self) -> JoinedWindow:
        """Whatever was sampled and not found in the live log is an orphan."""
        self.joined.orphans.extend((printable(row["stratum"] or NO_STRATUM), row) for row in self.rows.values())
        self.rows.clear()
        return self.joined

    def _stratum(self, message: LiveMessage) -> str:
        """The cell that counts this capture: its own, or the one that the scorer put the rest into."""
        if not self._stratified:
            return NO_STRATUM
        name = stratum_of(message.headers())
        return name if name in self._cells or self._fallback is None else self._fallback

    def _match(self, row: Record, cell: str, key: str | bytes | None, value: bytes | None) -> None:
        size = len(value) if value is not None else 0
        error = row["error"]
        if error is not None and error["kind"] == FailureKind.DEAD_LETTER:
            reason, _, detail = error["message"].partition(": ")
            self.joined.refusals.append(Refusal(row, cell, "score", reason, detail, size))
        elif key is not None and _text(key) != row["request_id"]:
            detail = f"the live log has request id {_text(key)!r}, the shadow log {row['request_id']!r}"
            self.joined.refusals.append(Refusal(row, cell, "join", "correlation", detail, size))
        else:
            self.joined.matches.append(Match(row, value, cell))


def stratum_of(headers: Sequence[tuple[str, bytes | None]] | Mapping[str, bytes | None] | None) -> str:
    """The `stratum` header of a live message, '' for none."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers or ()
    for name, value in pairs:
        if name == "stratum":
            return printable(_text(value)) if value is not None else NO_STRATUM
    return NO_STRATUM


def printable(text: str) -> str:
    """A text that PostgreSQL can store: it has no NUL."""
    return text.replace("\0", "\ufffd")


def _text(key: str | bytes) -> str:
    return key if isinstance(key, str) else key.decode("utf-8", "replace")
