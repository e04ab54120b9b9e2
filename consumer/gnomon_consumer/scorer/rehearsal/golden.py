"""The golden check: the model's outcomes compared with known answers for the same rows."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gnomon_consumer.scorer.rehearsal.examples import Example
from gnomon_schemas.codec import Record
from gnomon_schemas.errors import ConfigurationError

_WORST = 3  # rows that an error names


def check_golden(examples: Sequence[Example], outcomes: Sequence[Record], tolerance: float, source: Path) -> float:
    """Return the largest difference from the golden answers; raises ConfigurationError that names the worst rows."""
    wrong: list[tuple[float, str]] = []
    largest = 0.0
    for example, outcome in zip(examples, outcomes, strict=True):
        distance, text = _difference(example.expected, outcome)
        largest = max(largest, distance)
        if distance > tolerance:
            wrong.append((distance, f"line {example.line}: {text}"))
    if wrong:
        wrong.sort(key=lambda pair: -pair[0])
        raise ConfigurationError(
            f"{source}: {len(wrong)} of {len(examples)} rows differ by more than {tolerance:g}; the worst are "
            + "; ".join(text for _, text in wrong[:_WORST])
        )
    return largest


def _in_order(got: Mapping[str, Any], items: Sequence[str] | None) -> Sequence[float] | None:
    """Return the scores in the order of `items`; None if the model returned none, or scored other items."""
    scores: Sequence[float] | None = got["scores"]
    if items is None or scores is None:
        return scores
    named = dict(zip(got["items"] or (), scores, strict=False))
    return [named[item] for item in items] if named.keys() == set(items) else None


def _largest(have: Sequence[float] | None, wanted: Sequence[float]) -> float:
    if have is None or len(have) != len(wanted):
        return math.inf
    return max((abs(a - b) for a, b in zip(have, wanted, strict=True)), default=0.0)


def _difference(expected: Mapping[str, Any], outcome: Record) -> tuple[float, str]:
    if outcome["error"] is not None:
        return math.inf, f"{outcome['error']['kind']}: {outcome['error']['message']}"
    got = outcome["prediction"]
    worst, text = 0.0, ""
    for name, wanted in expected.items():
        have = got[name]
        if name == "items":
            continue  # the scores are compared in the order of the items
        if name == "label":
            distance = 0.0 if have == wanted else math.inf
        elif name == "value":
            distance = math.inf if have is None else abs(have - wanted)
        else:
            have = _in_order(got, expected.get("items"))
            distance = _largest(have, wanted)
        if distance > worst:
            worst, text = distance, f"{name} is {have}, not {wanted}"
    return worst, text
