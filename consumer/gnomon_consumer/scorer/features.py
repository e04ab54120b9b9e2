"""Records of features to columns: each feature by its name, whatever its place in the writer's schema."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from gnomon_consumer.scorer.models.base import Column
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.features import Feature


def columns(
    records: Sequence[Mapping[str, Any]], features: Iterable[Feature], wanted: frozenset[str] | None = None
) -> dict[str, Column]:
    """The columns of `wanted` features (None: all). Raises ConfigurationError where a wanted one does not exist."""
    known = {feature.name: feature for feature in features}
    names = known.keys() if wanted is None else wanted
    for name in names:
        if name not in known:
            raise ConfigurationError(f"the captures have no feature {name!r}")
    return {name: _column([record[name] for record in records], known[name]) for name in names}


def _column(values: list[Any], feature: Feature) -> Column:
    missing = None
    if feature.nullable and None in values:
        missing = np.fromiter((value is None for value in values), bool, len(values))
    if feature.textual:
        return Column(_texts(["" if value is None else value for value in values]), missing)
    if feature.kind == "array":
        return _array(values, missing)
    if feature.kind == "boolean":
        return Column(np.array([bool(value) for value in values], dtype=bool), missing)
    if feature.kind in ("int", "long"):
        return Column(np.array([0 if value is None else value for value in values], dtype=np.int64), missing)
    return Column(np.array([np.nan if value is None else value for value in values], dtype=np.float64), missing)


def _texts(values: list[str]) -> Any:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def _array(values: list[Any], missing: Any) -> Column:
    lengths = {len(value) for value in values if value is not None}
    if len(lengths) == 1:
        width = lengths.pop()
        filled = [[np.nan] * width if value is None else value for value in values]
        return Column(np.array(filled, dtype=np.float64).reshape(len(values), width), missing)
    ragged = np.empty(len(values), dtype=object)
    for row, value in enumerate(values):
        ragged[row] = [] if value is None else value
    return Column(ragged, missing)
