"""A tick: windows that were sealed together and wait for their outcomes, and their records. No I/O."""

import hashlib
import json
import uuid
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, field

from gnomon_consumer.scorer.pool.jobs import Finished, Job
from gnomon_consumer.scorer.sampling.open_window import AssignmentToken
from gnomon_consumer.scorer.sealed.sampled_rows import SampledRows
from gnomon_consumer.scorer.worker.encoding import codec
from gnomon_consumer.settings import ScoreSettings
from gnomon_schemas.records import CloseReason, Gap, SamplingLimit, SamplingWindow, Usage, as_dict

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
    """Return a short hash of the settings that determine the sample."""
    said = {name: getattr(settings, name) for name in POLICY_FIELDS} | {"no_sampling": no_sampling}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """The content of a window's record: offsets [start, end), times in epoch microseconds, and close reason."""

    owner: AssignmentToken
    window_id: str
    start: int
    end: int
    opened_at: int
    sealed_at: int
    first_captured_at: int | None = None
    last_captured_at: int | None = None
    reason: CloseReason
    lag_s: float = 0.0
    gap: Gap | None = None
    limited_by: SamplingLimit | None = None


@dataclass(slots=True, eq=False)
class WindowUsage:
    """The workers' usage for a window: sums of time, peaks of memory; None if not measured."""

    cpu_us: int = 0
    peak_rss_bytes: int = 0
    gpu_us: int | None = None
    gpu_peak_bytes: int | None = None

    def add_batch(self, finished: Finished) -> None:
        """Add the usage of a batch."""
        self.cpu_us += finished.cpu_us
        self.peak_rss_bytes = max(self.peak_rss_bytes, finished.peak_rss_bytes)
        if finished.gpu_us is not None:
            self.gpu_us = (self.gpu_us or 0) + finished.gpu_us
        if finished.gpu_peak_bytes is not None:
            self.gpu_peak_bytes = max(self.gpu_peak_bytes or 0, finished.gpu_peak_bytes)


@dataclass(slots=True, eq=False)
class SealedWindow:
    """One sealed window: its record, its sampled rows with their outcomes, and their cost.

    `traces`: the `traceparent` of some captures by offset; `traceparent`: the window's own, if it has a span.
    """

    seal: Seal
    sample: SampledRows
    _: KW_ONLY
    usage: WindowUsage = field(default_factory=WindowUsage)
    dispatched: bool = False
    traces: dict[int, bytes] = field(default_factory=dict)
    traceparent: bytes | None = None

    @property
    def owner(self) -> AssignmentToken:
        """Return the assignment under which it was opened."""
        return self.seal.owner

    @property
    def window_id(self) -> str:
        """Return the name of the window in its record and outcomes."""
        return self.seal.window_id

    @property
    def complete(self) -> bool:
        """Return whether every sampled row has its outcome."""
        return self.sample.open == 0

    @property
    def seen(self) -> int:
        """Return the number of captures in the window, sampled or not."""
        return sum(cell.seen for cell in self.sample.cells)

    @property
    def lost(self) -> int:
        """Return the number of captures that could no longer be read."""
        return self.seal.gap.lost if self.seal.gap else 0

    def jobs(self, batch_rows: int, workers: int) -> Iterator[Job]:
        """Yield the probe and batches of the rest, each for one worker."""
        seal = self.seal
        for batch in self.sample.batches(batch_rows, workers):
            yield Job(
                window_id=seal.window_id,
                partition=seal.owner.partition,
                sealed_at=seal.sealed_at,
                rows=batch.rows,
                places=batch.places,
                single=batch.single,
            )

    def store(self, finished: Finished) -> None:
        """Store outcomes, and add their cost."""
        self.sample.store(finished.places, finished.scored)
        self.usage.add_batch(finished)

    def record(self, tick: "Tick") -> bytes:
        """Return the framed SamplingWindow of this window of a tick."""
        seal, usage = self.seal, self.usage
        window = SamplingWindow(
            window_id=seal.window_id,
            tick_id=tick.tick_id,
            source_partition=seal.owner.partition,
            start_offset=seal.start,
            end_offset=seal.end,
            first_captured_at=seal.first_captured_at,
            last_captured_at=seal.last_captured_at,
            opened_at=seal.opened_at,
            sealed_at=seal.sealed_at,
            close_reason=seal.reason,
            lag_s=seal.lag_s,
            seed=tick.seed,
            policy=tick.policy,
            cells=self.sample.counted_cells(),
            gap=seal.gap,
            usage=Usage(usage.cpu_us, usage.peak_rss_bytes, usage.gpu_us, usage.gpu_peak_bytes),
            limited_by=seal.limited_by,
        )
        return codec("SamplingWindow").encode(as_dict(window))


@dataclass(slots=True, eq=False, kw_only=True)
class Tick:
    """Windows sealed together by one seed and sampling policy; `deadline` in the clock's seconds."""

    windows: list[SealedWindow]
    deadline: float
    seed: int
    policy: str
    tick_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def open_rows(self) -> int:
        """Return the number of sampled rows without an outcome."""
        return sum(window.sample.open for window in self.windows)

    @property
    def dispatched(self) -> bool:
        """Return whether all rows were sent to workers."""
        return all(window.dispatched for window in self.windows)

    @property
    def complete(self) -> bool:
        """Return whether it may be committed."""
        return all(window.complete for window in self.windows)
