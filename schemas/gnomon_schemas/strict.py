"""Checks that fastavro lacks: a walk over a body that accepts exactly the Avro specification, and ranges of `int`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gnomon_schemas.errors import DecodeError
from gnomon_schemas.schema import Json

_INT_MIN, _INT_MAX = -(2**31), 2**31 - 1
_LONG_MIN, _LONG_MAX = -(2**63), 2**63 - 1


def measure(schema: Json, message: bytes, start: int) -> None:
    """Raise DecodeError unless `message[start:]` is exactly one value of `schema`, in which no name refers to a type.

    A reference cannot be looked up on the way: the type may be defined in a branch that this value does not take.
    """
    end = _Walk(message, start).value(schema)
    if end != len(message):
        raise DecodeError("trailing_bytes", f"{len(message) - end} bytes after the record")


class _Walk:
    """A cursor over a body; each method moves it past one value."""

    def __init__(self, message: bytes, start: int) -> None:
        self._message = message
        self._at = start

    def value(self, schema: Json) -> int:
        if isinstance(schema, list):
            self.value(schema[self._index(len(schema), "union branch")])
        elif isinstance(schema, str):
            self._primitive(schema)
        else:
            self._complex(schema)
        return self._at

    def _primitive(self, name: str) -> None:
        if name == "boolean":
            if self._read_bytes(1) not in (b"\x00", b"\x01"):
                raise DecodeError("invalid", "a boolean is neither 0 nor 1")
        elif name == "int":
            if not _INT_MIN <= self._long() <= _INT_MAX:
                raise DecodeError("invalid", "an int of more than 32 bits")
        elif name == "long":
            self._long()
        elif name == "float":
            self._read_bytes(4)
        elif name == "double":
            self._read_bytes(8)
        elif name == "bytes":
            self._read_bytes(self._long())
        elif name == "string":
            try:
                self._read_bytes(self._long()).decode()
            except UnicodeDecodeError as error:
                raise DecodeError("invalid", f"a string is not valid UTF-8: {error}") from error
        elif name != "null":
            raise ValueError(f"{name!r} refers to a type")

    def _complex(self, schema: Mapping[str, Json]) -> None:
        kind = schema["type"]
        if kind == "record":
            for field in schema["fields"]:
                self.value(field["type"])
        elif kind == "enum":
            self._index(len(schema["symbols"]), "enum symbol")
        elif kind == "fixed":
            self._read_bytes(schema["size"])
        elif kind in ("array", "map"):
            self._blocks(schema["items"] if kind == "array" else schema["values"], keyed=kind == "map")
        else:
            self.value(kind)

    def _blocks(self, items: Json, *, keyed: bool) -> None:
        while count := self._long():
            end = None
            if count < 0:
                count, size = -count, self._long()
                end = self._at + size
            if count > len(self._message) - self._at:
                raise DecodeError("truncated", f"a block of {count} items in a shorter message")
            for _ in range(count):
                if keyed:
                    self._primitive("string")
                self.value(items)
            if end is not None and self._at != end:
                raise DecodeError("invalid", "a block's size does not fit its items")

    def _index(self, size: int, what: str) -> int:
        index = self._long()
        if not 0 <= index < size:
            raise DecodeError("invalid", f"{what} {index} of {size}")
        return index

    def _read_bytes(self, size: int) -> bytes:
        end = self._at + size
        if size < 0 or end > len(self._message):
            raise DecodeError("truncated", f"{size} bytes wanted, {len(self._message) - self._at} left")
        taken = self._message[self._at : end]
        self._at = end
        return taken

    def _long(self) -> int:
        result = 0
        for shift in range(0, 70, 7):
            byte = self._read_bytes(1)[0]
            result |= (byte & 0x7F) << shift
            if byte < 0x80:
                number = (result >> 1) ^ -(result & 1)
                if not _LONG_MIN <= number <= _LONG_MAX:
                    break
                return number
        raise DecodeError("invalid", "a number of more than 64 bits")


Guard = Callable[[Mapping[str, Any]], None]


def int_ranges(schema: Json) -> tuple[Guard, ...]:
    """Return checks that raise DecodeError if an `int` field of the record, or of a nested record, exceeds 32 bits.

    They cover arrays of ints and unions with null; for all other types see `hides_ints`. No name refers to a type.
    """
    return tuple(_guards(schema, ()))


def several(union: Sequence[Json]) -> bool:
    """Return whether a union has more types than null and one other: then a value does not determine its type."""
    return sum(1 for branch in union if branch != "null") > 1


def hides_ints(schema: Json, inside: bool = False) -> bool:
    """Return whether only a walk can check some ints: in maps, in items of arrays, in unions of several types."""
    if isinstance(schema, str):
        return inside and schema == "int"
    if isinstance(schema, list):
        return any(hides_ints(branch, inside or several(schema)) for branch in schema)
    kind = schema["type"]
    if kind == "record":
        return any(hides_ints(field["type"], inside) for field in schema["fields"])
    if kind in ("array", "map"):
        items = schema["items" if kind == "array" else "values"]
        # Arrays of plain ints that are not nested have a separate check.
        return hides_ints(items, inside or kind == "map" or items != "int")
    return kind not in ("enum", "fixed") and hides_ints(kind, inside)


def has_several(schema: Json) -> bool:
    """Return whether there is such a union anywhere in a schema."""
    if isinstance(schema, list):
        return several(schema) or any(map(has_several, schema))
    if isinstance(schema, str) or schema["type"] in ("enum", "fixed"):
        return False
    if schema["type"] == "record":
        return any(has_several(field["type"]) for field in schema["fields"])
    part = (
        {"array": "items", "map": "values"}.get(schema["type"], "type") if isinstance(schema["type"], str) else "type"
    )
    return has_several(schema[part])


def _guards(schema: Json, path: tuple[str, ...]) -> list[Guard]:
    found: list[Guard] = []
    for field in schema["fields"]:
        kind = field["type"]
        branches = kind if isinstance(kind, list) else [kind]
        if several(branches):
            continue
        here = (*path, field["name"])
        for branch in branches:
            if isinstance(branch, Mapping) and branch["type"] == "record":
                found += _guards(branch, here)
            elif branch == "int" or (isinstance(branch, Mapping) and branch.get("items") == "int"):
                found.append(_guard(here))
    return found


def _guard(path: tuple[str, ...]) -> Guard:
    def check(record: Mapping[str, Any]) -> None:
        value: Any = record
        for name in path:
            value = value.get(name) if value is not None else None
        for number in value if isinstance(value, list) else (value,):
            if isinstance(number, int) and not _INT_MIN <= number <= _INT_MAX:
                raise DecodeError("invalid", f"field {'.'.join(path)}: an int of more than 32 bits")

    return check
