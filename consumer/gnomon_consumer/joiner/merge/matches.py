"""Outcomes with the live messages at their source offsets, from which pairs are assembled. No I/O."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from gnomon_consumer.joiner.merge.shadow_records import NONE, plain, together
from gnomon_schemas.codec import Record


class Match(NamedTuple):
    """A shadow outcome, by the fields that the ledger keeps, and the live message at its source offset."""

    shadow: Record
    value: bytes | None
    cell: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A sampled capture that cannot become a pair, and the reason from a closed vocabulary."""

    shadow: Record
    cell: str
    stage: str
    reason: str
    detail: str
    size: int | None


@dataclass(slots=True)
class Matches:
    """Matches as columns: row i of `shadow` has the live message `values[i]` and is counted in `cells[i]`."""

    shadow: pa.RecordBatch = field(default_factory=lambda: NONE)
    values: list[bytes | None] = field(default_factory=list)
    cells: list[str] = field(default_factory=list)

    @classmethod
    def joined(cls, parts: Sequence["Matches"]) -> "Matches":
        """Return the matches of several windows, one after the other."""
        if len(parts) == 1:
            return parts[0]
        values = [value for part in parts for value in part.values]
        return cls(together([part.shadow for part in parts]), values, [cell for part in parts for cell in part.cells])

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, at: int) -> Match:
        (shadow,) = plain(self.shadow, np.array([at]))
        return Match(shadow, self.values[at], self.cells[at])

    def __iter__(self) -> Iterator[Match]:
        return (self[at] for at in range(len(self)))
