"""A tick: the windows sealed together, waiting for their outcomes; and the records that they become. No I/O."""

import hashlib
import heapq
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

from gnomon_consumer.scorer.outcomes import Row, codec
from gnomon_consumer.scorer.pool import Finished, Job
from gnomon_consumer.scorer.sampler import SealedCell
from gnomon_consumer.scorer.scoring import Scored
from gnomon_consumer.scorer.window import Ownership, tally
from gnomon_consumer.settings import ScoreSettings
from gnomon_schemas.records import Cell, CloseReason, Gap, SamplingLimit, SamplingWindow, Usage, as_dict

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
    cells: list[SealedCell[Row]] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    cell_of: list[int] = field(default_factory=list)
    outcomes: list[Scored | None] = field(default_factory=list)
    open_rows: int = 0
    gap: Gap | None = None
    cpu_us: int = 0
    peak_rss_bytes: int = 0
    gpu_us: int | None = None
    gpu_peak_bytes: int | None = None
    limited_by: SamplingLimit | None = None
    dispatched: bool = False

    def fill(self, cells: list[SealedCell[Row]]) -> None:
        """Take the sampled rows of the seal."""
        self.cells = cells
        # Offsets differ, so rows are never compared.
        placed = sorted((offset, place, row) for place, cell in enumerate(cells) for _, _, offset, row in cell.entries)
        self.rows = [row for _, _, row in placed]
        self.cell_of = [place for _, place, _ in placed]
        self.outcomes = [None] * len(placed)
        self.open_rows = len(placed)

    def jobs(self, probe_rows: int, batch_rows: int) -> Iterator[Job]:
        """The probe, which is scored one at a time, and batches of the rest."""
        probe = sorted(heapq.nsmallest(probe_rows, range(len(self.rows)), key=lambda place: self.rows[place].rank))
        chosen = set(probe)
        rest = [place for place in range(len(self.rows)) if place not in chosen]
        if probe:
            yield self._job(probe, single=True)
        for at in range(0, len(rest), batch_rows):
            yield self._job(rest[at : at + batch_rows], single=False)

    def _job(self, places: list[int], single: bool) -> Job:
        rows = [self.rows[place] for place in places]
        return Job(self.window_id, self.owner.partition, self.sealed_at, rows, places, single)

    def take(self, finished: Finished) -> int:
        """Store outcomes; returns how many were still missing."""
        taken = 0
        for place, scored in zip(finished.places, finished.scored, strict=True):
            if self.outcomes[place] is None:
                self.outcomes[place] = scored
                taken += 1
        self.open_rows -= taken
        self.cpu_us += finished.cpu_us
        self.peak_rss_bytes = max(self.peak_rss_bytes, finished.peak_rss_bytes)
        if finished.gpu_us is not None:
            self.gpu_us = (self.gpu_us or 0) + finished.gpu_us
        if finished.gpu_peak_bytes is not None:
            self.gpu_peak_bytes = max(self.gpu_peak_bytes or 0, finished.gpu_peak_bytes)
        return taken

    @property
    def complete(self) -> bool:
        """Whether every sampled row has its outcome."""
        return self.open_rows == 0

    def statuses(self) -> list[str]:
        """The buckets of the rows that have an outcome."""
        return [one.status for one in self.outcomes if one is not None]

    def record(self, tick_id: str, seed: int, policy: str) -> bytes:
        """The framed SamplingWindow."""
        cells = []
        statuses: list[list[str]] = [[] for _ in self.cells]
        for one, place in zip(self.outcomes, self.cell_of, strict=True):
            if one is not None:
                statuses[place].append(one.status)
        for cell, buckets in zip(self.cells, statuses, strict=True):
            counted = tally(buckets)
            cells.append(
                Cell(
                    stratum=cell.stratum,
                    seen=cell.seen,
                    sampled=len(cell.entries),
                    draw_probability=cell.draw_probability,
                    threshold=cell.threshold,
                    scored=counted.scored,
                    failed=counted.failed,
                    timed_out=counted.timed_out,
                    dead_lettered=counted.dead_lettered,
                )
            )
        window = SamplingWindow(
            window_id=self.window_id,
            tick_id=tick_id,
            source_partition=self.owner.partition,
            start_offset=self.start,
            end_offset=self.end,
            first_captured_at=self.first_captured_at,
            last_captured_at=self.last_captured_at,
            opened_at=self.opened_at,
            sealed_at=self.sealed_at,
            close_reason=self.reason,
            lag_s=self.lag_s,
            seed=seed,
            policy=policy,
            cells=cells,
            gap=self.gap,
            usage=Usage(self.cpu_us, self.peak_rss_bytes, self.gpu_us, self.gpu_peak_bytes),
            limited_by=self.limited_by,
        )
        return codec("SamplingWindow").encode(as_dict(window))


@dataclass(slots=True, eq=False)
class Tick:
    """Windows sealed together; `deadline` in the clock's seconds."""

    windows: list[SealedWindow]
    deadline: float
    tick_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def open_rows(self) -> int:
        """Sampled rows that have no outcome yet."""
        return sum(window.open_rows for window in self.windows)

    @property
    def complete(self) -> bool:
        """Whether it may be committed."""
        return all(window.complete for window in self.windows)
