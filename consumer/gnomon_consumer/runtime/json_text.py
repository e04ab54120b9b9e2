"""JSON for programs and people: any value of ours as a text that every parser accepts."""

import json
import math
from datetime import datetime
from typing import Any


def json_text(value: Any, pretty: bool = False) -> str:
    """Return one JSON document; with `pretty` one value a line. Numbers that JSON cannot write become null."""
    return json.dumps(plain(value), allow_nan=False, indent=2 if pretty else None)


def plain(value: Any) -> Any:
    """Return a value as JSON has it:

    NaN and infinity become null, times ISO 8601, values of unknown types their text.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if value is None or isinstance(value, str | bool | int | float):
        return value
    return str(value)
