"""The sampled rows of a sealed window, and their outcomes as they arrive. No I/O."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from gnomon_consumer.kafka import sizes
from gnomon_consumer.scorer.captures import RowCell, Rows, as_array, text_at
from gnomon_consumer.scorer.outcomes import STATUSES, Outcomes, Scored
from gnomon_consumer.scorer.sampling.allocation import Allocation, SealedCell
from gnomon_consumer.scorer.sampling.probe import probe_of, window_draw
from gnomon_consumer.scorer.sampling.reservoir import joined
from gnomon_schemas.arrays import Indices
from gnomon_schemas.records import NO_STRATUM, Cell

OPEN = 255
"""The code of a row without an outcome; the other codes are indices of STATUSES."""


@dataclass(frozen=True, slots=True)
class WorkerBatch:
    """Rows for one worker, and their indices in the window. `single`: one at a time, for latency."""

    rows: Rows
    places: Indices
    single: bool


@dataclass(frozen=True, slots=True)
class Tally:
    """Outcomes of sampled rows by bucket of the ledger."""

    scored: int
    failed: int
    timed_out: int
    dead_lettered: int


@dataclass(slots=True, eq=False, kw_only=True)
class SampledRows:
    """The sampled rows in offset order, the cell of each, the rows of the probe, and their outcomes.

    `cells` hold how many captures each cell has seen; `probe_cells` are the cells of `rows` with the probability of a
    row to be in the probe. `codes`, `messages` and `dead` (index -> reason, detail) hold the outcomes.
    """

    cells: list[Cell]
    rows: Rows
    probe: Indices
    probe_cells: list[RowCell]
    codes: NDArray[np.uint8]
    messages: list[bytes]
    open: int
    dead: dict[int, tuple[str, str]] = field(default_factory=dict)

    @classmethod
    def none(cls, partition: int) -> "SampledRows":
        """Return the empty sample."""
        rows = replace(Rows.of([]), partition=partition)
        return cls(
            cells=[],
            rows=rows,
            probe=np.empty(0, np.int64),
            probe_cells=[],
            codes=np.empty(0, np.uint8),
            messages=[],
            open=0,
        )

    @classmethod
    def of(
        cls,
        partition: int,
        window_id: str,
        cells: Sequence[SealedCell[bytes]],
        *,
        probe_rows: int,
        allocation: Allocation,
    ) -> "SampledRows":
        """Return the rows that a seal sampled, with about `probe_rows` of them in the probe."""
        probes = probe_of(cells, probe_rows, allocation, window_draw(window_id))
        counted = [
            Cell(
                stratum=cell.stratum,
                seen=cell.seen,
                sampled=len(cell.sample),
                draw_probability=cell.draw_probability,
                threshold=cell.threshold,
                probed=len(probe.places),
                probe_probability=probe.probability,
            )
            for cell, probe in zip(cells, probes, strict=True)
        ]
        sample = joined([cell.sample for cell in cells])
        lengths = [len(cell.sample) for cell in cells]
        cell_of = np.repeat(np.arange(len(cells), dtype=np.int32), lengths)
        probed = np.zeros(len(sample), np.bool_)
        for first, probe in zip(np.cumsum([0, *lengths]), probes, strict=False):
            probed[first + probe.places] = True
        if not (np.diff(sample.offsets) > 0).all():  # a sample of several cells, or of strata merged into one
            order = np.argsort(sample.offsets)
            sample, cell_of, probed = sample.select(order), cell_of[order], probed[order]
        kinds = [
            RowCell(None if cell.stratum == NO_STRATUM else cell.stratum, cell.inclusion_probability) for cell in cells
        ]
        rows = Rows(
            partition=partition,
            offsets=sample.offsets,
            ranks=sample.ranks,
            cell_of=cell_of,
            cells=kinds,
            keys=sample.request_ids,
            values=list(sample.payloads),
        )
        probe_kinds = [
            kind._replace(probe_probability=probe.probability) for kind, probe in zip(kinds, probes, strict=True)
        ]
        count = len(sample)
        codes = np.full(count, OPEN, np.uint8)
        return cls(
            cells=counted,
            rows=rows,
            probe=np.flatnonzero(probed),
            probe_cells=probe_kinds,
            codes=codes,
            messages=[b""] * count,
            open=count,
        )

    def batches(self, batch_rows: int, workers: int) -> Iterator[WorkerBatch]:
        """Yield the probe, which is scored one at a time by all workers, and batches of the rest."""
        share = -(-len(self.probe) // workers) or 1
        for at in range(0, len(self.probe), share):
            places = self.probe[at : at + share]
            yield WorkerBatch(replace(self.rows.select(places), cells=self.probe_cells), places, single=True)
        places = np.delete(np.arange(len(self.rows)), self.probe)
        rest = self.rows.select(places)
        for at in range(0, len(rest), batch_rows):
            part = rest.cut(at, at + batch_rows)
            # Once an array, the keys are neither joined for the pipe nor converted again for the outcomes.
            part = replace(part, keys=as_array(part.keys))
            yield WorkerBatch(part, places[at : at + batch_rows], single=False)

    def store(self, indices: Indices, scored: Outcomes) -> None:
        """Store outcomes; a row that already has one keeps it."""
        places = indices.tolist()
        due = self.codes[indices] == OPEN
        if due.all():
            self.codes[indices] = np.frombuffer(scored.codes, np.uint8)
            dead = {places[row]: (self.rows.values[places[row]], why) for row, why in scored.dead.items()}
            values, written = self.rows.values, scored.messages
            if len(written) != len(places):
                raise ValueError(f"{len(written)} outcomes for {len(places)} rows")
            # Most batches are one run of rows, or two around a row of the probe; slices take 0.4 of a loop's time.
            for first, end in _runs(indices):
                place, size = places[first], end - first
                self.messages[place : place + size] = written[first:end]
                values[place : place + size] = [b""] * size
            for place, (value, why) in dead.items():
                self.dead[place], values[place] = why, value
            self.open -= len(places)
        else:
            for row in np.flatnonzero(due).tolist():
                self.store_one(places[row], scored[row])

    def store_one(self, place: int, scored: Scored) -> None:
        """Store one outcome that was missing."""
        self.codes[place] = STATUSES.index(scored.status)
        self.messages[place] = scored.message
        if scored.status == "dead_lettered":
            self.dead[place] = scored.reason, scored.detail
        else:
            self.rows.values[place] = b""
        self.open -= 1

    def replace(self, place: int, key: bytes, scored: Scored) -> None:
        """Replace the outcome under this key."""
        self.codes[place] = STATUSES.index(scored.status)
        self.messages[place] = scored.message
        self.rows.keys[place] = key

    def larger_than(self, limit: int) -> list[int]:
        """Return the indices of the outcomes that do not fit into a message of `limit` bytes."""
        keys = self.rows.keys
        if sizes.fits(limit, max(keys, key=len, default=b""), max(self.messages, key=len, default=b"")):
            return []
        return [at for at, message in enumerate(self.messages) if not sizes.fits(limit, text_at(keys, at), message)]

    @property
    def missing(self) -> list[int]:
        """Return the indices of the rows without an outcome."""
        places: list[int] = np.flatnonzero(self.codes == OPEN).tolist()
        return places

    def tally(self) -> Tally:
        """Count the rows that have an outcome, by bucket."""
        return _tally(self.codes)

    def counted_cells(self) -> list[Cell]:
        """Return the cells with their counts of outcomes."""
        return [
            replace(cell, **asdict(_tally(self.codes[self.rows.cell_of == at]))) for at, cell in enumerate(self.cells)
        ]


def _tally(codes: NDArray[np.uint8]) -> Tally:
    scored, failed, timed_out, dead_lettered = np.bincount(codes[codes != OPEN], minlength=len(STATUSES)).tolist()
    return Tally(scored, failed, timed_out, dead_lettered)


def _runs(indices: Indices) -> Iterator[tuple[int, int]]:
    """Yield the beginning and the end of each run of consecutive indices."""
    edges = np.flatnonzero(np.diff(indices, prepend=-2, append=-2) != 1).tolist()
    return pairwise(edges)
