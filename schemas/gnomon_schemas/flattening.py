"""The flat form of a feature record, as written to Kafka and seen by every reader.

Nested records become fields with dotted names, a union of numbers becomes the wider number, and a name that Avro does
not allow is replaced, with the real name as an alias. So hook, scorer and joiner handle only flat records.
"""

from collections.abc import Iterator, Mapping

from gnomon_schemas.checking import AVRO_NAME, PRIMITIVES, Defaults, Json, avro_name, full_name
from gnomon_schemas.errors import SchemaError

_WHOLE = ("int", "long")
_NUMBERS = frozenset({"int", "long", "float", "double"})


def flat_record(record: Json) -> Json:
    """Return the flat form of a checked feature record; raise SchemaError that names the feature without one.

    A record that is already flat keeps its fields.
    """
    return {**record, "fields": _Flattener(record).fields()}


def display_name(field: Mapping[str, Json]) -> str:
    """Return a feature's own name: the first alias that Avro does not allow as a field's name, or the field's name."""
    awkward = (alias for alias in field.get("aliases", ()) if not AVRO_NAME.fullmatch(alias))
    return str(next(awkward, field["name"]))


def named_field(name: str, kind: Json, taken: set[str]) -> dict[str, Json]:
    """Return the field of a feature of any name, under an Avro name that is not `taken`, and add it to `taken`.

    A nullable feature has the default null, so that it can be added or removed without breaking compatibility.
    """
    field = {"name": name, "type": kind}
    if not AVRO_NAME.fullmatch(name):
        own = written = avro_name(name)
        count = 2
        while own in taken:
            own = f"{written}_{count}"
            count += 1
        field = {"name": own, "type": kind, "aliases": [name]}
    taken.add(field["name"])
    return field | ({"default": None} if isinstance(kind, list) and kind[:1] == ["null"] else {})


def with_definitions(record: Json, wanted: list[Json]) -> list[Json]:
    """Return some fields of a flat record; an enum is defined in the first of them that has it."""
    return _redefined(record, wanted, once=True)


def with_definitions_everywhere(record: Json) -> list[Json]:
    """Return the fields of a flat record, each complete by itself: an enum is defined in every field that has it."""
    return _redefined(record, record["fields"], once=False)


def _redefined(record: Json, wanted: list[Json], *, once: bool) -> list[Json]:
    space = full_name(record).rpartition(".")[0]
    enums: dict[str, Json] = {}
    for field in record["fields"]:
        for kind in field["type"] if isinstance(field["type"], list) else [field["type"]]:
            if isinstance(kind, Mapping) and kind["type"] == "enum":
                enums[full_name(kind, space)] = kind
    defined: set[str] = set()

    def whole(kind: Json) -> Json:
        name = full_name(kind, space) if isinstance(kind, Mapping) and kind["type"] == "enum" else kind
        if not isinstance(name, str) or name not in enums:
            return kind
        if once and name in defined:
            return name
        defined.add(name)
        return enums[name]

    return [
        {**field, "type": [*map(whole, kind)] if isinstance(kind := field["type"], list) else whole(kind)}
        for field in wanted
    ]


class _Flattener:
    def __init__(self, record: Json) -> None:
        self._record = record
        self._space = full_name(record).rpartition(".")[0]
        self._named: dict[str, tuple[Json, str]] = {}
        self._defined: set[str] = set()
        self._taken = {str(field["name"]) for field in record["fields"]}

    def fields(self) -> list[Json]:
        found: list[Json] = []
        for field in self._record["fields"]:
            found += self._flat(field, self._space, "", nullable=False)
        return found

    def _flat(self, field: Mapping[str, Json], space: str, prefix: str, *, nullable: bool) -> Iterator[Json]:
        """Yield a field, or the fields of its record; `nullable` if a record around it may be null."""
        name = f"{prefix}{display_name(field)}"
        written, may_be_null = _unwrapped(name, field["type"])
        kind, inner = self._resolved(written, space)
        if isinstance(kind, Mapping) and kind["type"] == "record":
            full = full_name(kind, inner)
            self._named[full] = (kind, inner)
            for part in kind["fields"]:
                yield from self._flat(part, full.rpartition(".")[0], f"{name}.", nullable=nullable or may_be_null)
            return
        leaf = self._leaf(name, kind, inner)
        if leaf != "null" and (may_be_null or nullable):
            # The writer decides the order of a union's branches, and the first one is the type of the default.
            last = isinstance(field["type"], list) and field["type"][0] != "null" and not nullable
            leaf = [leaf, "null"] if last else ["null", leaf]
        yield self._within(field, name, prefix, leaf) if prefix else {**field, "type": leaf}

    def _within(self, field: Mapping[str, Json], name: str, prefix: str, leaf: Json) -> Json:
        """Return the flat field of a nested one: the dotted name is an alias."""
        result = named_field(name, leaf, self._taken)
        others = [f"{prefix}{alias}" for alias in field.get("aliases", ()) if alias != display_name(field)]
        result["aliases"] = [name, *others]
        if "doc" in field:
            result["doc"] = field["doc"]
        if "default" in field and Defaults().fit(field["default"], leaf):
            result["default"] = field["default"]
        return result

    def _leaf(self, name: str, kind: Json, space: str) -> Json:
        """Return the type of a field that is not a record; a named type is defined at its first occurrence."""
        if not isinstance(kind, Mapping):
            return kind
        if kind["type"] in ("array", "map"):
            part = "items" if kind["type"] == "array" else "values"
            return {**kind, part: self._item(name, part, kind[part], space)}
        if kind["type"] != "enum":
            return kind
        full = full_name(kind, space)
        self._named[full] = (kind, space)
        own, _, last = full.rpartition(".")
        own = own or self._space
        qualified = f"{own}.{last}" if own else last
        if qualified in self._defined:
            return qualified
        self._defined.add(qualified)
        if own == self._space and "." not in kind["name"]:
            return {key: value for key, value in kind.items() if key != "namespace"}
        return {**kind, "name": last, **({"namespace": own} if own else {})}

    def _item(self, name: str, part: str, written: Json, space: str) -> Json:
        """Return the item type of an array or a map: a text represents an enum's symbol."""
        kind, may_be_null = _unwrapped(name, written)
        kind, inner = self._resolved(kind, space)
        if may_be_null or kind == "null":
            raise SchemaError(f"feature {name!r}: the {part} of an array or map must not be null")
        if isinstance(kind, Mapping) and kind["type"] == "enum":
            self._named[full_name(kind, inner)] = (kind, inner)
            return "string"
        return kind

    def _resolved(self, kind: Json, space: str) -> tuple[Json, str]:
        """Return the definition of a name and the namespace around it; return any other type unchanged."""
        if not isinstance(kind, str) or kind in PRIMITIVES:
            return kind, space
        qualified = kind if "." in kind or not space else f"{space}.{kind}"
        return self._named.get(qualified) or self._named[kind]


def _unwrapped(name: str, kind: Json) -> tuple[Json, bool]:
    """Return a field's type without null, and whether it may be null; numbers of several types become the widest."""
    while isinstance(kind, Mapping) and not isinstance(kind.get("type"), str):
        kind = kind["type"]
    if isinstance(kind, Mapping) and kind["type"] in PRIMITIVES and "logicalType" not in kind:
        kind = kind["type"]
    if not isinstance(kind, list):
        return kind, False
    rest = [_unwrapped(name, branch)[0] for branch in kind if branch != "null"]
    if not rest:
        return "null", True
    if len(rest) > 1 and all(isinstance(branch, str) and branch in _NUMBERS for branch in rest):
        wide = "long" if all(branch in _WHOLE for branch in rest) else "double"
        rest = ["float" if set(rest) == {"float"} else wide]
    if len(rest) > 1:
        raise SchemaError(
            f"feature {name!r}: a union must be of null and one type, or of numbers; this one is of {len(rest)} types"
        )
    return rest[0], len(rest) < len(kind) and "null" in kind
