"""The merge join of one partition: shadow log and live log, each in offset order, matched by source offset.

No input or output and no clock. Whoever drives a `Pairing` hands it what the two logs hold, in whatever interleaving it
arrives, and takes windows that are complete on both sides. Memory: the shadow rows of the windows that are still open,
their matched live messages, and what was read of the live log ahead of the last seal.
"""

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from gnomon_schemas.codec import Peek, Record, peek
from gnomon_schemas.errors import DecodeError, GnomonError
from gnomon_schemas.records import FailureKind

HOUR_US = 3_600_000_000
FIRST_US, LAST_US = -62_135_596_800_000_000, 253_402_300_799_999_999
"""The years 1 to 9999: an event time beyond them is no time."""
UUID_LENGTH = 36
NO_STRATUM = ""
OTHER_STRATUM = "other"


class PairingError(GnomonError):
    """The logs contradict each other or what is joined already; the partition stops, nothing is skipped."""


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

    @property
    def repeated(self) -> int:
        """How many sequence numbers came more than once."""
        return len(self.sequences) - len(set(self.sequences))


@dataclass(frozen=True, slots=True)
class Match:
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


class _OpenWindow:
    """A sealed window whose live range is being read."""

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

    def take(self, offset: int, message: LiveMessage) -> None:
        joined = self.joined
        stratum = self._stratum(message)
        joined.seen[stratum] += 1
        row = self.rows.pop(offset, None)
        value = message.value()
        peeked = _peek(value)
        if peeked is None:
            joined.hours[self._hour, stratum] += 1
        else:
            producer_id, sequence, captured_at = peeked
            joined.hours[captured_at // HOUR_US, stratum] += 1
            run = joined.runs.get(producer_id)
            if run is None:
                joined.runs[producer_id] = Run([sequence], captured_at, captured_at)
            else:
                run.sequences.append(sequence)
                run.first_captured_at = min(run.first_captured_at, captured_at)
                run.last_captured_at = max(run.last_captured_at, captured_at)
        if row is not None:
            self._match(row, stratum, message.key(), value)

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


class Pairing:
    """The join of one partition from `next_source` on; None until a DeploymentStart says where it begins."""

    def __init__(self, partition: int, next_source: int | None = None) -> None:
        self.partition = partition
        self.start: Record | None = None
        self.discarded = 0
        self._next_source = next_source
        self._rows: dict[str, dict[int, Record]] = {}
        self._open: deque[_OpenWindow] = deque()
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
        elif self._next_source is None:
            raise PairingError(
                f"{self._here(offset)}: {kind} before any DeploymentStart; the beginning of the log is gone"
            )
        elif kind == "ShadowPrediction":
            self._take_row(offset, record)
        elif kind == "SamplingWindow":
            self._take_seal(offset, record)
        else:
            raise PairingError(f"{self._here(offset)}: a record {name} has no place in a shadow log")

    def _take_start(self, record: Record) -> None:
        self.start = record
        if self._next_source is None:
            self._next_source = self._live_position = record["start_offset"]

    def _take_row(self, offset: int, row: Record) -> None:
        if row["source_partition"] != self.partition:
            raise PairingError(f"{self._here(offset)}: the row is of source partition {row['source_partition']}")
        # The same offset again in one window is the same row sent twice; the first one stands.
        self._rows.setdefault(row["window_id"], {}).setdefault(row["source_offset"], row)

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
        self._open.append(_OpenWindow(seal, offset, rows))
        ahead, self._ahead = self._ahead, deque()
        self._advance()
        self.live(ahead)

    # What the live log holds.

    def live(self, messages: Iterable[LiveMessage]) -> None:
        """Take messages of the live log, in the order of their offsets; what was read before is passed over."""
        opened = self._open
        for message in messages:
            offset = message.offset()
            assert offset is not None
            if self._ahead:
                if offset > self._ahead_until:
                    self._hold(offset, message)
                continue
            if offset < self._live_position:
                continue
            self._live_reached(offset)
            if not opened:
                self._hold(offset, message)
                continue
            opened[0].take(offset, message)
            self._live_reached(offset + 1)

    def _hold(self, offset: int, message: LiveMessage) -> None:
        self._ahead.append(message)
        self._ahead_until = offset

    def live_reached(self, position: int) -> None:
        """Say that the live log holds nothing below `position` that was not handed over."""
        if not self._ahead:
            self._live_reached(position)

    def live_expired(self, low: int) -> None:
        """Say that the live log begins at `low` now: what was not read below is gone, its sampled rows orphans."""
        self.live_reached(low)

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

    def _here(self, offset: int) -> str:
        return f"shadow partition {self.partition}, offset {offset}"


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


def _peek(value: bytes | None) -> Peek | None:
    """The first three fields of a capture, None unless they are what they should be."""
    try:
        peeked = peek(value)
    except DecodeError:
        return None
    sane = FIRST_US <= peeked.captured_at <= LAST_US and 0 <= peeked.sequence < 2**63
    return peeked if sane and len(peeked.producer_id) == UUID_LENGTH else None


def _text(key: str | bytes) -> str:
    return key if isinstance(key, str) else key.decode("utf-8", "replace")
