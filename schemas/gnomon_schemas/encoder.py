"""An encoder for one schema, generated as plain Python: the same bytes as fastavro's, for the hook's hot path.

It trusts the types of its arguments (the hook's binder checks them) and refuses by itself what a type does not
show: numbers out of range, text without a UTF-8 form, unknown symbols of an enum. The generated code holds no name and
no value of the schema, only positions, so that no schema can smuggle code into it.
"""

import struct
from collections.abc import Callable, Mapping
from itertools import count
from operator import itemgetter
from typing import Any

from gnomon_schemas.checking import full_name
from gnomon_schemas.errors import SchemaError
from gnomon_schemas.schema import Json

Encoder = Callable[[Any], bytes]

_LONG_MIN, _LONG_MAX = -(2**63), 2**63 - 1
_INT_MIN, _INT_MAX = -(2**31), 2**31 - 1


class UnsupportedSchemaError(SchemaError):
    """A schema that only fastavro can write: unions of several types, or types outside the contract."""


def compile_encoder(
    schema: Json, *, header: bytes = b"", constants: Mapping[str, Any] | None = None, by_position: bool = False
) -> Callable[..., bytes]:
    """Return a function from a record's dict to `header` and the Avro body; raise UnsupportedSchemaError.

    `constants` are values of top-level fields that are the same in every record, left out of the dict. With
    `by_position` the function takes the other fields' values as its arguments, in the schema's order, and records in
    them as sequences of values. The function raises KeyError, TypeError, ValueError, OverflowError or struct.error for
    a value that does not fit.
    """
    return _Generator(by_position).top(schema, header, constants or {})


def varint(number: int) -> bytes:
    """Return a zig-zag variable-length number; raise OverflowError beyond 64 bits."""
    if not _LONG_MIN <= number <= _LONG_MAX:
        raise OverflowError("an integer of more than 64 bits")
    rest = (number << 1) ^ (number >> 63)
    if rest >= 1 << 56:
        return _long_varint(rest)
    # Spread the 7-bit groups over bytes by halves, instead of looping over them.
    rest = (rest & 0xFFFFFFF) | (rest & 0xFFFFFFF0000000) << 4
    rest = (rest & 0x3FFF00003FFF) | (rest & 0xFFFC0000FFFC000) << 2
    rest = (rest & 0x7F007F007F007F) | (rest & 0x3F803F803F803F80) << 1
    size = (rest.bit_length() + 7) >> 3 or 1
    return (rest | _CONTINUED[size]).to_bytes(size, "little")


def _long_varint(rest: int) -> bytes:
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


_CONTINUED = tuple(int.from_bytes(b"\x80" * (size - 1), "little") if size else 0 for size in range(9))
_SMALL = tuple(varint(number) for number in range(1024))
"""Precomputed lengths, counts and small numbers."""


def _int(number: int) -> bytes:
    if not _INT_MIN <= number <= _INT_MAX:
        raise OverflowError("an integer of more than 32 bits")
    return varint(number)


def _string(text: str) -> bytes:
    encoded = text.encode()
    return varint(len(encoded)) + encoded


def _strings_map(entries: Mapping[str, Any], value: Encoder) -> bytes:
    parts = [varint(len(entries))]
    for key, entry in entries.items():
        parts += (_string(key), value(entry))
    parts.append(b"\x00")
    return b"".join(parts)


def _array(items: Any, item: Encoder) -> bytes:
    return b"".join((varint(len(items)), *map(item, items), b"\x00")) if items else b"\x00"


def _packed_array(items: Any, code: str) -> bytes:
    if not items:
        return b"\x00"
    return varint(len(items)) + struct.pack(f"<{len(items)}{code}", *items) + b"\x00"


_FIXED = {"double": "d", "float": "f"}
_FUNCTIONS: dict[str, Encoder] = {"string": _string, "int": _int, "long": varint}


class _Generator:
    """Writes one function for each record. Expressions refer to helpers by names that the generator assigns."""

    def __init__(self, by_position: bool) -> None:
        self._by_position = by_position
        self._namespace: dict[str, Any] = {"join": b"".join, "small": _SMALL, "varint": varint, "int32": _int}
        self._helpers = (f"h{number}" for number in count())
        self._variables = (f"v{number}" for number in count())
        self._known: dict[str, Json] = {}

    def top(self, schema: Json, header: bytes, constants: Mapping[str, Any]) -> Callable[..., bytes]:
        """Return the function of the whole record."""
        fields, statements, parts = self._body(schema, "", constants)
        parts = [repr(header), *parts] if header else parts
        if self._by_position:
            return self._compile(f"encode({', '.join(fields.values())})", statements, parts)
        return self._compile("encode(given)", [*self._unpack(fields), *statements], parts)

    def _record(self, schema: Json, namespace: str, prefix: bytes = b"") -> Encoder:
        """Return the function of a nested record."""
        fields, statements, parts = self._body(schema, namespace, {})
        parts = [repr(prefix), *parts] if prefix else parts
        return self._compile("encode(given)", [*self._unpack(fields), *statements], parts)

    def _unpack(self, fields: Mapping[str, str]) -> list[str]:
        """Return the statement that takes a record's values out of `given`."""
        source = "given"
        if not self._by_position and len(fields) > 1:
            source = f"{self._bind(itemgetter(*fields))}(given)"
        elif not self._by_position:
            source = f"({self._bind(itemgetter(*fields))}(given),)"
        return [f"{', '.join(fields.values())}, = {source}"] if fields else []

    def _body(
        self, schema: Json, namespace: str, constants: Mapping[str, Any]
    ) -> tuple[dict[str, str], list[str], list[str]]:
        """Return the variables of a record's fields, statements that come first, and the expressions of its bytes."""
        name = full_name(schema, namespace)
        space = name.rpartition(".")[0]
        fields: dict[str, str] = {}
        statements: list[str] = []
        parts: list[str] = []
        fixed: list[tuple[str, str]] = []

        def pack_fixed() -> None:
            if fixed:
                packer = struct.Struct("<" + "".join(code for code, _ in fixed)).pack
                parts.append(f"{self._bind(packer)}({', '.join(variable for _, variable in fixed)})")
                fixed.clear()

        for field in schema["fields"]:
            kind = field["type"]
            if field["name"] in constants:
                pack_fixed()
                parts.append(repr(self._once(kind, space, constants[field["name"]])))
                continue
            variable = fields[field["name"]] = next(self._variables)
            if isinstance(kind, str) and kind in _FIXED:
                fixed.append((_FIXED[kind], variable))
                continue
            pack_fixed()
            if self._by_position and isinstance(kind, Mapping) and kind["type"] == "record":
                inner, before, within = self._body(kind, space, {})
                statements += [*self._unpack_from(inner, variable), *before]
                parts += within
            else:
                parts += self._expressions(kind, space, variable)
        pack_fixed()
        self._known[name] = schema
        return fields, statements, parts

    def _unpack_from(self, fields: Mapping[str, str], variable: str) -> list[str]:
        return [f"{', '.join(fields.values())}, = {variable}"] if fields else []

    def _compile(self, signature: str, statements: list[str], parts: list[str]) -> Encoder:
        result = f"join(({', '.join(_merged(parts))},))" if parts else "b''"
        lines = [f"def {signature}:", *statements, f"return {result}"]
        code = compile("\n    ".join(lines), "<encoder generated from a schema>", "exec")
        exec(code, self._namespace)  # noqa: S102 - made of positions and of names assigned here
        encoder: Encoder = self._namespace.pop("encode")
        return encoder

    def _once(self, kind: Json, space: str, value: Any) -> bytes:
        """Encode a constant."""
        return _Generator(False)._value(kind, space)(value)

    def _bind(self, helper: Any) -> str:
        name = next(self._helpers)
        self._namespace[name] = helper
        return name

    def _expressions(self, kind: Json, space: str, variable: str) -> tuple[str, ...]:
        """Return expressions whose bytes, one after another, are the value of `variable`."""
        if isinstance(kind, list):
            return (self._union(kind, space, variable),)
        if isinstance(kind, Mapping):
            return (self._complex(kind, space, variable),)
        if kind == "null":
            return ()
        if kind == "boolean":
            return (f"(b'\\1' if {variable} else b'\\0')",)
        if kind in _FIXED:
            return (f"{self._bind(struct.Struct('<' + _FIXED[kind]).pack)}({variable})",)
        if kind in ("int", "long"):
            wide = "varint" if kind == "long" else "int32"
            return (f"(small[{variable}] if 0 <= {variable} < 1024 else {wide}({variable}))",)
        if kind == "string":
            length = f"small[n] if (n := len(e := {variable}.encode())) < 1024 else varint(n)"
            return (f"({length})", "e")
        qualified = kind if "." in kind or not space else f"{space}.{kind}"
        known = self._known.get(qualified, self._known.get(kind))
        if known is None:
            raise UnsupportedSchemaError(f"the encoder does not know the type {kind!r}")
        return self._expressions(known, space, variable)

    def _complex(self, kind: Mapping[str, Json], space: str, variable: str) -> str:
        if kind["type"] == "record":
            return f"{self._bind(self._record(kind, space))}({variable})"
        if kind["type"] == "enum":
            self._known[full_name(kind, space)] = kind
            symbols = {symbol: varint(index) for index, symbol in enumerate(kind["symbols"])}
            return f"{self._bind(symbols)}[{variable}]"
        if kind["type"] == "array":
            items = kind["items"]
            if isinstance(items, str) and items in _FIXED:
                return f"{self._bind(_packed_array)}({variable}, {_FIXED[items]!r})"
            return f"{self._bind(_array)}({variable}, {self._bind(self._value(items, space))})"
        if kind["type"] == "map":
            some = f"{self._bind(_strings_map)}({variable}, {self._bind(self._value(kind['values'], space))})"
            return f"({some} if {variable} else b'\\0')"
        return f"{self._bind(self._value(kind['type'], space))}({variable})"

    def _union(self, branches: list[Json], space: str, variable: str) -> str:
        if len(branches) == 1:
            return f"{self._bind(self._value(branches[0], space))}({variable})"
        if len(branches) != 2 or "null" not in branches:
            raise UnsupportedSchemaError("the encoder knows unions of null and one type only")
        null = branches.index("null")
        other = branches[1 - null]
        prefix = varint(1 - null)
        # The branch's number and the value in one call, or none.
        if isinstance(other, str) and other in _FIXED:
            packer = struct.Struct("<B" + _FIXED[other]).pack
            some = f"{self._bind(packer)}({prefix[0]}, {variable})"
        elif isinstance(other, str) and other in _FUNCTIONS:
            some = " + ".join((repr(prefix), *self._expressions(other, space, variable)))
        elif isinstance(other, Mapping) and other["type"] == "record":
            some = f"{self._bind(self._record(other, space, prefix))}({variable})"
        else:
            some = f"{self._bind(self._value(other, space, prefix))}({variable})"
        return f"({varint(null)!r} if {variable} is None else {some})"

    def _value(self, kind: Json, space: str, prefix: bytes = b"") -> Encoder:
        """Return a function of one value."""
        if not prefix and isinstance(kind, str) and kind in _FUNCTIONS:
            return _FUNCTIONS[kind]
        expressions = ([repr(prefix)] if prefix else []) + list(self._expressions(kind, space, "v0"))
        return self._compile("encode(v0)", [], expressions)


def _merged(parts: list[str]) -> list[str]:
    """Put neighbouring byte literals together."""
    merged: list[str] = []
    for part in parts:
        if merged and part.startswith("b'") and merged[-1].startswith("b'"):
            merged[-1] = f"{merged[-1]} {part}"
        else:
            merged.append(part)
    return merged
