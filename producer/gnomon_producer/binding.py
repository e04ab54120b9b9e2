"""From whatever holds a request's features to plain values in the schema's order: listed names only, types checked."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from numbers import Integral, Real
from operator import itemgetter
from typing import Any

from gnomon_producer.errors import Dropped, kind_of
from gnomon_schemas.features import Feature, FeatureSchema

Values = tuple[Any, ...]
_Check = Callable[[Any], Any]

_MAX_SIGNATURES = 256
_MISSING = object()
_INT = (-(2**31), 2**31 - 1)
_LONG = (-(2**63), 2**63 - 1)
_FLOAT_MAX = 3.4028235677973366e38
"""Where rounding to 32 bits overflows: the largest float and half a step."""


class FeatureBinder:
    """Binds features to a feature record.

    With `listed_only` whatever the record does not name is left where it is; without, it is refused, so that a
    renamed feature cannot go unnoticed. What is read is a snapshot of scalars and tuples. With `encoder_checks` the
    encoder refuses values out of range by itself, and a record of nothing but plain types is passed on unexamined.
    """

    def __init__(self, schema: FeatureSchema, *, listed_only: bool, encoder_checks: bool = False) -> None:
        self.names = tuple(feature.name for feature in schema.features)
        self._listed_only = listed_only
        self._count = len(self.names)
        self._get: Callable[[Mapping[str, Any]], Any] = itemgetter(*self.names)
        self._checks = tuple(_check_of(feature) for feature in schema.features)
        self._plain = tuple(_plain_types(feature) for feature in schema.features) if encoder_checks else ()
        self._clean: set[tuple[type, ...]] = set()
        self._usual: tuple[type, ...] | None = None  # comparing is quicker than hashing

    def bind(self, features: Any) -> Values:
        """Return the values in the record's order; raise Dropped that names the feature at fault, never its value."""
        if type(features) is not dict:
            features = self._as_dict(features)
        try:
            values: Values = self._get(features) if self._count > 1 else (self._get(features),)
        except KeyError:
            missing = next((name for name in self.names if name not in features), "?")
            raise Dropped("invalid_features", f"feature {missing!r} is missing") from None
        if len(features) != self._count and not self._listed_only:
            raise Dropped("invalid_features", f"feature {self._extra(features)} is not in the schema")
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
                why = str(error) if type(error) is _MisfitError else kind_of(error)
                raise Dropped("invalid_features", f"feature {name!r}: {why}") from None
        return tuple(checked)

    def _as_dict(self, features: Any) -> dict[Any, Any]:
        """Read a mapping, dataclass, pydantic model or plain object. Only what is asked for is read."""
        if isinstance(features, Mapping):
            # Neither `in`, which may iterate for ever, nor [], which a defaultdict answers by growing.
            found = {name: value for name in self.names if (value := features.get(name, _MISSING)) is not _MISSING}
            if not self._listed_only and len(features) != len(found):
                # One more than the schema has is enough to say so, and an endless iterator ends here.
                found.update((key, None) for key in islice(features, self._count + 1) if key not in found)
            return found
        if features is None:
            raise Dropped("invalid_features", "there are no features")
        if dataclasses.is_dataclass(features):
            names = [field.name for field in dataclasses.fields(features)]
        else:
            names = list(getattr(features, "__dict__", ()))
        wanted = set(self.names)
        return {name: getattr(features, name) for name in names if name in wanted or not self._listed_only}

    def _extra(self, features: Mapping[Any, Any]) -> str:
        known = set(self.names)
        extra = next((key for key in features if key not in known), None)
        return repr(str.__str__(extra)[:100]) if isinstance(extra, str) else "(whose name is no text)"


class _MisfitError(ValueError):
    """A value that does not fit; the text names types, never the value."""


_contains = frozenset.__contains__
_PLAIN: dict[str, type] = {
    "null": type(None),
    "boolean": bool,
    "int": int,
    "long": int,
    "float": float,
    "double": float,
    "string": str,
    "enum": str,
}


def _plain_types(feature: Feature) -> frozenset[type]:
    """The very types that need no conversion."""
    plain = {_PLAIN[feature.kind]} if feature.kind in _PLAIN else set()
    return frozenset(plain | {type(None)} if feature.nullable else plain)


def _check_of(feature: Feature) -> _Check:
    if feature.kind == "null":
        return _null
    check = _scalar(feature.kind, feature.symbols) if feature.kind != "array" else _array(feature.items or "double")
    if not feature.nullable:
        return check
    return lambda value: None if value is None else check(value)


def _scalar(kind: str, symbols: tuple[str, ...] = ()) -> _Check:
    if kind == "boolean":
        return _boolean
    if kind in ("int", "long"):
        low, high = _INT if kind == "int" else _LONG
        return lambda value: _integer(value, low, high)
    if kind == "double":
        return _double
    if kind == "float":
        return _float
    return _text if kind == "string" else _enum(frozenset(symbols))


def _null(value: Any) -> None:
    if value is not None:
        raise _wrong("null", value)


def _boolean(value: Any) -> bool:
    if type(value) is bool:
        return value
    if kind_of(value) in ("bool", "bool_") and type(value).__module__ == "numpy":
        return bool(value)
    raise _wrong("boolean", value)


def _integer(value: Any, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise _wrong("an integer", value)
    number = int(value)
    if not low <= number <= high:
        raise _MisfitError("an integer out of range")
    return number


def _double(value: Any) -> float:
    if type(value) is float:
        return value
    if isinstance(value, bool) or not isinstance(value, Real):
        raise _wrong("a number", value)
    return float(value)


def _float(value: Any) -> float:
    number = _double(value)
    if _FLOAT_MAX <= abs(number) < float("inf"):
        raise _MisfitError("a number too large for 32 bits")
    return number


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong("a string", value)
    text = str.__str__(value)
    if not text.isascii():
        text.encode()  # a lone surrogate has no UTF-8
    return text


def _enum(symbols: frozenset[str]) -> _Check:
    def check(value: Any) -> str:
        text = _text(value)
        if text not in symbols:
            raise _MisfitError("not a symbol of the enum")
        return text

    return check


def _array(items: str) -> _Check:
    check = _scalar(items)

    def convert(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)):
            to_list = getattr(value, "tolist", None)  # numpy and array.array
            value = to_list() if to_list is not None else value
        if not isinstance(value, (list, tuple)):
            raise _wrong("an array", value)
        return tuple(map(check, contents(value)))

    return convert


def contents(value: list[Any] | tuple[Any, ...]) -> Iterator[Any]:
    """Iterate over what is really in it, where a subclass may iterate for ever."""
    return list.__iter__(value) if isinstance(value, list) else tuple.__iter__(value)


def _wrong(expected: str, value: Any) -> _MisfitError:
    return _MisfitError(f"{expected} is expected, not {kind_of(value)}")
