"""A tick: the windows sealed together, waiting for their outcomes; and the records that they become. No I/O."""

import hashlib
import json
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from gnomon_consumer.scorer.jobs import Finished, Job
from gnomon_consumer.scorer.outcomes import STATUSES, Scored, codec
from gnomon_consumer.scorer.rows import Places, Rows, lowest
from gnomon_consumer.scorer.sampler import NO_STRATUM, SealedCell, joined
from gnomon_consumer.scorer.window import Ownership
from gnomon_consumer.settings import ScoreSettings
from gnomon_schemas.records import Cell, CloseReason, Gap, SamplingLimit, SamplingWindow, Usage, as_dict

OPEN = 255
"""The code of a row that has no outcome yet; the others are places in STATUSES."""

POLICY_FIELDS = (
    "window_seconds",
    "min_window_seconds",
    "budget_rows_per_second",
    "efficiency",
    "reservoir_rows",
    "window_captures",
    "window_bytes",
    "max_strata",
    "allocation",
    "seed",
)


def policy_hash(settings: ScoreSettings, no_sampling: bool) -> str:
    """A short hash of the settings that decide what is sampled."""
    said = {name: getattr(settings, name) for name in POLICY_FIELDS} | {"no_sampling": no_sampling}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Tally:
    """Outcomes of sampled rows by bucket of the ledger."""

    scored: int
    failed: int
    timed_out: int
    dead_lettered: int


@dataclass(slots=True, eq=False)
class SealedWindow:
    """One window after its seal: its rows in source-offset order, the cell of each, and the outcomes as they come."""

    owner: Ownership
    window_id: str
    start: int
    end: int
    opened_at: int
    sealed_at: int
    first_captured_at: int | None
    last_captured_at: int | None
    reason: CloseReason
    lag_s: float
    cells: list[Cell] = field(default_factory=list)
    rows: Rows = field(default_factory=lambda: Rows.of([]))
    codes: NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8))
    messages: list[bytes] = field(default_factory=list)
    dead: dict[int, tuple[str, str]] = field(default_factory=dict)
    open_rows: int = 0
    gap: Gap | None = None
    cpu_us: int = 0
    peak_rss_bytes: int = 0
    gpu_us: int | None = None
    gpu_peak_bytes: int | None = None
    limited_by: SamplingLimit | None = None
    dispatched: bool = False

    def fill(self, cells: list[SealedCell[bytes]]) -> None:
        """Take the sampled rows of the seal."""
        self.cells = [
            Cell(cell.stratum, cell.seen, len(cell.sample), cell.draw_probability, cell.threshold) for cell in cells
        ]
        sample = joined([cell.sample for cell in cells])
        cell_of = np.repeat(np.arange(len(cells), dtype=np.int32), [len(cell.sample) for cell in cells])
        if len(cells) > 1:
            order = np.argsort(sample.offsets)
            sample, cell_of = sample.at(order), cell_of[order]
        self.rows = Rows(
            self.owner.partition,
            sample.offsets,
            sample.ranks,
            cell_of,
            [(None if cell.stratum == NO_STRATUM else cell.stratum, cell.inclusion_probability) for cell in cells],
            sample.request_ids,
            list(sample.payloads),
        )
        self.codes = np.full(len(sample), OPEN, np.uint8)
        self.messages = [b""] * len(sample)
        self.open_rows = len(sample)

    def jobs(self, probe_rows: int, batch_rows: int, workers: int) -> Iterator[Job]:
        """The probe, which is scored one at a time by all workers, and batches of the rest."""
        probe = lowest(self.rows.ranks, probe_rows)
        share = -(-len(probe) // workers) or 1
        for at in range(0, len(probe), share):
            places = probe[at : at + share]
            yield self._job(self.rows.take(places), places, single=True)
        places = np.delete(np.arange(len(self.rows)), probe)
        rest = self.rows.take(places)
        for at in range(0, len(rest), batch_rows):
            yield self._job(rest.cut(at, at + batch_rows), places[at : at + batch_rows], single=False)

    def _job(self, rows: Rows, places: Places, single: bool) -> Job:
        return Job(self.window_id, self.owner.partition, self.sealed_at, rows, places, single)

    def take(self, finished: Finished) -> None:
        """Store outcomes; of a row that has one already, the first one stands."""
        places, scored = finished.places.tolist(), finished.scored
        due = self.codes[finished.places] == OPEN
        if due.all():
            self.codes[finished.places] = np.frombuffer(scored.codes, np.uint8)
            dead = {places[row]: (self.rows.values[places[row]], why) for row, why in scored.dead.items()}
            messages, values = self.messages, self.rows.values
            for place, message in zip(places, scored.messages, strict=True):
                messages[place], values[place] = message, b""
            for place, (value, why) in dead.items():
                self.dead[place], values[place] = why, value
            self.open_rows -= len(places)
        else:
            for row in np.flatnonzero(due).tolist():
                self.put(places[row], scored[row])
        self.cpu_us += finished.cpu_us
        self.peak_rss_bytes = max(self.peak_rss_bytes, finished.peak_rss_bytes)
        if finished.gpu_us is not None:
            self.gpu_us = (self.gpu_us or 0) + finished.gpu_us
        if finished.gpu_peak_bytes is not None:
            self.gpu_peak_bytes = max(self.gpu_peak_bytes or 0, finished.gpu_peak_bytes)

    def put(self, place: int, scored: Scored) -> None:
        """Store one outcome that was missing."""
        self.codes[place] = STATUSES.index(scored.status)
        self.messages[place] = scored.message
        if scored.status == "dead_lettered":
            self.dead[place] = scored.reason, scored.detail
        else:
            self.rows.values[place] = b""
        self.open_rows -= 1

    @property
    def missing(self) -> list[int]:
        """The places of the rows that have no outcome yet."""
        places: list[int] = np.flatnonzero(self.codes == OPEN).tolist()
        return places

    @property
    def complete(self) -> bool:
        """Whether every sampled row has its outcome."""
        return self.open_rows == 0

    def tally(self) -> Tally:
        """The rows that have an outcome, by bucket."""
        return _tally(self.codes)

    def record(self, tick: "Tick") -> bytes:
        """The framed SamplingWindow of this window of a tick."""
        cells = [
            replace(cell, **asdict(_tally(self.codes[self.rows.cell_of == at]))) for at, cell in enumerate(self.cells)
        ]
        window = SamplingWindow(
            window_id=self.window_id,
            tick_id=tick.tick_id,
            source_partition=self.owner.partition,
            start_offset=self.start,
            end_offset=self.end,
            first_captured_at=self.first_captured_at,
            last_captured_at=self.last_captured_at,
            opened_at=self.opened_at,
            sealed_at=self.sealed_at,
            close_reason=self.reason,
            lag_s=self.lag_s,
            seed=tick.seed,
            policy=tick.policy,
            cells=cells,
            gap=self.gap,
            usage=Usage(self.cpu_us, self.peak_rss_bytes, self.gpu_us, self.gpu_peak_bytes),
            limited_by=self.limited_by,
        )
        return codec("SamplingWindow").encode(as_dict(window))


def _tally(codes: NDArray[np.uint8]) -> Tally:
    scored, failed, timed_out, dead_lettered = np.bincount(codes[codes != OPEN], minlength=len(STATUSES)).tolist()
    return Tally(scored, failed, timed_out, dead_lettered)


@dataclass(slots=True, eq=False)
class Tick:
    """Windows sealed together by one seed and sampling policy; `deadline` in the clock's seconds."""

    windows: list[SealedWindow]
    deadline: float
    seed: int
    policy: str
    tick_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def open_rows(self) -> int:
        """Sampled rows that have no outcome yet."""
        return sum(window.open_rows for window in self.windows)

    @property
    def dispatched(self) -> bool:
        """Whether the workers have all of it."""
        return all(window.dispatched for window in self.windows)

    @property
    def complete(self) -> bool:
        """Whether it may be committed."""
        return all(window.complete for window in self.windows)
