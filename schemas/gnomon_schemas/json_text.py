"""JSON from outside, in which no key may stand twice: Python would silently keep the last value."""

import json
from typing import Any


def load_json(text: str | bytes, **options: Any) -> Any:
    """Parse JSON like `json.loads`; also raise ValueError for an object that has a key twice."""
    return json.loads(text, object_pairs_hook=_unique, **options)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for at, key in enumerate(keys) if key in keys[:at])
        raise ValueError(f"the key {twice[:100]!r} occurs twice")
    return found
