"""Decoded features to the columns that models take: each feature by its name, whatever its place in the schema."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gnomon_consumer.scorer.models.base import Column
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.features import Feature


def columns(
    records: pa.StructArray, features: Iterable[Feature], wanted: frozenset[str] | None = None
) -> dict[str, Column]:
    """The columns of `wanted` features (None: all). Raises ConfigurationError where a wanted one does not exist."""
    known = {feature.name: feature for feature in features}
    names = known.keys() if wanted is None else wanted
    for name in names:
        if name not in known:
            raise ConfigurationError(f"the captures have no feature {name!r}")
    return {name: _column(records.field(name), known[name]) for name in names}


def _column(values: pa.Array, feature: Feature) -> Column:
    missing = _numpy(values.is_null()) if values.null_count else None
    if missing is None and feature.kind == "double":
        return Column(_numpy(values))
    if feature.textual:
        return Column(_numpy(values.fill_null("")), missing)
    if feature.kind == "array":
        return Column(_array(values, missing), missing)
    if feature.kind == "boolean":
        return Column(_numpy(values.fill_null(fill_value=False)), missing)
    if feature.kind in ("int", "long"):
        return Column(_numpy(values.fill_null(0).cast(pa.int64())), missing)
    return Column(_numpy(values.cast(pa.float64()).fill_null(float("nan"))), missing)


def _array(values: pa.ListArray, missing: Any) -> Any:
    """[rows, width] where all have one length, NaN for a null; otherwise an object of one list a row."""
    lengths = pc.unique(pc.list_value_length(values.drop_null()))
    if len(lengths) == 1:
        width = lengths[0].as_py()
        flat = _numpy(values.flatten().cast(pa.float64())).reshape(-1, width) if width else np.zeros((0, 0))
        filled = np.full((len(values), width), np.nan)
        filled[slice(None) if missing is None else ~missing] = flat if width else 0.0
        return filled
    ragged = np.empty(len(values), dtype=object)
    for row, value in enumerate(values.to_pylist()):
        ragged[row] = [] if value is None else value
    return ragged


def _numpy(values: pa.Array) -> Any:
    return values.to_numpy(zero_copy_only=False)
