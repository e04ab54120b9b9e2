"""Where each feature lives in the arrays of `pairs`: positions are given once and for ever, under a lock."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa

from gnomon_schemas.features import Feature, FeatureSchema
from gnomon_schemas.schema import Schema


@dataclass(frozen=True, slots=True)
class Layout:
    """The features of one writer schema in the order of their positions; None where a position is not its own."""

    numeric: tuple[str | None, ...]
    textual: tuple[str | None, ...]
    arrays: frozenset[str]

    def numbers(self, features: pa.StructArray) -> pa.ListArray:
        """`features_numeric` of each row; booleans count as 0 and 1."""
        return _interleaved([self._number(name, features) for name in self.numeric], len(features), pa.float64())

    def texts(self, features: pa.StructArray) -> pa.ListArray:
        """`features_text` of each row; an array of numbers stands there as JSON."""
        return _interleaved([self._text(name, features) for name in self.textual], len(features), pa.string())

    @staticmethod
    def _number(name: str | None, features: pa.StructArray) -> pa.Array:
        if name is None:
            return pa.nulls(len(features), pa.float64())
        # Beyond 2**53 a double is the nearest there is.
        return features.field(name).cast(pa.float64(), safe=False)

    def _text(self, name: str | None, features: pa.StructArray) -> pa.Array:
        if name is None:
            return pa.nulls(len(features), pa.string())
        column = features.field(name)
        if name not in self.arrays:
            return column.cast(pa.string())
        return pa.array([None if row is None else json.dumps(row) for row in column.to_pylist()], pa.string())


def _interleaved(columns: Sequence[pa.Array], rows: int, kind: pa.DataType) -> pa.ListArray:
    """One list a row of what stands at that row in each column."""
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
    """`numeric` for what one number stands for, `text` for all else."""
    return "numeric" if feature.numeric else "text"


class FeatureColumns:
    """The layouts of a stream, allocated in the database as new writer schemas turn up."""

    def __init__(self, stream_id: int) -> None:
        self._stream_id = stream_id
        self._by_fingerprint: dict[bytes, Layout] = {}

    def knows(self, schema: Schema) -> bool:
        """Whether the layout of a schema was asked for before."""
        return schema.fingerprint.value in self._by_fingerprint

    def layout(self, connection: psycopg.Connection[Any], schema: Schema) -> Layout:
        """The layout of a LivePrediction schema; commits a transaction of its own when the schema is new."""
        known = self._by_fingerprint.get(schema.fingerprint.value)
        if known is None:
            known = self._allocate(connection, FeatureSchema.in_live(schema).features)
            self._by_fingerprint[schema.fingerprint.value] = known
        return known

    def _allocate(self, connection: psycopg.Connection[Any], features: Sequence[Feature]) -> Layout:
        with connection.transaction():
            connection.execute("select from gnomon.streams where stream_id = %s for no key update", [self._stream_id])
            rows = connection.execute(
                "select name, kind, position from gnomon.feature_columns where stream_id = %s", [self._stream_id]
            ).fetchall()
            positions: dict[tuple[str, str], int] = {(name, kind): position for name, kind, position in rows}
            for feature in features:
                kind = kind_of(feature)
                if (feature.name, kind) not in positions:
                    taken = [position for (_, other), position in positions.items() if other == kind]
                    positions[feature.name, kind] = max(taken, default=0) + 1
                    connection.execute(
                        "insert into gnomon.feature_columns (stream_id, name, kind, position, avro_type)"
                        " values (%s, %s, %s, %s, %s)",
                        [self._stream_id, feature.name, kind, positions[feature.name, kind], feature.kind],
                    )
        return Layout(
            numeric=_ordered(features, positions, "numeric"),
            textual=_ordered(features, positions, "text"),
            arrays=frozenset(feature.name for feature in features if feature.kind == "array"),
        )


def _ordered(features: Sequence[Feature], positions: dict[tuple[str, str], int], kind: str) -> tuple[str | None, ...]:
    own = {positions[feature.name, kind]: feature.name for feature in features if kind_of(feature) == kind}
    return tuple(own.get(position) for position in range(1, max(own, default=0) + 1))
