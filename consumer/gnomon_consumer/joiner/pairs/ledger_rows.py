"""The rows of the ledger: a joined window's claims, the joiner's counts and refusals. No I/O."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from gnomon_consumer.joiner.merge.matches import Refusal
from gnomon_consumer.joiner.merge.producer_runs import RunCounts
from gnomon_consumer.joiner.merge.shadow_records import chosen, different
from gnomon_consumer.joiner.merge.window import JoinedWindow, is_approximate
from gnomon_consumer.joiner.pairs.assemble import Assembled, uuid_bytes
from gnomon_consumer.joiner.pairs.rollup import Rollup, Tolerance
from gnomon_consumer.times import HOUR_US, moment
from gnomon_schemas.arrays import Integers
from gnomon_schemas.records import NO_STRATUM, Cell
from gnomon_schemas.texts import storable

WINDOW_COLUMNS = (
    "deployment_id", "source_partition", "start_offset", "end_offset", "window_id", "tick_id", "first_captured_at",
    "last_captured_at", "opened_at", "sealed_at", "close_reason", "lag_s", "seed", "policy", "gap_reason", "gap_lost",
    "cpu_us", "peak_rss_bytes", "gpu_us", "gpu_peak_bytes", "seen", "joined_seen", "joined_missing", "shadow_offset",
    "limited_by", "probe_approximate",
)  # fmt: skip
_CLAIMED = (
    "seen", "sampled", "draw_probability", "threshold", "scored", "failed", "timed_out", "dead_lettered", "probed",
    "probe_probability",
)  # fmt: skip
_NO_CLAIM = Cell(stratum=NO_STRATUM, seen=0, sampled=0, probed=0, probe_probability=0)
CELL_COLUMNS = (
    "deployment_id", "source_partition", "start_offset", "stratum", *_CLAIMED, "joined_seen", "joined_scored",
    "joined_failed", "joined_timed_out", "joined_dead_lettered", "joined_orphaned",
)  # fmt: skip
LETTER_COLUMNS = (
    "deployment_id", "source_partition", "source_offset", "request_id", "stratum", "stage", "reason", "detail", "size",
    "window_start", "inclusion_probability", "rank",
)  # fmt: skip


def window_row(deployment_id: int, window: JoinedWindow) -> tuple[Any, ...]:
    """Return a row of WINDOW_COLUMNS."""
    seal = window.seal
    gap, usage = seal.gap, seal.usage
    return (
        deployment_id,
        seal.source_partition,
        seal.start_offset,
        seal.end_offset,
        seal.window_id,
        seal.tick_id,
        _moment_or_none(seal.first_captured_at),
        _moment_or_none(seal.last_captured_at),
        moment(seal.opened_at),
        moment(seal.sealed_at),
        seal.close_reason,
        seal.lag_s,
        seal.seed,
        seal.policy,
        gap.reason if gap else None,
        gap.lost if gap else 0,
        usage.cpu_us,
        usage.peak_rss_bytes,
        usage.gpu_us,
        usage.gpu_peak_bytes,
        window.claimed_seen,
        window.joined_seen,
        max(0, window.claimed_seen - window.joined_seen),
        window.shadow_offset,
        seal.limited_by,
        is_approximate(seal),
    )


CellCounts = defaultdict[str, Counter[str]]
"""The counts of a window's sampled rows, by stratum and outcome."""


def recount(
    windows: Sequence[JoinedWindow],
    assembled: Assembled,
    kept: Integers,
    refusals: Sequence[tuple[int, Refusal]],
    tolerance: Tolerance,
) -> tuple[list[CellCounts], Rollup]:
    """Count the results of every sampled row and seen capture, by window and by hour.

    `kept` are the rows of `assembled` that are pairs now, `refusals` the others with the indices of their windows.
    """
    counted = [CellCounts(Counter) for _ in windows]
    rollup = Rollup()
    pairs = chosen(assembled.batch, kept)
    keys, key_of = different(pa.array(assembled.window_of[kept]), pairs["stratum"], pairs["outcome"])
    for (at, cell, outcome), number in zip(keys, np.bincount(key_of, minlength=len(keys)).tolist(), strict=True):
        counted[at][cell][outcome] += number
    others = [(at, refusal.cell, "dead_lettered") for at, refusal in refusals]
    others += [(at, cell, "orphaned") for at, window in enumerate(windows) for cell, _ in window.orphans]
    for at, cell, outcome in others:
        counted[at][cell][outcome] += 1
        rollup.count((hour_of(windows[at]), cell), outcome)
        rollup.count((hour_of(windows[at]), cell), "sampled")
    for window in windows:
        for key, seen in window.hours.items():
            rollup.count(key, "seen", seen)
    rollup.add_pairs(pairs, tolerance)
    return counted, rollup


def cell_rows(
    deployment_id: int, windows: Sequence[JoinedWindow], counted: Sequence[CellCounts]
) -> Iterator[tuple[Any, ...]]:
    """Return rows of CELL_COLUMNS from the result of `recount`."""
    for window, counts in zip(windows, counted, strict=True):
        seal = window.seal
        claims = {storable(cell.stratum): cell for cell in seal.cells}
        for stratum in sorted(claims.keys() | counts.keys() | window.seen.keys()):
            claim, count = claims.get(stratum, _NO_CLAIM), counts.get(stratum, Counter[str]())
            yield (
                deployment_id,
                seal.source_partition,
                seal.start_offset,
                stratum,
                *(getattr(claim, name) for name in _CLAIMED),
                window.seen[stratum],
                *(count[name] for name in ("scored", "failed", "timed_out", "dead_lettered", "orphaned")),
            )


def letter_row(deployment_id: int, window: JoinedWindow, refusal: Refusal) -> tuple[Any, ...]:
    """Return a row of LETTER_COLUMNS."""
    shadow = refusal.shadow
    return (
        deployment_id,
        shadow["source_partition"],
        shadow["source_offset"],
        storable(shadow["request_id"]),
        refusal.cell,
        refusal.stage,
        storable(refusal.reason),
        storable(refusal.detail),
        refusal.size,
        window.seal.start_offset,
        shadow["inclusion_probability"],
        shadow["rank"],
    )


def tally_columns(windows: Sequence[JoinedWindow]) -> list[str]:
    """Return the arguments of `add_tallies`: arrays in key order, so that all writers lock in the same order.

    A producer id that is not a UUID has no tally.
    """
    runs = [
        (window.seal.source_partition, uuid_bytes(producer)) for window in windows for producer in window.runs.producers
    ]
    distinct = sorted({(partition, producer) for partition, producer in runs if producer is not None})
    if not distinct:
        return []
    number: dict[tuple[int, bytes | None], int] = {run: at for at, run in enumerate(distinct)}
    run_of = np.array([number.get(run, -1) for run in runs])
    found = RunCounts.joined([window.runs for window in windows]).sum_by_run(run_of, [one.hex() for _, one in distinct])
    numbers = (found.received, found.lowest_sequence, found.highest_sequence, found.repeated)
    times = (found.first_captured_at, found.last_captured_at)
    return [
        _array(partition for partition, _ in distinct),
        _array(found.producers),
        *(_array(column.tolist()) for column in numbers),
        *(_array(np.datetime_as_string(column.astype("datetime64[us]")).tolist()) for column in times),
    ]


def _array(values: Iterable[object]) -> str:
    """Return an array as PostgreSQL reads it, of values that need no quotes."""
    return f"{{{','.join(map(str, values))}}}"


def _moment_or_none(micros: int | None) -> datetime | None:
    return None if micros is None else moment(micros)


def hour_of(window: JoinedWindow) -> int:
    """Return the hour in which a window begins, for rows without an event time."""
    return (window.seal.first_captured_at or window.seal.opened_at) // HOUR_US


def place(window: JoinedWindow) -> tuple[int, int]:
    """Return partition and start, the order in which windows are applied."""
    return window.seal.source_partition, window.seal.start_offset
