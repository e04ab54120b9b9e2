"""The position of each feature in the arrays of pairs: allocated once, under a lock, and never changed."""

from collections.abc import Sequence
from typing import Any

import psycopg

from gnomon_consumer.database.queries import queries_of
from gnomon_consumer.joiner.pairs.feature_layout import Layout, kind_of, stored_type, written_type
from gnomon_schemas.features import Feature, FeatureSchema
from gnomon_schemas.schema import Schema

SQL = queries_of(__package__)


class FeatureColumns:
    """The layouts of a stream, allocated in the database when new writer schemas appear."""

    def __init__(self, stream_id: int) -> None:
        self._stream_id = stream_id
        self._by_fingerprint: dict[bytes, Layout] = {}

    def knows(self, schema: Schema) -> bool:
        """Return whether the layout of a schema is already known."""
        return schema.fingerprint.value in self._by_fingerprint

    def layout(self, connection: psycopg.Connection[Any], schema: Schema) -> Layout:
        """Return the layout of a LivePrediction schema; commit a separate transaction if the schema is new."""
        known = self._by_fingerprint.get(schema.fingerprint.value)
        if known is None:
            known = self._allocate(connection, FeatureSchema.in_live(schema).features)
            self._by_fingerprint[schema.fingerprint.value] = known
        return known

    def _allocate(self, connection: psycopg.Connection[Any], features: Sequence[Feature]) -> Layout:
        with connection.transaction():
            connection.execute(SQL["lock_stream"], [self._stream_id])
            rows = connection.execute(SQL["feature_columns"], [self._stream_id]).fetchall()
            positions: dict[tuple[str, str], int] = {(name, kind): position for name, kind, position in rows}
            for feature in features:
                kind = kind_of(feature)
                if (feature.name, kind) not in positions:
                    taken = [position for (_, other), position in positions.items() if other == kind]
                    positions[feature.name, kind] = max(taken, default=0) + 1
                    connection.execute(
                        SQL["new_feature_column"],
                        [self._stream_id, feature.name, kind, positions[feature.name, kind], stored_type(feature)],
                    )
        return Layout(
            numeric=_ordered(features, positions, "numeric"),
            textual=_ordered(features, positions, "text"),
            structured=frozenset(feature.field for feature in features if feature.kind in ("array", "map")),
            millis=frozenset(feature.field for feature in features if stored_type(feature) != written_type(feature)),
        )


def _ordered(features: Sequence[Feature], positions: dict[tuple[str, str], int], kind: str) -> tuple[str | None, ...]:
    own = {positions[feature.name, kind]: feature.field for feature in features if kind_of(feature) == kind}
    return tuple(own.get(position) for position in range(1, max(own, default=0) + 1))
