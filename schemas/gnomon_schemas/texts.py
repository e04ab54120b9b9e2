"""One rule for the text form of labels, items, request ids, clusters, segments and strata, whatever their source.

A live service, a callable model and a label file must write the same class or id in the same way, or they never match.
So a value is accepted only if it has exactly one text form; everything else is refused with the name of its field:

* a text is taken unchanged; bytes are decoded as UTF-8; a member of an Enum has its value's text;
* an array, list or tuple of one value has that value's text (`model.predict(row)`);
* a whole number has no decimal point (`1.0` is `1`), a boolean is `True` or `False`, other numbers have the shortest
  form;
* a date or time is written in ISO 8601, an object with a text form of its own (UUID, IP address) by that form;
* refused: None, NaN, NaT, infinities, floats beyond 2**53 (their last digits are lost), several values, mappings, sets,
  text without a UTF-8 form, and objects without a text form of their own.
"""

import enum
from collections.abc import Hashable, Iterable, Sized
from datetime import date, time, timedelta
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

_EXACT = 2.0**53
_MAX_DEPTH = 8
_PYTHON_FORMS = ("tolist", "to_pylist", "to_list", "as_py", "item")
"""The methods that return the plain values of an array or scalar in NumPy, pandas, PyTorch, Arrow and Polars."""


class NotTextError(ValueError):
    """A value without a single text form. The message names the field and types, never the value."""


def text_of(name: str, value: Any) -> str:
    """Return the text of `value` of the field `name`; raise NotTextError if it has none."""
    return value if type(value) is str and value.isascii() else _text(name, value, 0)


def storable(text: str) -> str:
    """Return a text that PostgreSQL can store: NUL, which it cannot store, becomes U+FFFD."""
    return text.replace("\0", "\ufffd")


def single(name: str, value: Any) -> Any:
    """Return the only value of an array, list or tuple, and any other value unchanged.

    Raises NotTextError for several values or none.
    """
    for _ in range(_MAX_DEPTH):
        if isinstance(value, list | tuple):
            # A subclass may report anything about itself, so the built-in type's method is called.
            built_in: Any = list if isinstance(value, list) else tuple
            if (length := built_in.__len__(value)) != 1:
                raise NotTextError(f"{name}: one value is expected, not {_kind(value)} of {length}")
            value = built_in.__getitem__(value, 0)
        elif (form := _python_form(value)) is not None:
            if isinstance(value, Sized) and getattr(value, "shape", None) != () and len(value) != 1:
                raise NotTextError(f"{name}: one value is expected, not {_kind(value)} of {len(value)}")
            value = form()
        else:
            return value
    raise NotTextError(f"{name}: one value is expected, not arrays within arrays")


def _python_form(value: Any) -> Any:
    """Return the method that gives an array's plain values; None for a scalar.

    Scalars of NumPy stay unchanged, because their own text is shorter than that of the float made of them.
    """
    if isinstance(value, str | bytes | bytearray | memoryview | Real | date) or _is_numpy_scalar(value):
        return None
    return next((found for form in _PYTHON_FORMS if callable(found := getattr(value, form, None))), None)


def _is_numpy_scalar(value: Any) -> bool:
    return type(value).__module__ == "numpy" and type(value).__name__ != "ndarray" and not hasattr(value, "__len__")


def _text(name: str, value: Any, depth: int) -> str:
    value = single(name, value)
    if isinstance(value, enum.Enum):
        if depth:
            raise NotTextError(f"{name}: {_kind(value)} has another member as its value")
        return _text(name, value.value, depth + 1)
    if isinstance(value, str):
        # A proxy reports that it is a text without being one.
        return _written(name, str.__str__(value) if issubclass(type(value), str) else str(value))
    if isinstance(value, bytes | bytearray | memoryview):
        try:
            return bytes(value).decode()
        except UnicodeDecodeError:
            raise NotTextError(f"{name}: the bytes are not UTF-8") from None
    if is_missing(value):
        raise NotTextError(f"{name}: {_kind(value)} is a missing value")
    if isinstance(value, bool) or _kind(value) in ("bool", "bool_"):
        return str(bool(value))
    if isinstance(value, date | time):
        return value.isoformat()
    try:
        if isinstance(value, Integral):
            return str(int(value))
        if isinstance(value, Real | Decimal):
            return _number(name, value)
    except NotTextError:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise NotTextError(f"{name}: {_kind(value)} has no text: {error}") from None
    return _own_form(name, value)


def _written(name: str, text: str) -> str:
    """Return the text; raise NotTextError for a lone surrogate, which has no UTF-8 form."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise NotTextError(f"{name}: the text has no UTF-8 form") from None
    return text


def is_missing(value: Any) -> bool:
    """Return whether a value is missing: None, NaN, NaT or pandas.NA."""
    if value is None or _kind(value) == "NAType":
        return True
    if isinstance(value, Decimal):
        return value.is_nan()
    try:
        return bool(value != value)  # only a missing value differs from itself
    except (TypeError, ValueError):  # the truth value of pandas.NA and of arrays is undefined
        return False


def _number(name: str, value: Any) -> str:
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise NotTextError(f"{name}: an infinite number")
        return str(int(value)) if value == value.to_integral_value() else format(value.normalize(), "f")
    number = float(value)
    if abs(number) == float("inf"):
        raise NotTextError(f"{name}: an infinite number")
    if not number.is_integer():
        # For a narrow float, the shortest digits that restore it are used, not those of the double made of it.
        return str(float(str(value)) if _is_numpy_scalar(value) else number)
    if abs(number) > _EXACT:
        raise NotTextError(f"{name}: a float beyond 2**53 has lost its last digits; give an integer or a text")
    return str(int(number))


def _own_form(name: str, value: Any) -> str:
    """Return the own text form of a single hashable object, such as a UUID, an IP address or a database's object id."""
    printed: Any = type(value).__str__
    own = printed is not object.__str__ and not isinstance(value, type | BaseException | timedelta | complex)
    if not own or not isinstance(value, Hashable) or isinstance(value, Iterable | Sized) or callable(value):
        raise NotTextError(f"{name}: a text is expected, not {_kind(value)}")
    return _written(name, str(value))


_name_of = type.__dict__["__name__"].__get__


def _kind(value: Any) -> str:
    """Return the name of a value's type; a metaclass may raise when it is asked for `__name__`."""
    name: str = _name_of(type(value))
    return name[:60]
