"""Convert a request's features to plain values in the schema's order: listed names only, types checked."""

from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any

from gnomon_producer.carriers import MISSING, contents_of
from gnomon_producer.checks import Check, MisfitError, check_of, plain_types
from gnomon_producer.errors import Dropped, kind_of
from gnomon_schemas.features import Feature, FeatureSchema

Values = tuple[Any, ...]
_Keys = tuple[str | None, ...]

_MAX_SIGNATURES = 256


class FeatureBinder:
    """Binds features to a feature record.

    With `listed_only`, features that the record does not name are ignored; otherwise they are refused, so that a
    renamed feature cannot go unnoticed. The result is a snapshot of scalars and tuples. With `encoder_checks` the
    encoder itself refuses values out of range, and a record of only plain types is passed on unchecked.
    """

    def __init__(self, schema: FeatureSchema, *, listed_only: bool, encoder_checks: bool = False) -> None:
        features = schema.features
        self.names = tuple(feature.name for feature in features)
        self._listed_only = listed_only
        self._count = len(self.names)
        self._get: Callable[[Mapping[str, Any]], Any] = itemgetter(*self.names)
        self._checks: tuple[Check, ...] = tuple(check_of(feature) for feature in features)
        self._plain = tuple(plain_types(feature) for feature in features) if encoder_checks else ()
        self._clean: set[tuple[type, ...]] = set()
        self._usual: tuple[type, ...] | None = None  # comparing tuples is faster than hashing
        self._keys = tuple((feature.name, feature.field, *feature.others) for feature in features)
        self._nullable = tuple(feature.nullable for feature in features)
        self._names_read = _names_to_read(features)
        self._plans: dict[tuple[Any, ...], _Keys] = {}

    def bind(self, features: Any) -> Values:
        """Return the values in the record's order; raise Dropped that names the feature at fault, never its value."""
        if type(features) is not dict:
            features = contents_of(features, self._names_read[""], self._listed_only)
        try:
            values: Values = self._get(features) if self._count > 1 else (self._get(features),)
            if len(features) != self._count and not self._listed_only:
                raise Dropped("invalid_features", f"feature {self._extra(features, self.names)} is not in the schema")
        except KeyError:
            values = self._find_values(features)
        signature = tuple(map(type, values))
        if signature == self._usual or signature in self._clean:
            return values
        if self._plain and len(self._clean) < _MAX_SIGNATURES and all(map(_contains, self._plain, signature)):
            self._clean.add(signature)
            self._usual = signature
        return self.check(values)

    def check(self, values: Values) -> Values:
        """Check and convert one by one; raise Dropped that names the first feature that does not fit."""
        checked = []
        for name, check, value in zip(self.names, self._checks, values, strict=True):
            try:
                checked.append(check(value))
            except (TypeError, ValueError, OverflowError) as error:
                why = str(error) if type(error) is MisfitError else kind_of(error)
                raise Dropped("invalid_features", f"feature {name!r}: {why}") from None
        return tuple(checked)

    def _find_values(self, features: dict[Any, Any]) -> Values:
        """Return the values of features that are nested, absent, or given under another of their names."""
        if len(self._names_read) > 1:
            features = self._flat(features, "")
        shape = tuple(features)
        plan = self._plans.get(shape)
        if plan is None:
            plan = self._plan(features)
            if len(self._plans) < _MAX_SIGNATURES:
                self._plans[shape] = plan
        return tuple([None if key is None else features[key] for key in plan])

    def _plan(self, features: dict[Any, Any]) -> _Keys:
        """Return the key of each feature, None for an absent feature that may be null; raise Dropped."""
        keys: list[str | None] = []
        for names, nullable in zip(self._keys, self._nullable, strict=True):
            key = next((name for name in names if name in features), None)
            if key is None and not nullable:
                raise Dropped("invalid_features", f"feature {names[0]!r} is missing")
            keys.append(key)
        used = [key for key in keys if key is not None]
        if len(features) != len(used) and not self._listed_only:
            raise Dropped("invalid_features", f"feature {self._extra(features, used)} is not in the schema")
        return tuple(keys)

    def _flat(self, features: dict[Any, Any], prefix: str) -> dict[Any, Any]:
        """Return the fields of nested records under dotted names."""
        found: dict[Any, Any] = {}
        for key, value in features.items():
            name = f"{prefix}{key}" if prefix and isinstance(key, str) else key
            asked = self._names_read.get(name) if isinstance(name, str) else None
            if asked is None:
                found[name] = value
            elif value is not None:
                found.update(self._flat(contents_of(value, asked, self._listed_only), f"{name}."))
        return found

    @staticmethod
    def _extra(features: Mapping[Any, Any], known: Any) -> str:
        extra = next((key for key in features if key not in known), None)
        return repr(str.__str__(extra)[:100]) if isinstance(extra, str) else "(whose name is not a text)"


_contains = frozenset.__contains__


def _names_to_read(features: tuple[Feature, ...]) -> dict[str, tuple[str, ...]]:
    """Return the names to read from the feature object (``) and from each nested record, by its dotted name."""
    asked: dict[str, dict[str, None]] = {"": {}}
    for feature in features:
        asked[""].update(dict.fromkeys((feature.name, feature.field, *feature.others)))
        parts = feature.name.split(".")
        for depth in range(1, len(parts)):
            around, within = ".".join(parts[:depth]), ".".join(parts[: depth - 1])
            asked.setdefault(within, {})[parts[depth - 1]] = None
            asked.setdefault(around, {})[parts[depth]] = None
    return {name: tuple(keys) for name, keys in asked.items()}


__all__ = ["MISSING", "FeatureBinder", "Values"]
