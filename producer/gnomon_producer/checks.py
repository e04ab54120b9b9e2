"""Checks of a value against its feature's declared type, and the conversion to the plain value that is written."""

import enum
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import islice
from numbers import Integral, Real
from typing import Any

from gnomon_producer.errors import kind_of
from gnomon_schemas.features import Feature

Check = Callable[[Any], Any]

_INT = (-(2**31), 2**31 - 1)
_LONG = (-(2**63), 2**63 - 1)
_EXACT = 2**53
_FLOAT_MAX = 3.4028235677973366e38
"""The smallest number whose rounding to 32 bits overflows: the largest float and half a step."""
_MAX_ENTRIES = 4096
"""The maximum number of items in a mapping feature, which may iterate forever."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LOCAL_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - for times without a zone
_UNITS = {"millis": timedelta(milliseconds=1), "micros": timedelta(microseconds=1)}


class MisfitError(ValueError):
    """A value that does not fit; the text names types, never the value."""


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


def plain_types(feature: Feature) -> frozenset[type]:
    """Return the types that need no conversion."""
    plain = {_PLAIN[feature.kind]} if feature.kind in _PLAIN else set()
    return frozenset(plain | {type(None)} if feature.nullable else plain)


def check_of(feature: Feature) -> Check:
    """Return the function from a feature's value to what is written; it raises MisfitError, TypeError or ValueError."""
    if feature.kind == "null":
        return _null
    check = _check_of_value(feature)
    if not feature.nullable:
        return check
    keeps_nan = feature.kind in ("float", "double")

    def check_nullable(value: Any) -> Any:
        if value is None or kind_of(value) in ("NAType", "NaTType"):
            return None
        # In pandas, NaN is a missing value of any type; in a float it may be a value.
        if not keeps_nan and isinstance(value, float) and value != value:
            return None
        return check(value)

    return check_nullable


def _check_of_value(feature: Feature) -> Check:
    if feature.kind == "array":
        return _array(feature.items or "double")
    if feature.kind == "map":
        return _map(feature.items or "double")
    if feature.logical is not None:
        return _logical(feature.logical, _scalar(feature.kind))
    return _scalar(feature.kind, feature.symbols)


def _scalar(kind: str, symbols: tuple[str, ...] = ()) -> Check:
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
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, bool) or kind_of(value) == "timedelta64":
        raise _wrong("an integer", value)
    if isinstance(value, Integral):
        number = int(value)
    elif isinstance(value, Real | Decimal):
        if not _is_whole(value):
            raise MisfitError(f"an integer is expected, not a {kind_of(value)} that is not whole")
        number = int(value)  # type: ignore[arg-type]  # it is whole
        if not isinstance(value, Decimal) and abs(number) > _EXACT:
            raise MisfitError("a float beyond 2**53 has lost its last digits")
    else:
        raise _wrong("an integer", value)
    if not low <= number <= high:
        raise MisfitError("an integer out of range")
    return number


def _is_whole(value: Any) -> bool:
    if isinstance(value, Decimal):
        return value.is_finite() and value == value.to_integral_value()
    return float(value).is_integer()


def _double(value: Any) -> float:
    if type(value) is float:
        return value
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, Decimal):
        return _from_decimal(value)
    if isinstance(value, bool) or not isinstance(value, Real) or kind_of(value) == "timedelta64":
        raise _wrong("a number", value)
    return float(value)


def _from_decimal(value: Decimal) -> float:
    number = float(value)
    if value.is_finite() and Decimal(repr(number)) != value:
        raise MisfitError("a Decimal of more digits than a double holds; make the feature a string")
    return number


def _float(value: Any) -> float:
    number = _double(value)
    if _FLOAT_MAX <= abs(number) < float("inf"):
        raise MisfitError("a number too large for 32 bits")
    return number


def _text(value: Any) -> str:
    if isinstance(value, enum.Enum):
        value = value.value
    if not isinstance(value, str):
        raise _wrong("a string", value)
    text = str.__str__(value)
    if not text.isascii():
        text.encode()  # a lone surrogate has no UTF-8 form
    return text


def _enum(symbols: frozenset[str]) -> Check:
    def check(value: Any) -> str:
        text = _text(value)
        if text not in symbols:
            raise MisfitError("not a symbol of the enum")
        return text

    return check


def _array(items: str) -> Check:
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
    """Iterate over the real content, because a subclass may iterate forever."""
    return list.__iter__(value) if isinstance(value, list) else tuple.__iter__(value)


def _map(values: str) -> Check:
    check = _scalar(values)

    def convert(value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise _wrong("a mapping", value)
        entries = list(islice(value.items(), _MAX_ENTRIES + 1))
        if len(entries) > _MAX_ENTRIES:
            raise MisfitError(f"a mapping of more than {_MAX_ENTRIES} entries")
        return {_text(key): check(entry) for key, entry in entries}

    return convert


def _logical(logical: str, check: Check) -> Check:
    """Return the check of a date, time or UUID, given as such or as the number or text that is written."""
    if logical == "uuid":
        return lambda value: str(value) if isinstance(value, uuid.UUID) else check(value)
    if logical == "date":
        return lambda value: check(_days(value)) if isinstance(value, date) else check(value)
    unit = _UNITS[logical.rpartition("-")[2]]
    if logical.startswith("time-"):
        return lambda value: check(_since_midnight(value) // unit) if isinstance(value, time) else check(value)
    local = logical.startswith("local-")
    return lambda value: check(_since_epoch(value, local) // unit) if isinstance(value, datetime) else check(value)


def _days(value: date) -> int:
    if isinstance(value, datetime):
        if value.time() != time():
            raise MisfitError("a date is expected, not a datetime")
        value = value.date()
    return (value - _EPOCH.date()).days


def _since_midnight(value: time) -> timedelta:
    if value.tzinfo is not None:
        raise MisfitError("a time of day with a time zone")
    return datetime.combine(_LOCAL_EPOCH, value) - _LOCAL_EPOCH


def _since_epoch(value: datetime, local: bool) -> timedelta:
    if (value.tzinfo is None) != local:
        raise MisfitError("a datetime with a time zone" if local else "a datetime without a time zone")
    return value - (_LOCAL_EPOCH if local else _EPOCH)


def _wrong(expected: str, value: Any) -> MisfitError:
    return MisfitError(f"{expected} is expected, not {kind_of(value)}")
