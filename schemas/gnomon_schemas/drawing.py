"""A feature record derived from a class: dataclass, TypedDict, NamedTuple, pydantic, attrs or msgspec.

Only the standard library is imported: classes of the others are recognised by their attributes.
"""

import dataclasses
import enum
import types
import typing
import uuid
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from gnomon_schemas.checking import AVRO_NAME
from gnomon_schemas.errors import SchemaError
from gnomon_schemas.flattening import named_field

_TYPES: dict[Any, Any] = {
    bool: "boolean",
    int: "long",
    float: "double",
    Decimal: "double",
    str: "string",
    type(None): "null",
    None: "null",
    datetime: {"type": "long", "logicalType": "timestamp-micros"},
    date: {"type": "int", "logicalType": "date"},
    time: {"type": "long", "logicalType": "time-micros"},
    uuid.UUID: {"type": "string", "logicalType": "uuid"},
}
_NUMPY = {
    **dict.fromkeys(("int8", "int16", "int32", "uint8", "uint16"), "int"),
    **dict.fromkeys(("int64", "uint32"), "long"),
    **dict.fromkeys(("float16", "float32"), "float"),
    "float64": "double",
    "bool": "boolean",
    "bool_": "boolean",
    "str_": "string",
}
_PYDANTIC: dict[str, Any] = {
    **dict.fromkeys(("AwareDatetime", "PastDatetime", "FutureDatetime"), _TYPES[datetime]),
    **dict.fromkeys(("PastDate", "FutureDate"), _TYPES[date]),
    "NaiveDatetime": {"type": "long", "logicalType": "local-timestamp-micros"},
}
"""Types that pydantic checks itself, which are its own classes."""
_SEQUENCES = frozenset({"list", "tuple", "Sequence", "MutableSequence"})
_MAPPINGS = frozenset({"dict", "Mapping", "MutableMapping", "defaultdict", "OrderedDict", "Counter"})
_NUMBERS = frozenset({"int", "long", "float", "double"})
_MAX_DEPTH = 8

Names = dict[Any, Any]
"""The types that replace the type variables of a generic class."""


def draw_record(source: Any) -> dict[str, Any]:
    """Return the Avro record of a class's annotated fields; raise SchemaError that names the field without a type.

    docs/inputs.md has the table of the Avro type for each Python type.
    """
    return _Drawing().record(source, "", 0)


def record_of(name: str, kinds: Mapping[str, Any]) -> dict[str, Any]:
    """Return the feature record of such names and Avro types; names that Avro does not allow become aliases."""
    if wrong := [key for key in kinds if not isinstance(key, str) or not key]:
        raise SchemaError(f"the feature name {wrong[0]!r} is not a text with a letter in it")
    taken = {key for key in kinds if AVRO_NAME.fullmatch(key)}
    fields = [named_field(key, kind, taken) for key, kind in kinds.items()]
    return {"type": "record", "name": name, "namespace": "gnomon.features", "fields": fields}


class _Drawing:
    """One record and its nested ones; `_enums` remembers names, because an Enum is defined once and then referenced."""

    def __init__(self) -> None:
        self._enums: dict[str, tuple[str, ...]] = {}

    def record(self, source: Any, prefix: str, depth: int) -> dict[str, Any]:
        if depth > _MAX_DEPTH:
            raise SchemaError(f"feature {prefix[:-1]!r}: classes within classes go deeper than {_MAX_DEPTH}")
        title = "".join(character if character.isalnum() else "_" for character in _class(source).__name__)
        kinds = {name: self.avro(f"{prefix}{name}", hint, depth) for name, hint in _fields(source, prefix).items()}
        return record_of(title if AVRO_NAME.fullmatch(title) else "Features", kinds)

    def avro(self, name: str, hint: Any, depth: int) -> Any:
        hint = _plain(hint)
        try:
            if hint in _TYPES:
                return _TYPES[hint]
        except TypeError:  # an annotation that is not hashable, such as a list of types
            raise _no_type(name, hint) from None
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if origin in (typing.Union, types.UnionType):
            return self._union(name, arguments, depth)
        if origin is typing.Literal:
            return self._values(name, name.rpartition(".")[2], list(arguments))
        shape = getattr(origin or hint, "__name__", "")
        if shape in _SEQUENCES and arguments:
            return self._array(name, hint, [one for one in arguments if one is not ...], depth)
        if shape in _MAPPINGS and arguments:
            return self._map(name, hint, arguments, depth)
        if shape == "ndarray" and arguments:
            return self._array(name, hint, list(typing.get_args(arguments[-1])), depth)
        if isinstance(hint, type):
            return self._class(name, hint, depth)
        if origin is not None and _has_fields(origin):
            return self._nested(name, hint, depth)
        raise _no_type(name, hint)

    def _class(self, name: str, hint: type, depth: int) -> Any:
        if issubclass(hint, enum.Enum):
            return self._values(name, hint.__name__, [member.value for member in hint])
        if hint.__module__ == "numpy" and hint.__name__ in _NUMPY:
            return _NUMPY[hint.__name__]
        if hint.__module__.partition(".")[0] == "pydantic" and hint.__name__ in _PYDANTIC:
            return _PYDANTIC[hint.__name__]
        if _has_fields(hint):
            return self._nested(name, hint, depth)
        # A subclass of a text, number or time, such as a constrained type.
        for base in (str, bool, int, float, Decimal, datetime, date, time, uuid.UUID):
            if issubclass(hint, base):
                return _TYPES[base]
        raise _no_type(name, hint)

    def _nested(self, name: str, hint: Any, depth: int) -> Any:
        # Named by its position, because the same class may occur several times.
        return {**self.record(hint, f"{name}.", depth + 1), "name": f"{name.replace('.', '_')}_record"}

    def _union(self, name: str, arguments: tuple[Any, ...], depth: int) -> Any:
        rest = [argument for argument in arguments if argument is not type(None)]
        kinds = [self.avro(name, argument, depth) for argument in rest]
        nullable = len(rest) < len(arguments) or any(isinstance(kind, list) for kind in kinds)
        kinds = [next(one for one in kind if one != "null") if isinstance(kind, list) else kind for kind in kinds]
        different = [kind for at, kind in enumerate(kinds) if kind not in kinds[:at]]
        if len(different) > 1 and all(isinstance(kind, str) and kind in _NUMBERS for kind in different):
            different = ["long" if set(different) <= {"int", "long"} else "double"]
        if len(different) != 1:
            raise SchemaError(f"feature {name!r}: a union must be of None and one type, or of numbers")
        return ["null", different[0]] if nullable else different[0]

    def _values(self, name: str, title: str, values: list[Any]) -> Any:
        """Return the type of a Literal or an Enum, from the values of its members."""
        kinds = {type(value) for value in values if value is not None}
        if len(kinds) == 1 and kinds <= {bool, int, float}:
            kind: Any = _TYPES[kinds.pop()]
        elif kinds and all(issubclass(one, str) for one in kinds):
            texts = tuple(dict.fromkeys(str.__str__(value) for value in values if value is not None))
            kind = self._enum(name, title, texts)
        elif kinds == {int, float}:
            kind = "double"
        else:
            raise SchemaError(f"feature {name!r}: the values of {title} are neither all texts nor all numbers")
        return ["null", kind] if None in values else kind

    def _enum(self, name: str, title: str, symbols: tuple[str, ...]) -> Any:
        if not all(map(AVRO_NAME.fullmatch, symbols)):
            return "string"
        title = f"{title}_enum" if title == name or not AVRO_NAME.fullmatch(title) else title
        if self._enums.get(title, symbols) != symbols:
            title = f"{title}_{name.replace('.', '_')}"  # another class of the same name
        if title in self._enums:
            return title
        self._enums[title] = symbols
        return {"type": "enum", "name": title, "symbols": list(symbols)}

    def _array(self, name: str, hint: Any, items: list[Any], depth: int) -> Any:
        kinds = [self.avro(name, item, depth) for item in items]
        kinds = ["string" if isinstance(kind, dict) and kind.get("type") == "enum" else kind for kind in kinds]
        if not kinds or any(kind != kinds[0] for kind in kinds) or not isinstance(kinds[0], str):
            raise _no_type(name, hint)
        return {"type": "array", "items": kinds[0]}

    def _map(self, name: str, hint: Any, arguments: tuple[Any, ...], depth: int) -> Any:
        key, value = arguments if len(arguments) == 2 else (arguments[0], int)  # the values of a Counter are counts
        values = self.avro(name, value, depth)
        if self.avro(name, key, depth) != "string" or not isinstance(values, str) or values not in _NUMBERS:
            raise _no_type(name, hint)
        return {"type": "map", "values": values}


def _no_type(name: str, hint: Any) -> SchemaError:
    return SchemaError(f"feature {name!r}: {hint!r} has no Avro type that a feature record can carry")


def _plain(hint: Any) -> Any:
    """Return the annotated type without NewType, type aliases, Annotated and the marks of a TypedDict."""
    while True:
        if hasattr(hint, "__supertype__"):
            hint = hint.__supertype__
        elif type(hint).__name__ == "TypeAliasType":
            hint = hint.__value__
        elif getattr(typing.get_origin(hint), "__name__", getattr(typing.get_origin(hint), "_name", "")) in _MARKS:
            hint = typing.get_args(hint)[0]
        else:
            return hint


_MARKS = frozenset({"Annotated", "Required", "NotRequired", "ReadOnly", "Final", "ClassVar"})


def _class(source: Any) -> Any:
    return typing.get_origin(source) or source


def _has_fields(source: Any) -> bool:
    return bool(
        dataclasses.is_dataclass(source)
        or typing.is_typeddict(source)
        or (isinstance(source, type) and issubclass(source, tuple) and hasattr(source, "_fields"))
        or any(hasattr(source, mark) for mark in ("model_fields", "__attrs_attrs__", "__struct_fields__"))
    )


def _fields(source: Any, prefix: str) -> dict[str, Any]:
    """Return the annotations of a class's fields in their order."""
    owner = _class(source)
    if not _has_fields(owner):
        raise SchemaError(
            f"{owner.__qualname__} is not a dataclass, TypedDict, NamedTuple, pydantic, attrs or msgspec class"
        )
    if isinstance(model := getattr(source, "model_fields", None), dict):
        return {name: field.annotation for name, field in model.items()}  # pydantic has already resolved them
    try:
        hints = typing.get_type_hints(owner, include_extras=True)
    except (NameError, TypeError, AttributeError) as error:
        raise SchemaError(
            f"{prefix}{owner.__qualname__}: its annotations cannot be read: {error}; define the types that it names at"
            " the module's level, or give an .avsc file"
        ) from error
    if dataclasses.is_dataclass(owner):
        names = [field.name for field in dataclasses.fields(owner)]
    elif typing.is_typeddict(owner):
        names = list(hints)
    else:
        attrs = [one.name for one in getattr(owner, "__attrs_attrs__", ())]
        names = attrs or list(getattr(owner, "__struct_fields__", ()) or owner._fields)
    absent: frozenset[str] = getattr(owner, "__optional_keys__", frozenset())
    stands_for = _type_variables(source)
    return {
        name: typing.Union[found, None] if name in absent else found  # noqa: UP007 - for any annotation
        for name in names
        for found in [_substituted(hints.get(name, Any), stands_for)]
    }


def _type_variables(source: Any) -> Names:
    """Return the types that replace the type variables of a generic class and of its bases."""
    owner = _class(source)
    found: Names = {}
    parameters = getattr(owner, "__parameters__", ())
    found.update(zip(parameters, typing.get_args(source), strict=False))
    for base in getattr(owner, "__orig_bases__", ()):
        if typing.get_origin(base) not in (None, typing.Generic):
            inner = _type_variables(base)
            found.update({key: _substituted(value, found) for key, value in inner.items()})
    return found


def _substituted(hint: Any, stands_for: Names) -> Any:
    hint = _plain(hint)
    if isinstance(hint, typing.TypeVar):
        return stands_for.get(hint, hint)
    parameters = getattr(hint, "__parameters__", ())
    if parameters and typing.get_args(hint) and all(one in stands_for for one in parameters):
        return hint[tuple(stands_for[one] for one in parameters)]
    return hint
