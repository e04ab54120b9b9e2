"""The sampled windows of another deployment, so that a challenger can be scored on the same captures. No I/O."""

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gnomon_consumer.scorer.sampling.allocation import Allocation, SealedCell
from gnomon_consumer.scorer.sampling.open_window import AssignmentToken
from gnomon_consumer.scorer.sampling.reservoir import Sample
from gnomon_consumer.scorer.sealed.sampled_rows import SampledRows
from gnomon_consumer.scorer.sealed.window import Seal, SealedWindow
from gnomon_schemas.codec import Record
from gnomon_schemas.records import Cell, SamplingWindow, from_dict


@dataclass(frozen=True, slots=True)
class RecordedWindow:
    """A window as its deployment sealed it: the SamplingWindow, and the ShadowPredictions in the order of offsets."""

    seal: SamplingWindow
    rows: Sequence[Record]

    @property
    def start(self) -> int:
        """Return the first source offset."""
        return self.seal.start_offset

    @property
    def end(self) -> int:
        """Return the source offset after the last one."""
        return self.seal.end_offset

    @property
    def whole(self) -> bool:
        """Return whether every sampled row still exists; retention may have removed the first ones."""
        return len(self.rows) == sum(cell.sampled for cell in self.seal.cells)


def recorded_windows(records: Iterable[tuple[str, Record]]) -> Iterator[RecordedWindow]:
    """Yield the windows of one shadow partition, each once, from its (record name, record) in order.

    Skips rows that were never sealed and repeated windows, as the joiner does.
    """
    rows: dict[str, dict[int, Record]] = {}
    position = -1
    for name, record in records:
        if name.endswith("ShadowPrediction"):
            rows.setdefault(record["window_id"], {}).setdefault(record["source_offset"], record)
        elif name.endswith("SamplingWindow"):
            found = rows.get(record["window_id"], {})
            rows = {}
            if record["end_offset"] > position:
                position = record["end_offset"]
                yield RecordedWindow(from_dict(SamplingWindow, record), [found[offset] for offset in sorted(found)])


def sealed(
    window: RecordedWindow,
    captures: Mapping[int, tuple[bytes, bytes]],
    now_us: int,
    *,
    probe_rows: int,
    allocation: Allocation,
) -> SealedWindow:
    """Return a whole window with the same cells, captures and probabilities; `captures`: offset -> key, bytes.

    The fields about sampling are the other deployment's; identity, times and outcomes are new.
    """
    seal = window.seal
    owner, window_id = AssignmentToken(seal.source_partition), str(uuid.uuid4())
    cells = [_cell(cell, window.rows, captures) for cell in seal.cells]
    own = Seal(
        owner=owner,
        window_id=window_id,
        start=window.start,
        end=window.end,
        opened_at=now_us,
        sealed_at=now_us,
        first_captured_at=seal.first_captured_at,
        last_captured_at=seal.last_captured_at,
        reason=seal.close_reason,
        lag_s=seal.lag_s,
        gap=seal.gap,
        limited_by=seal.limited_by,
    )
    return SealedWindow(
        own, SampledRows.of(owner.partition, window_id, cells, probe_rows=probe_rows, allocation=allocation)
    )


def _cell(cell: Cell, rows: Sequence[Record], captures: Mapping[int, tuple[bytes, bytes]]) -> SealedCell[bytes]:
    mine = [row for row in rows if (row["stratum"] or "") == cell.stratum]
    offsets = [row["source_offset"] for row in mine]
    sample = Sample(
        np.array([row["rank"] for row in mine], np.int64),
        [captures[offset][0] for offset in offsets],
        np.array(offsets, np.int64),
        [captures[offset][1] for offset in offsets],
    )
    return SealedCell(
        stratum=cell.stratum,
        seen=cell.seen,
        sample=sample,
        draw_probability=cell.draw_probability,
        threshold=cell.threshold,
    )
