"""Sampled captures in columns, from the seal to a worker, so that no Python code runs per row. No I/O."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gnomon_schemas.arrays import Indices

T = TypeVar("T")
Texts: TypeAlias = list[bytes] | pa.BinaryArray
"""Byte strings: a list if they are added and removed one by one, an array if they are only passed on."""


class Row(NamedTuple):
    """One sampled capture: its coordinates, its place in the sample, and its bytes, not yet decoded."""

    partition: int
    offset: int
    key: bytes
    value: bytes
    stratum: str | None
    rank: int
    inclusion_probability: float
    probe_probability: float | None = None


class RowCell(NamedTuple):
    """The common properties of a cell's rows: stratum, inclusion probability, and probability to be in the probe."""

    stratum: str | None
    inclusion_probability: float
    probe_probability: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Sampled captures of one partition; `cells[cell_of[i]]` is the cell of row i."""

    partition: int
    offsets: NDArray[np.int64]
    ranks: NDArray[np.int64]
    cell_of: NDArray[np.int32]
    cells: Sequence[RowCell]
    keys: Texts
    values: Texts

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "Rows":
        """Return the columns of rows, all of which belong to the first row's partition."""
        kinds = [RowCell(row.stratum, row.inclusion_probability, row.probe_probability) for row in rows]
        cells = {cell: at for at, cell in enumerate(dict.fromkeys(kinds))}
        return cls(
            partition=rows[0].partition if rows else 0,
            offsets=np.array([row.offset for row in rows], np.int64),
            ranks=np.array([row.rank for row in rows], np.int64),
            cell_of=np.array([cells[kind] for kind in kinds], np.int32),
            cells=list(cells),
            keys=[row.key for row in rows],
            values=[row.value for row in rows],
        )

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, at: int) -> Row:
        stratum, probability, probe = self.cells[self.cell_of[at]]
        offset, rank = int(self.offsets[at]), int(self.ranks[at])
        key, value = text_at(self.keys, at), text_at(self.values, at)
        return Row(self.partition, offset, key, value, stratum, rank, probability, probe)

    def __iter__(self) -> Iterator[Row]:
        return (self[at] for at in range(len(self)))

    def select(self, places: Indices) -> "Rows":
        """Return the rows at these indices."""
        return Rows(
            partition=self.partition,
            offsets=self.offsets[places],
            ranks=self.ranks[places],
            cell_of=self.cell_of[places],
            cells=self.cells,
            keys=taken(self.keys, places),
            values=taken(self.values, places),
        )

    def cut(self, first: int, end: int) -> "Rows":
        """Return rows `first` to `end` - 1."""
        here = slice(first, end)
        return Rows(
            partition=self.partition,
            offsets=self.offsets[here],
            ranks=self.ranks[here],
            cell_of=self.cell_of[here],
            cells=self.cells,
            keys=self.keys[here],
            values=self.values[here],
        )

    @property
    def strata(self) -> list[str | None]:
        """Return the stratum of each row."""
        return [self.cells[cell].stratum for cell in self.cell_of.tolist()]

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Return the inclusion probability of each row."""
        return np.array([cell.inclusion_probability for cell in self.cells], np.float64)[self.cell_of]

    @property
    def probe_probabilities(self) -> NDArray[np.float64]:
        """Return the probability of each row to be in its window's probe; NaN for a row that is not in it."""
        found = [np.nan if cell.probe_probability is None else cell.probe_probability for cell in self.cells]
        return np.array(found, np.float64)[self.cell_of]


def text_at(texts: Texts, at: int) -> bytes:
    """Return one byte string."""
    text: Any = texts[at]
    found: bytes = text if isinstance(text, bytes) else text.as_py()
    return found


def as_array(texts: Texts) -> pa.BinaryArray:
    """Return the byte strings as an array."""
    return texts if isinstance(texts, pa.BinaryArray) else pa.array(texts, pa.binary())


def taken(texts: Texts, places: Indices) -> Texts:
    """Return the byte strings at these indices."""
    return texts.take(pa.array(places)) if isinstance(texts, pa.BinaryArray) else picked(texts, places)


def picked(items: Sequence[T], places: Indices) -> list[T]:
    """Return the items at these indices."""
    return list(map(items.__getitem__, places.tolist()))


def chained(lists: Iterable[Iterable[T]]) -> list[T]:
    """Return one list of all items."""
    return list(chain.from_iterable(lists))
