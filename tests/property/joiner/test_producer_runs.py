"""Counts of producer runs from columns equal those of a loop over captures."""

from collections import defaultdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gnomon_consumer.joiner.merge.producer_runs import ProducerRuns, RunCounts
from gnomon_schemas.peeks import Peeks

NAMES = ["a", "b", "c", "d"]
Capture = tuple[str, int, int]
Row = tuple[str, int, int, int, int, int, int]
captures = st.tuples(st.sampled_from(NAMES), st.integers(0, 5), st.integers(-9, 2**62))
blocks = st.lists(st.lists(captures, max_size=12), max_size=4)


def read(block: list[Capture]) -> Peeks:
    """Return the result of `peeks` for a block: producers in the order in which they first occur."""
    producers = list(dict.fromkeys(name for name, _, _ in block))
    columns = ([producers.index(name) for name, _, _ in block], [n for _, n, _ in block], [at for _, _, at in block])
    return Peeks(np.arange(len(block)), producers, *(np.array(column, np.int64) for column in columns))


def rows(counts: RunCounts) -> list[Row]:
    columns = (
        counts.received, counts.repeated, counts.lowest_sequence, counts.highest_sequence, counts.first_captured_at,
        counts.last_captured_at,
    )  # fmt: skip
    return sorted(zip(counts.producers, *(column.tolist() for column in columns), strict=True))


def one_by_one(window: list[Capture]) -> dict[str, Row]:
    runs: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for name, sequence, at in window:
        runs[name].append((sequence, at))
    found: dict[str, Row] = {}
    for name, own in runs.items():
        sequences, times = [sequence for sequence, _ in own], [at for _, at in own]
        again = len(own) - len(set(sequences))
        found[name] = (name, len(own), again, min(sequences), max(sequences), min(times), max(times))
    return found


def counted(window: list[list[Capture]], kept: int) -> RunCounts:
    """Count the captures of a window whose sequence is below `kept`; the others represent unreadable ones."""
    runs = ProducerRuns()
    for block in window:
        peeked = read(block)
        runs.add_captures(peeked, np.flatnonzero(peeked.sequences < kept))
    return runs.counts()


@given(blocks, st.integers(0, 6))
def test_a_window(window: list[list[Capture]], kept: int) -> None:
    expected = one_by_one([one for block in window for one in block if one[1] < kept])
    assert rows(counted(window, kept)) == sorted(expected.values())


@given(st.lists(blocks, min_size=1, max_size=3), st.sets(st.sampled_from(NAMES)))
def test_windows_together(windows: list[list[list[Capture]]], wanted: set[str]) -> None:
    """Captures of unwanted runs are not counted; repeats count only within a window."""
    together = RunCounts.joined([counted(window, 6) for window in windows])
    runs = sorted(wanted & set(together.producers))
    if not runs:
        return
    run_of = np.array([runs.index(name) if name in runs else -1 for name in together.producers])
    by_window = [one_by_one([one for block in window for one in block]) for window in windows]
    expected = []
    for name in runs:
        _, received, again, lowest, highest, first, last = zip(*(w[name] for w in by_window if name in w), strict=True)
        expected.append((name, sum(received), sum(again), min(lowest), max(highest), min(first), max(last)))
    assert rows(together.sum_by_run(run_of, runs)) == expected
