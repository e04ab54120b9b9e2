"""The requirements for a record schema from outside, checked before it is used; every refusal names the field."""

import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from gnomon_schemas.errors import SchemaError

Json = Any
"""A schema as returned by `json.loads`; Avro's schema language is too dynamic for a narrower type."""
MAX_DEPTH = 12
MAX_TYPES = 50_000
"""With each reference replaced by its type: a megabyte of plain fields has fewer, thirty records that each hold the one
before twice have a billion."""
PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "string"})
_OTHER_TYPES = frozenset({"bytes", "fixed", "record", "error", "enum", "array", "map", "union"})
"""A type of one of these names would hide Avro's own: this check and fastavro would read a schema differently."""
AVRO_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RANGES = {"int": (-(2**31), 2**31 - 1), "long": (-(2**63), 2**63 - 1)}
_LARGEST = {"float": 3.4028234663852886e38, "double": sys.float_info.max}
_DEFAULTS: dict[str, type] = {"null": type(None), "boolean": bool, "string": str}
MAX_STEPS = 1_000_000
"""How many values may be compared with types to check the defaults: a long default, of a union of many types, needs the
product of both."""


def _qualified(name: str, namespace: str) -> str:
    return name if "." in name or not namespace else f"{namespace}.{name}"


def full_name(schema: Json, namespace: str = "") -> str:
    """Return the full name of a named type."""
    return _qualified(str(schema["name"]), str(schema.get("namespace", namespace) or ""))


def check(schema: Json) -> None:
    """Raise SchemaError unless this is a record that both codecs support.

    Refused: `bytes` and `fixed` (the columnar decoder has neither), recursion (fastavro crashes on deep recursion), a
    depth over MAX_DEPTH or more than MAX_TYPES types with references followed, invalid or repeated names, unions and
    defaults that Avro does not allow.
    """
    if not isinstance(schema, Mapping) or schema.get("type") != "record" or not schema.get("name"):
        raise SchemaError("the schema is not a named Avro record")
    _Checker().check(schema, namespace="", depth=0)


class _Known(NamedTuple):
    """A defined type, the namespace around it, and what a reference to it adds: its types, and the levels below it.

    `without_bytes`: a value of it takes no bytes.
    """

    schema: Json
    around: str
    types: int
    depth: int
    without_bytes: bool


class _Checker:
    """One walk over a schema. `_open` holds the enclosing records: meeting one of them again is recursion."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}
        self._open: set[str] = set()
        self._types = 0
        self._deepest = 0
        self._defaults = Defaults(self._of_name)

    def check(self, schema: Json, namespace: str, depth: int) -> None:
        self._grow(1, depth)
        if isinstance(schema, str):
            self._check_name(schema, namespace, depth)
        elif isinstance(schema, list):
            self._check_union(schema, namespace, depth)
        elif not isinstance(schema, Mapping):
            raise SchemaError(f"the schema holds {_shortened(schema)} where a type belongs")
        elif isinstance(kind := schema.get("type"), str) and kind in ("record", "enum"):
            self._check_named_type(schema, kind, namespace, depth)
        elif kind in ("array", "map"):
            inner = schema.get("items" if kind == "array" else "values")
            self.check(inner, namespace, depth + 1)
            if kind == "array" and self._without_bytes(inner, namespace):
                raise SchemaError(f"the schema has an array of {_shortened(inner)}, whose items take no bytes")
        else:
            self.check(kind, namespace, depth + 1)

    def _grow(self, types: int, depth: int) -> None:
        self._types += types
        self._deepest = max(self._deepest, depth)
        if self._deepest > MAX_DEPTH:
            raise SchemaError(f"the schema is nested deeper than {MAX_DEPTH}")
        if self._types > MAX_TYPES:
            raise SchemaError(f"the schema has more than {MAX_TYPES} types")

    def _of_name(self, name: str, namespace: str) -> _Known | None:
        return self._known.get(_qualified(name, namespace)) or self._known.get(name)

    def _check_name(self, name: str, namespace: str, depth: int) -> None:
        if name in PRIMITIVES:
            return
        if known := self._of_name(name, namespace):
            self._grow(known.types, depth + known.depth)
            return
        if not self._open.isdisjoint((name, _qualified(name, namespace))):
            raise SchemaError(f"the schema is recursive at {name!r}")
        hint = "; make it a double or a string" if name in ("bytes", "fixed", "decimal") else ""
        raise SchemaError(f"the schema uses {name!r}, which is unknown or not supported{hint}")

    def _check_union(self, branches: list[Json], namespace: str, depth: int) -> None:
        kinds = [self._kind(branch, namespace) for branch in branches]
        if not branches or "union" in kinds:
            raise SchemaError(f"a union must be a list of types that are not unions, not {_shortened(branches)}")
        if len(set(kinds)) < len(kinds):
            raise SchemaError(f"a union must not have the same type twice: {_shortened(branches)}")
        for branch in branches:
            self.check(branch, namespace, depth + 1)

    def _check_named_type(self, schema: Mapping[str, Json], kind: str, namespace: str, depth: int) -> None:
        name = checked_name(schema, namespace)
        if name in self._known or name in self._open:
            raise SchemaError(f"the schema defines {name!r} twice")
        types, around, self._deepest = self._types, self._deepest, depth
        if kind == "record":
            self._open.add(name)
            self._check_fields(schema, name, depth)
            self._open.discard(name)
        else:
            _check_symbols(schema, name)
        without_bytes = kind == "record" and all(
            self._without_bytes(field["type"], name.rpartition(".")[0]) for field in schema["fields"]
        )
        self._known[name] = _Known(schema, namespace, self._types - types, self._deepest - depth, without_bytes)
        self._deepest = max(self._deepest, around)

    def _check_fields(self, schema: Mapping[str, Json], name: str, depth: int) -> None:
        fields = schema.get("fields")
        if not isinstance(fields, list) or not fields:
            raise SchemaError(f"the record {name!r} has no fields")
        seen: set[str] = set()
        for field in fields:
            if not isinstance(field, Mapping) or "name" not in field or "type" not in field:
                raise SchemaError(f"the record {name!r} has a field without a name or type")
            own = _checked_field_name(field["name"])
            if own in seen:
                raise SchemaError(f"the record {name!r} has two fields named {own!r}")
            seen.add(own)
            space = name.rpartition(".")[0]
            try:
                self.check(field["type"], space, depth + 1)
                self._check_extras(field, space)
            except SchemaError as error:
                raise SchemaError(f"field {own!r}: {error}") from None

    def _check_extras(self, field: Mapping[str, Json], namespace: str) -> None:
        aliases = field.get("aliases", [])
        if not isinstance(aliases, list) or not all(isinstance(alias, str) and alias for alias in aliases):
            raise SchemaError(f"its aliases must be a list of names, not {_shortened(aliases)}")
        if not all(map(_is_storable, aliases)):
            raise SchemaError(f"its aliases must not hold a NUL or half a surrogate pair: {_shortened(aliases)}")
        if "default" in field and not self._defaults.fit(field["default"], field["type"], namespace):
            raise SchemaError(f"its default {_shortened(field['default'])} is not of its type")

    def _without_bytes(self, schema: Json, namespace: str) -> bool:
        """Return whether a value of a checked type takes no bytes."""
        if isinstance(schema, Mapping):
            kind = schema["type"]
            if kind in ("record", "enum"):
                return self._known[full_name(schema, namespace)].without_bytes
            return kind not in ("array", "map") and self._without_bytes(kind, namespace)
        if isinstance(schema, list) or schema in PRIMITIVES:
            return bool(schema == "null")
        known = self._of_name(schema, namespace)
        return known is not None and known.without_bytes

    def _kind(self, branch: Json, namespace: str) -> str:
        """Return what distinguishes a branch of a union from the others: its type, of a named type the full name."""
        while isinstance(branch, Mapping):
            kind = branch.get("type")
            if kind in ("record", "enum"):
                return full_name(branch, namespace) if "name" in branch else kind
            branch = kind
        if isinstance(branch, list):
            return "union"
        name = str(branch)
        if name in PRIMITIVES or name in ("array", "map"):
            return name
        qualified = _qualified(name, namespace)
        return name if qualified not in self._known and name in self._known else qualified


def checked_name(schema: Mapping[str, Json], namespace: str) -> str:
    """Return a named type's full name; raise SchemaError if it is not valid."""
    if not schema.get("name"):
        raise SchemaError(f"the schema has a {schema['type']} without a name")
    space = schema.get("namespace")
    if not isinstance(schema["name"], str) or not (space is None or isinstance(space, str)):
        raise SchemaError(f"the {schema['type']} has a name or namespace that is not text")
    name = full_name(schema, namespace)
    if not all(map(AVRO_NAME.fullmatch, name.split("."))):
        raise SchemaError(f"the {schema['type']} name {name!r} must be of letters, digits and '_', not a digit first")
    if name.rpartition(".")[2] in PRIMITIVES | _OTHER_TYPES:  # in any namespace, says the specification
        raise SchemaError(f"the {schema['type']} name {name!r} is the name of an Avro type; give it another one")
    return name


def _checked_field_name(name: Json) -> str:
    if isinstance(name, str) and AVRO_NAME.fullmatch(name):
        return name
    if not isinstance(name, str) or not name:
        raise SchemaError(f"the field name {_shortened(name)} is not a text with a letter in it")
    raise SchemaError(
        f"the field name {_shortened(name)} must be of letters, digits and '_', not a digit first; to map it, write"
        f' {{"name": "{avro_name(name)}", "aliases": ["{name}"]}}'
    )


def avro_name(name: str) -> str:
    """Return an Avro name similar to `name`: `unit price` becomes `unit_price`, `%` becomes `_u25`."""
    written = "".join(
        character if character.isascii() and (character.isalnum() or character == "_") else _spelt(character)
        for character in name
    )
    return f"_{written}" if not written or written[0].isdigit() else written


def _spelt(character: str) -> str:
    return "_" if character in " .-/:" else f"_u{ord(character):x}"


def _check_symbols(schema: Mapping[str, Json], name: str) -> None:
    symbols = schema.get("symbols")
    if not isinstance(symbols, list) or not symbols:
        raise SchemaError(f"the enum {name!r} has no symbols")
    for symbol in symbols:
        if not isinstance(symbol, str) or not AVRO_NAME.fullmatch(symbol):
            raise SchemaError(
                f"the enum {name!r} has the symbol {_shortened(symbol)}; a symbol is of letters, digits and '_', not a"
                ' digit first: make it a "string"'
            )
    if len(set(symbols)) < len(symbols):
        raise SchemaError(f"the enum {name!r} has a symbol twice")
    if "default" in schema and schema["default"] not in symbols:
        raise SchemaError(f"the enum {name!r} has the default {_shortened(schema['default'])}, which is not a symbol")


def _unknown(name: str, space: str) -> None:
    """Know no name."""


class Defaults:
    """Compares defaults with their types; `of_name` finds the types that names refer to, others are trusted."""

    def __init__(self, of_name: Callable[[str, str], _Known | None] = _unknown) -> None:
        self._of_name = of_name
        self._steps = 0

    def fit(self, value: Json, kind: Json, space: str = "") -> bool:
        """Return whether a default is of its type; raise SchemaError after MAX_STEPS comparisons."""
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise SchemaError("the schema's defaults are too long to be checked")
        if isinstance(kind, list):
            return any(self.fit(value, branch, space) for branch in kind)
        if isinstance(kind, Mapping):
            return self._fits_complex(value, kind, space)
        if kind in _RANGES:
            low, high = _RANGES[kind]
            return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        if kind in _LARGEST:
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                return False
            return abs(value) <= _LARGEST[kind] or (isinstance(value, float) and not math.isfinite(value))
        if kind in _DEFAULTS:
            return isinstance(value, _DEFAULTS[kind])
        known = self._of_name(kind, space)
        return known is None or self.fit(value, known.schema, known.around)

    def _fits_complex(self, value: Json, kind: Mapping[str, Json], space: str) -> bool:
        if kind["type"] == "enum":
            return value in kind["symbols"]
        if kind["type"] == "array":
            return isinstance(value, list) and all(self.fit(item, kind["items"], space) for item in value)
        if kind["type"] == "map":
            return isinstance(value, dict) and all(self.fit(item, kind["values"], space) for item in value.values())
        if kind["type"] == "record":
            within = full_name(kind, space).rpartition(".")[0]
            return isinstance(value, dict) and all(
                self.fit(value[field["name"]], field["type"], within) if field["name"] in value else "default" in field
                for field in kind["fields"]
            )
        return self.fit(value, kind["type"], space)


def _is_storable(text: str) -> bool:
    """Return whether PostgreSQL can store a text."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _shortened(value: Json) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}…"


def first_repeated(names: Iterable[str]) -> str | None:
    """Return the first name that occurs a second time."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
