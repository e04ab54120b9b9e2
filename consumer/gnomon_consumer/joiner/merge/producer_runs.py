"""The captures of each producer run: their number, sequence numbers and times.

Columns; no Python per capture. No I/O.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gnomon_schemas.arrays import Integers
from gnomon_schemas.peeks import Peeks


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCounts:
    """Counts of producer runs; row i is the run `producers[i]`.

    `repeated` is how many sequence numbers occurred more than once in one window.
    """

    producers: Sequence[str]
    received: Integers
    repeated: Integers
    lowest_sequence: Integers
    highest_sequence: Integers
    first_captured_at: Integers
    last_captured_at: Integers

    @classmethod
    def none(cls) -> "RunCounts":
        """Return the counts of a window without a readable capture."""
        none = np.empty(0, np.int64)
        return cls(
            producers=(),
            received=none,
            repeated=none,
            lowest_sequence=none,
            highest_sequence=none,
            first_captured_at=none,
            last_captured_at=none,
        )

    def sum_by_run(self, run_of: Integers, runs: Sequence[str]) -> "RunCounts":
        """Return the counts of `runs`, each of which has a row here: row i belongs to `runs[run_of[i]]` (-1: none)."""
        order = np.argsort(run_of, kind="stable")[np.count_nonzero(run_of < 0) :]
        starts = np.flatnonzero(np.diff(run_of[order], prepend=-1))
        return RunCounts(
            producers=runs,
            received=np.add.reduceat(self.received[order], starts),
            repeated=np.add.reduceat(self.repeated[order], starts),
            lowest_sequence=np.minimum.reduceat(self.lowest_sequence[order], starts),
            highest_sequence=np.maximum.reduceat(self.highest_sequence[order], starts),
            first_captured_at=np.minimum.reduceat(self.first_captured_at[order], starts),
            last_captured_at=np.maximum.reduceat(self.last_captured_at[order], starts),
        )

    @classmethod
    def joined(cls, parts: Sequence["RunCounts"]) -> "RunCounts":
        """Return the rows of all parts; a run in several parts has several rows."""
        return cls(
            producers=[producer for part in parts for producer in part.producers],
            received=np.concatenate([part.received for part in parts]),
            repeated=np.concatenate([part.repeated for part in parts]),
            lowest_sequence=np.concatenate([part.lowest_sequence for part in parts]),
            highest_sequence=np.concatenate([part.highest_sequence for part in parts]),
            first_captured_at=np.concatenate([part.first_captured_at for part in parts]),
            last_captured_at=np.concatenate([part.last_captured_at for part in parts]),
        )


class ProducerRuns:
    """The captures of a window by producer run, while the window is read."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}
        self._parts: list[tuple[Integers, Integers, Integers]] = []

    def add_captures(self, read: Peeks, places: Integers) -> None:
        """Add the captures at `places` of `read`."""
        known = self._known
        number = np.array([known.setdefault(name, len(known)) for name in read.producers], np.int64)
        self._parts.append((number[read.producer_of[places]], read.sequences[places], read.captured_at[places]))

    def counts(self) -> RunCounts:
        """Return the counts of the runs that have a capture: one sort for any number of runs."""
        if not any(len(runs) for runs, _, _ in self._parts):
            return RunCounts.none()
        runs, sequences, times = (np.concatenate(column) for column in zip(*self._parts, strict=True))
        order = np.lexsort((sequences, runs))
        runs, sequences, times = runs[order], sequences[order], times[order]
        starts = np.flatnonzero(np.diff(runs, prepend=-1))
        again = np.append(0, (np.diff(runs) == 0) & (np.diff(sequences) == 0))
        received = np.diff(starts, append=len(runs))
        names = list(self._known)
        return RunCounts(
            producers=[names[run] for run in runs[starts].tolist()],
            received=received,
            repeated=np.add.reduceat(again, starts),
            lowest_sequence=sequences[starts],
            highest_sequence=sequences[starts + received - 1],
            first_captured_at=np.minimum.reduceat(times, starts),
            last_captured_at=np.maximum.reduceat(times, starts),
        )
