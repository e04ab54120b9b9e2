"""Lists of names as other tools write them: JSON, Python, or separated by commas; anything else is refused."""

import ast
import json
import re
from collections.abc import Mapping
from typing import Any

from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.json_text import load_json

_SHOWN = 80
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
NOTHING = ("", "~", "null", "Null", "NULL")
"""The texts for a null in YAML; as texts, too, they mean that there is no value."""


def names_in(value: Any, where: str) -> tuple[str, ...]:
    """Return the names in `value`: a list of texts, or one text that holds a list; raise ConfigurationError.

    `where` is the file and key of `value`, for the error.
    """
    listed = _listed(value, where)
    if isinstance(listed, Mapping):
        raise ConfigurationError(f"{where} maps keys to values; a list of names is needed")
    return listed


def classes_in(value: Any, where: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return class names in order, and the name of each of the model's own labels if a mapping gives them.

    Lists as in `names_in`. A mapping gives the name of each label or index (`{0: no, 1: yes}`), or the index of each
    name (`{no: 0, yes: 1}`); the order is known only for indices 0 to n-1. Raises ConfigurationError.
    """
    listed = _listed(value, where)
    if not isinstance(listed, Mapping):
        _unique(listed, where)
        return listed, {}
    indices = {str(index) for index in range(len(listed))}
    by_label: dict[str, str] = dict(listed)
    if set(by_label) != indices and set(by_label.values()) == indices:
        by_label = dict(zip(by_label.values(), by_label, strict=True))
    _unique(tuple(by_label.values()), where)
    ordered = tuple(by_label[str(index)] for index in range(len(by_label))) if set(by_label) == indices else ()
    return ordered, by_label


def _unique(names: tuple[str, ...], where: str) -> None:
    if len(set(names)) < len(names):
        twice = next(name for at, name in enumerate(names) if name in names[:at])
        raise ConfigurationError(f"{where} lists {twice!r} twice")


def _listed(value: Any, where: str) -> tuple[str, ...] | Mapping[str, str]:
    if isinstance(value, str):
        value = _parsed(value, where)
    if isinstance(value, Mapping):
        if not all(isinstance(one, str) for pair in value.items() for one in pair):
            raise ConfigurationError(f"{where} maps to something that is not a name")
        return value
    if not isinstance(value, (list, tuple)) or not all(isinstance(one, str) and one for one in value):
        raise ConfigurationError(f"{where} is not a list of names")
    return tuple(value)


def _parsed(text: str, where: str) -> Any:
    text = text.strip()
    if text in NOTHING:
        return ()
    shown = f"{where}: {text[:_SHOWN]!r}"
    if _NUMBER.fullmatch(text):
        raise ConfigurationError(f"{shown} is a number; a list of names is needed")
    if text[0] in "[{(\"'":
        return _json(text) or _python(text, shown)
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if any(_broken(part) for part in parts):
        raise ConfigurationError(f"{shown} is neither a JSON list nor names separated by commas")
    return parts


def _broken(part: str) -> bool:
    """Return whether a name shows that a list in another notation was cut at its commas."""
    pairs = (("(", ")"), ("[", "]"), ("{", "}"))
    return any(part.count(left) != part.count(right) for left, right in pairs) or "([" in part or part[0] in "\"'"


def _json(text: str) -> Any:
    """Return the list or mapping in a JSON text, numbers and booleans as they are written; None if it is not JSON."""
    try:
        loaded = load_json(text, parse_int=str, parse_float=str, parse_constant=str)
        if isinstance(loaded, str) and loaded[:1] in ("[", "{"):  # encoded twice
            loaded = load_json(loaded, parse_int=str, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError):
        return None
    if isinstance(loaded, str):
        return [loaded]
    if isinstance(loaded, list):
        return [_truth(one) for one in loaded]
    return {key: _truth(one) for key, one in loaded.items()} if isinstance(loaded, dict) else None


def _truth(one: Any) -> Any:
    return str(one).lower() if isinstance(one, bool) else one


def _python(text: str, shown: str) -> Any:
    """Return the list or mapping in a Python representation, each name as it is written."""
    try:
        node = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        node = None
    if isinstance(node, (ast.List, ast.Tuple)):
        found: Any = [_literal(one, text) for one in node.elts]
        whole = None not in found
    elif isinstance(node, ast.Dict):
        found = {_literal(key, text): _literal(one, text) for key, one in zip(node.keys, node.values, strict=True)}
        if len(found) < len(node.keys):
            raise ConfigurationError(f"{shown} has a key twice")
        whole = None not in found and None not in found.values()
    else:
        found = [_literal(node, text)]
        whole = None not in found
    if not whole:
        raise ConfigurationError(f"{shown} is neither a JSON list nor names separated by commas")
    return found


def _literal(node: ast.expr | None, text: str) -> str | None:
    """Return a constant as it is written; None for anything else, such as two texts without a comma between them."""
    if node is None:
        return None
    written = ast.get_source_segment(text, node) or ""
    if _NUMBER.fullmatch(written) or written in ("True", "False"):
        return written
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        quoted = (repr(node.value), json.dumps(node.value, ensure_ascii=False), f"'{node.value}'")
        return node.value if written in quoted else None
    return None
