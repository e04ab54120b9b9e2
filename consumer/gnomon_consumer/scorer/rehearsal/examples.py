"""Rows for a rehearsal: read from a file, or generated from the stream's features.

A file is JSON lines, each {"features": {name: value, …}} and, for a golden check, the known answer: "value", "label" or
"scores" (with "items" where their order may differ).
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gnomon_consumer.scorer.captures import Row
from gnomon_schemas.codec import Codec
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.features import Feature, FeatureSchema
from gnomon_schemas.json_text import load_json
from gnomon_schemas.schema import Schema
from gnomon_schemas.texts import text_of

REHEARSAL = "rehearsal"
_ITEMS_OF_A_LIST = 3  # if the model does not state its number of items


@dataclass(frozen=True, slots=True)
class Example:
    """One row of a file: its line number, features, the expected answer, and the items to rank."""

    line: int
    features: Mapping[str, Any]
    expected: Mapping[str, Any]
    items: Sequence[str] = ("item-0", "item-1", "item-2")


def read_examples(path: Path) -> list[Example]:
    """Return the rows of a file; raise ConfigurationError that names the line at fault."""
    examples = []
    number = 0
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    examples.append(_example(load_json(line), number))
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}") from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}:{number + 1}: not UTF-8: {error}") from None
    except json.JSONDecodeError as error:
        raise ConfigurationError(f"{path}:{number}: not JSON: {error}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path}:{number}: {error}") from None
    if not examples:
        raise ConfigurationError(f"{path}: no rows")
    return examples


def _example(row: Any, number: int) -> Example:
    if not isinstance(row, dict) or not isinstance(row.get("features"), dict):
        raise ValueError("not an object with `features`")  # noqa: TRY004 - bad data, not a bad argument
    expected: dict[str, Any] = {}
    if row.get("value") is not None:
        expected["value"] = _number(row["value"], "value")
    if row.get("label") is not None:
        expected["label"] = text_of("label", row["label"])
    if row.get("scores") is not None:
        expected["scores"] = [_number(one, "scores") for one in _list(row["scores"], "scores")]
    if row.get("items") is not None:
        expected["items"] = [text_of("items", one) for one in _list(row["items"], "items")]
        if "scores" in expected and len(expected["items"]) != len(expected["scores"]):
            raise ValueError("`items` and `scores` differ in length")
        return Example(number, row["features"], expected, expected["items"])
    return Example(number, row["features"], expected)


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"`{name}` is not a list")  # noqa: TRY004 - bad data, not a bad argument
    return value


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"`{name}`: {json.dumps(value)[:50]} is not a finite number")
    return float(value)


def synthetic(features: Sequence[Feature], count: int, widths: Mapping[str, int] | None = None) -> list[Example]:
    """Return rows of plausible types and random values, for a warm-up without a file.

    `widths`: the number of items that the model takes of a list, by feature.
    """
    known = widths or {}
    items = tuple(f"item-{at}" for at in range(known.get("prediction.items", _ITEMS_OF_A_LIST)))
    return [Example(0, {one.name: _any(one, row, known) for one in features}, {}, items) for row in range(count)]


def _any(feature: Feature, row: int, widths: Mapping[str, int]) -> Any:
    if feature.kind == "array":
        return [_one(feature.items or "double", row)] * widths.get(feature.name, _ITEMS_OF_A_LIST)
    if feature.kind == "map":
        return {}
    if feature.kind == "enum":
        return feature.symbols[row % len(feature.symbols)]
    return _one(feature.kind, row)


def _one(kind: str, row: int) -> Any:
    plain = {"null": None, "boolean": row % 2 == 0, "string": "", "int": row % 7, "long": row % 7}
    return plain.get(kind, float(row % 7))


def captures(live: Schema, examples: Sequence[Example], source: Path | None = None) -> list[Row]:
    """Return the examples as captures; raise ConfigurationError if one does not fit the stream's features.

    A feature that may be null may be left out.
    """
    codec = Codec(live)
    features = FeatureSchema.in_live(live).features
    needed = [feature.name for feature in features if not feature.nullable]
    rows = []
    for number, example in enumerate(examples):
        missing = [name for name in needed if name not in example.features]
        if missing:
            raise ConfigurationError(f"{source}:{example.line}: no feature {missing[0]!r}")
        key = f"{REHEARSAL}-{number}"
        record = {
            "producer_id": REHEARSAL,
            "sequence": number,
            "captured_at": 0,
            "request_id": key,
            "capture_probability": 1.0,
            "stratum": None,
            "segments": {},
            "cluster": None,
            "model": {"name": REHEARSAL, "version": ""},
            "features": {feature.field: example.features.get(feature.name) for feature in features},
            "prediction": {"value": None, "label": None, "scores": None, "items": list(example.items)},
            "error": None,
            "latency_us": None,
            "feature_state": None,
        }
        try:
            value = codec.encode(record)
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise ConfigurationError(f"{source}:{example.line}: {error}") from None
        rows.append(Row(0, number, key.encode(), value, None, number, 1.0))
    return rows
