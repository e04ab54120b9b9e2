"""The position of each feature in the arrays of `pairs`: assigned once under a lock, and never changed."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gnomon_schemas.arrow import values_of
from gnomon_schemas.features import Feature
from gnomon_schemas.records import LARGEST_NUMBER


@dataclass(frozen=True, slots=True)
class Layout:
    """The fields of one writer schema in the order of their positions; None for positions of other schemas.

    The text of `structured` fields (arrays and maps) is JSON; `millis` are times that are stored in microseconds.
    """

    numeric: tuple[str | None, ...]
    textual: tuple[str | None, ...]
    structured: frozenset[str]
    millis: frozenset[str] = frozenset()

    def numbers(self, features: pa.StructArray) -> pa.ListArray:
        """Return `features_numeric` of each row; booleans count as 0 and 1."""
        return _interleaved([self._number(name, features) for name in self.numeric], len(features), pa.float64())

    def texts(self, features: pa.StructArray) -> pa.ListArray:
        """Return `features_text` of each row; an array or a map is stored as JSON."""
        return _interleaved([self._text(name, features) for name in self.textual], len(features), pa.string())

    def _number(self, name: str | None, features: pa.StructArray) -> pa.Array:
        if name is None:
            return pa.nulls(len(features), pa.float64())
        # Beyond 2**53 a double holds only the nearest number.
        column = features.field(name).cast(pa.float64(), safe=False)
        return bounded(pc.multiply(column, 1000.0) if name in self.millis else column)

    def _text(self, name: str | None, features: pa.StructArray) -> pa.Array:
        if name is None:
            return pa.nulls(len(features), pa.string())
        column = features.field(name)
        if name not in self.structured:
            return column.cast(pa.string())
        return pa.array([None if row is None else json.dumps(row) for row in values_of(column)], pa.string())


def bounded(numbers: pa.DoubleArray) -> pa.DoubleArray:
    """Return numbers beyond ±LARGEST_NUMBER as ±infinity, which sums leave out and every report counts."""
    values = numbers.to_numpy(zero_copy_only=False)
    beyond = np.abs(values) > LARGEST_NUMBER
    if not beyond.any():
        return numbers
    return pa.array(np.where(beyond, np.copysign(np.inf, values), values), mask=numbers.is_null().to_numpy(False))


def _interleaved(columns: Sequence[pa.Array], rows: int, kind: pa.DataType) -> pa.ListArray:
    """Return for each row the list of its values in all columns."""
    width = len(columns)
    ends = pa.array(np.arange(rows + 1, dtype=np.int32) * width)
    if not width:
        return pa.ListArray.from_arrays(ends, pa.array([], kind))
    if kind == pa.float64() and not any(column.null_count for column in columns):
        table = np.empty((rows, width))
        for at, column in enumerate(columns):
            table[:, at] = column.to_numpy()
        return pa.ListArray.from_arrays(ends, pa.array(table.reshape(-1)))
    by_row = np.arange(rows * width).reshape(width, rows).T.reshape(-1)
    return pa.ListArray.from_arrays(ends, pa.concat_arrays(columns).take(pa.array(by_row)))


def kind_of(feature: Feature) -> str:
    """Return `numeric` for a feature stored as one number, `text` for all others."""
    return "numeric" if feature.numeric else "text"


def stored_type(feature: Feature) -> str:
    """Return the type stored in `pairs`: all times of a stream have one unit, whichever schema wrote them."""
    return written_type(feature).replace("-millis", "-micros")


def written_type(feature: Feature) -> str:
    """Return the type in the capture."""
    return feature.logical or feature.kind
