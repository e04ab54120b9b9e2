"""Convert decoded features to the columns that models take, each by its name, not by its position."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gnomon_consumer.scorer.worker.models.base import LIVE_ITEMS, FeatureColumn
from gnomon_schemas.arrow import values_of
from gnomon_schemas.features import Feature, by_any_name

_WHOLE = ("int", "long")


def columns(
    records: pa.StructArray, features: Iterable[Feature], wanted: frozenset[str] | None = None
) -> dict[str, FeatureColumn]:
    """Return the columns of the `wanted` features that the captures have (None: all), by the wanted names."""
    if wanted is None:
        chosen = {feature.name: feature for feature in features}
    else:
        chosen = {name: feature for name, feature in by_any_name(features).items() if name in wanted}
    return {name: _column(records.field(feature.field), feature) for name, feature in chosen.items()}


def live_items(captures: pa.RecordBatch) -> FeatureColumn:
    """Return the items of the live predictions."""
    items = pc.struct_field(captures.column("prediction"), "items")
    return _list_column(items, _numpy(items.is_null()) if items.null_count else None, LIVE_ITEMS)


def _column(values: pa.Array, feature: Feature) -> FeatureColumn:
    missing = _numpy(values.is_null()) if values.null_count else None
    if missing is None and feature.kind == "double":
        return FeatureColumn(_numpy(values), nullable=feature.nullable)
    if feature.kind == "map":
        return FeatureColumn(_maps(values), missing, feature.nullable)
    if feature.kind == "array":
        return _list_column(values, missing, feature)
    return FeatureColumn(_plain(values, feature.kind), missing, feature.nullable)


def _plain(values: pa.Array, kind: str) -> Any:
    """Return numbers as float64 or int64, booleans as bool, texts as objects; a null float is NaN."""
    if kind in ("string", "enum"):
        return _numpy(values.fill_null(""))
    if kind == "boolean":
        return _numpy(values.fill_null(fill_value=False))
    if kind in _WHOLE:
        return _numpy(values.fill_null(0).cast(pa.int64()))
    return _numpy(values.cast(pa.float64()).fill_null(float("nan")))


def _list_column(values: pa.ListArray, missing: Any, feature: Feature) -> FeatureColumn:
    """Return [rows, width] if all rows have the same length and none is null, otherwise one array for each row."""
    flat = _plain(values.flatten(), feature.items or "double")
    lengths = _numpy(pc.list_value_length(values).fill_null(0))
    if missing is None and len(values) and (lengths == lengths[0]).all():
        return FeatureColumn(flat.reshape(len(values), lengths[0]), None, feature.nullable)
    ends = np.cumsum(lengths)
    ragged = np.empty(len(values), dtype=object)
    for row, (end, length) in enumerate(zip(ends.tolist(), lengths.tolist(), strict=True)):
        ragged[row] = flat[end - length : end]
    return FeatureColumn(ragged, missing, feature.nullable, ragged=True)


def _maps(values: pa.Array) -> Any:
    """Return a dict for each row, empty for a null."""
    column = np.empty(len(values), dtype=object)
    for row, value in enumerate(values_of(values)):
        column[row] = {} if value is None else value
    return column


def _numpy(values: pa.Array) -> Any:
    return values.to_numpy(zero_copy_only=False)
