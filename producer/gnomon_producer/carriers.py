"""Objects that hold a request's features: a mapping, an instance, a pandas row; only requested names are read."""

import dataclasses
import functools
from collections.abc import Mapping
from itertools import islice
from typing import Any

from gnomon_producer.errors import Dropped, kind_of

MISSING = object()
_COMPUTED = (property, functools.cached_property)


def contents_of(features: Any, asked: tuple[str, ...], listed_only: bool) -> dict[Any, Any]:
    """Return the features of an object by their names; raise Dropped if it holds none.

    `asked` are the names in the schema. With `listed_only` only these are read; otherwise other names are returned too,
    so that they can be refused.
    """
    if type(features) is dict:
        return features
    if isinstance(features, Mapping):
        return _of_mapping(features, asked, listed_only)
    if features is None:
        raise Dropped("invalid_features", "there are no features")
    if _is_pandas(features, "Series"):
        return _of_mapping(features.to_dict(), asked, listed_only)
    if _is_pandas(features, "DataFrame"):
        if len(features) != 1:
            raise Dropped("invalid_features", f"one row of features is expected, not {len(features)}")
        columns = [name for name in features.columns if name in asked or not listed_only]
        return {name: features[name].iat[0] for name in columns}
    found = {}
    for name in _own_names(features, asked):
        if name in asked or not listed_only:
            value = getattr(features, name, MISSING)
            if value is not MISSING:  # a slot may be empty
                found[name] = value
    return found


def _of_mapping(features: Mapping[Any, Any], asked: tuple[str, ...], listed_only: bool) -> dict[Any, Any]:
    # Not `in`, which may iterate forever, and not [], which adds the key to a defaultdict.
    found: dict[Any, Any] = {name: value for name in asked if (value := features.get(name, MISSING)) is not MISSING}
    if not listed_only and len(features) != len(found):
        # One value more than the schema has proves the misfit, and limits an endless iterator.
        found.update((key, None) for key in islice(features, len(asked) + 1) if key not in found)
    return found


def _own_names(features: Any, asked: tuple[str, ...]) -> list[str]:
    """Return the names of an instance's fields, and of its requested properties."""
    kind = type(features)
    if dataclasses.is_dataclass(features):
        return [field.name for field in dataclasses.fields(features)]
    if isinstance(features, tuple):
        return list(getattr(features, "_fields", ()))
    if hasattr(kind, "__attrs_attrs__"):
        return [field.name for field in kind.__attrs_attrs__]
    if hasattr(kind, "__struct_fields__"):
        return list(kind.__struct_fields__)
    names = [name for name in getattr(features, "__dict__", ()) if name in asked or not name.startswith("_")]
    for base in kind.__mro__:
        slots = base.__dict__.get("__slots__", ())
        own = [slots] if isinstance(slots, str) else slots
        names += [name for name in own if name in asked or not name.startswith("_")]
    computed = [name for name in asked if name not in names and isinstance(getattr(kind, name, None), _COMPUTED)]
    return names + computed


def _is_pandas(features: Any, name: str) -> bool:
    kind = type(features)
    return kind_of(features) == name and str(kind.__module__).partition(".")[0] == "pandas"
