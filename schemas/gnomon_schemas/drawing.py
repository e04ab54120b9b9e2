"""A feature record drawn from a class: dataclass, TypedDict or pydantic model."""

import dataclasses
import enum
import re
import types
import typing
from collections.abc import Mapping
from typing import Any

from gnomon_schemas.errors import SchemaError

_AVRO_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PRIMITIVES: dict[Any, str] = {bool: "boolean", int: "long", float: "double", str: "string", type(None): "null"}


def draw_record(source: type) -> dict[str, Any]:
    """Return the Avro record of a class's annotated fields; raise SchemaError that names the field without a type.

    `bool`, `int`, `float`, `str` become boolean, long, double, string; `X | None` a union with null; `list[X]` and
    `tuple[X, ...]` an array of numbers; a `Literal` of texts and an Enum of texts an enum.
    """
    try:
        hints = typing.get_type_hints(source)
    except (NameError, TypeError) as error:
        raise SchemaError(f"{source.__qualname__}: its annotations cannot be read: {error}") from error
    return record_of(source.__name__, {name: _avro(name, hints[name]) for name in _field_names(source)})


def record_of(name: str, kinds: Mapping[str, Any]) -> dict[str, Any]:
    """Return the feature record of such names and Avro types.

    What may be null is null by default, so that a feature may come and go without a schema that cannot read the other.
    """
    fields = [
        {"name": key, "type": kind} | ({"default": None} if isinstance(kind, list) and kind[:1] == ["null"] else {})
        for key, kind in kinds.items()
    ]
    return {"type": "record", "name": name, "namespace": "gnomon.features", "fields": fields}


def _field_names(source: type) -> list[str]:
    if dataclasses.is_dataclass(source):
        return [field.name for field in dataclasses.fields(source)]
    if typing.is_typeddict(source):
        optional: frozenset[str] = getattr(source, "__optional_keys__", frozenset())
        if optional:
            name = min(optional)
            raise SchemaError(f"feature {name!r} may be absent; declare it as present, of a type that may be None")
        return list(typing.get_type_hints(source))
    model_fields = getattr(source, "model_fields", None)  # pydantic, which this module must not import
    if isinstance(model_fields, dict):
        return list(model_fields)
    raise SchemaError(f"{source.__qualname__} is no dataclass, TypedDict or pydantic model")


def _avro(name: str, hint: Any) -> Any:
    if hint in _PRIMITIVES:
        return _PRIMITIVES[hint]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _union(name, arguments)
    if origin is typing.Literal and all(isinstance(argument, str) for argument in arguments):
        return _enum(name, name, list(arguments))
    if isinstance(hint, type) and issubclass(hint, enum.Enum) and issubclass(hint, str):
        return _enum(name, hint.__name__, [str(member.value) for member in hint])
    if origin is list or (origin is tuple and arguments[1:] == (...,)):
        items = _PRIMITIVES.get(arguments[0])
        if items in ("long", "double"):
            return {"type": "array", "items": items}
    raise SchemaError(f"feature {name!r}: {hint!r} has no Avro type that a feature record can carry")


def _union(name: str, arguments: tuple[Any, ...]) -> Any:
    rest = [argument for argument in arguments if argument is not type(None)]
    if len(rest) != 1 or len(rest) == len(arguments):
        raise SchemaError(f"feature {name!r}: a union must be of None and one type")
    return ["null", _avro(name, rest[0])]


def _enum(name: str, type_name: str, symbols: list[str]) -> Any:
    if all(_AVRO_NAME.fullmatch(symbol) for symbol in symbols):
        return {"type": "enum", "name": f"{type_name}_enum" if type_name == name else type_name, "symbols": symbols}
    return "string"
