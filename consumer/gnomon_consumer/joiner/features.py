"""Where each feature lives in the arrays of `pairs`: positions are given once and for ever, under a lock."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from gnomon_schemas.codec import Record
from gnomon_schemas.features import Feature, FeatureSchema
from gnomon_schemas.schema import Schema


@dataclass(frozen=True, slots=True)
class Layout:
    """The features of one writer schema in the order of their positions; None where a position is not its own."""

    numeric: tuple[str | None, ...]
    textual: tuple[str | None, ...]
    arrays: frozenset[str]

    def numbers(self, features: Record) -> list[float | None]:
        """The row's `features_numeric`; booleans count as 0 and 1."""
        return [None if name is None or (number := features[name]) is None else float(number) for name in self.numeric]

    def texts(self, features: Record) -> list[str | None]:
        """The row's `features_text`; an array of numbers stands there as JSON."""
        return [self._text(name, features) for name in self.textual]

    def _text(self, name: str | None, features: Record) -> str | None:
        if name is None or features[name] is None:
            return None
        return json.dumps(features[name]) if name in self.arrays else str(features[name])


def kind_of(feature: Feature) -> str:
    """`numeric` for what one number stands for, `text` for all else."""
    return "numeric" if feature.numeric else "text"


class FeatureColumns:
    """The layouts of a stream, allocated in the database as new writer schemas turn up."""

    def __init__(self, stream_id: int) -> None:
        self._stream_id = stream_id
        self._by_fingerprint: dict[bytes, Layout] = {}

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
