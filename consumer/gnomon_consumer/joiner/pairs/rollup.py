"""Counts and weighted sums of pairs, for tables `rollups` (hour and stratum) and `rollup_labels` (hour and decisions).

See `tables` for the rules.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gnomon_consumer.joiner.merge.shadow_records import different, numbers
from gnomon_consumer.times import HOUR_US
from gnomon_schemas.arrays import Booleans, Floats

COUNTS = (
    "seen", "sampled", "scored", "failed", "timed_out", "dead_lettered", "orphaned", "live_failed", "comparable",
    "agreed", "both_failed", "valued",
)  # fmt: skip
WEIGHTED = ("", "failed_", "timed_out_", "live_failed_", "comparable_", "agreed_", "both_failed_")
SUMS = (
    *(f"{prefix}weight{power}" for prefix in WEIGHTED for power in ("", "_squared")),
    "value_difference", "value_difference_absolute", "value_difference_squared", "value_difference_weight",
    "squared_weight_value_difference", "squared_weight_value_difference_absolute",
    "squared_weight_value_difference_squared", "squared_weight_value_difference_weight",
)  # fmt: skip

MAX_LABEL = 200
"""Characters of a label in `rollup_labels`: two labels form one key, and PostgreSQL limits a key to 2,704 bytes."""

Key = tuple[int, str]
"""Hour of event time (hours since the Unix epoch) and stratum."""

Decisions = tuple[int, str, str]
"""Hour, live label, shadow label."""


class Tolerance(NamedTuple):
    """Two values agree if they differ by at most `absolute`, or by at most the share `relative` of the larger one."""

    absolute: float = 0.0
    relative: float = 0.0


class Rollup:
    """Sums under construction; `rows` returns them in key order, so that all writers lock in the same order."""

    def __init__(self) -> None:
        self._counts: dict[Key, Counter[str]] = {}
        self._sums: dict[Key, dict[str, float]] = {}
        self._decisions: dict[Decisions, list[float]] = {}

    def count(self, key: Key, name: str, number: int = 1) -> None:
        """Add to one of COUNTS."""
        self._counts.setdefault(key, Counter())[name] += number

    def add_pairs(self, pairs: pa.RecordBatch, tolerance: Tolerance) -> None:
        """Add the pairs of a batch of `assemble.PAIRS`."""
        if pairs.num_rows == 0:
            return
        terms = _terms(pairs, tolerance)
        hours = pa.array(numbers(pairs, "event_time") // HOUR_US)
        keys, key_of = different(hours, pairs.column("stratum"))
        for key in keys:
            self._counts.setdefault(key, Counter())
            self._sums.setdefault(key, dict.fromkeys(SUMS, 0.0))
        # By array: where every pair is compared, several terms are the same one (127 ns a pair without this, 113 with).
        totals: dict[int, list[float]] = {}
        for name, term in terms.items():
            if id(term) not in totals:
                totals[id(term)] = np.bincount(key_of, term, len(keys)).tolist()
            for key, total in zip(keys, totals[id(term)], strict=True):
                if name in SUMS:
                    self._sums[key][name] += total
                else:
                    self._counts[key][name] += int(total)
        self._decide(pairs, hours, terms)

    def _decide(self, pairs: pa.RecordBatch, hours: pa.Array, terms: dict[str, Any]) -> None:
        """Add up the pairs of each combination of two decisions."""
        if "comparable" not in terms:
            return
        own = pa.array(np.flatnonzero(terms["comparable"] & _flags(pc.is_valid(pairs.column("live_label")))))
        columns = (hours, pairs.column("live_label"), pairs.column("shadow_label"))
        keys, key_of = different(*(column.take(own) for column in columns))
        for at, name in enumerate(("comparable", "comparable_weight", "comparable_weight_squared")):
            sums = np.bincount(key_of, terms[name][own], len(keys))
            for (hour, *labels), total in zip(keys, sums.tolist(), strict=True):
                live, shadow = (_key_of(label) for label in labels)
                self._decisions.setdefault((hour, live, shadow), [0, 0.0, 0.0])[at] += total if at else int(total)

    def decisions(self) -> Iterable[tuple[Decisions, list[float]]]:
        """Return keys in order, each with its pairs, weight and squared weight."""
        return sorted(self._decisions.items())

    def rows(self) -> Iterable[tuple[Key, list[int | float]]]:
        """Return keys in order, each with its COUNTS and SUMS."""
        for key in sorted(self._counts.keys() | self._sums.keys()):
            counts = self._counts.get(key, Counter())
            sums = self._sums.get(key, {})
            yield key, [*(counts[name] for name in COUNTS), *(sums.get(name, 0.0) for name in SUMS)]


def _key_of(label: str) -> str:
    """Return a label that fits into an index: a long one is cut, and its hash distinguishes it from others."""
    if len(label) <= MAX_LABEL:
        return label
    return f"{label[:MAX_LABEL]}… {hashlib.sha256(label.encode()).hexdigest()[:16]}"


def _terms(pairs: pa.RecordBatch, tolerance: Tolerance) -> dict[str, Any]:
    """Return what each row adds to each sum; leave out flags that no row has."""
    weight: Floats = 1.0 / (_floats(pairs, "capture_probability") * _floats(pairs, "inclusion_probability"))
    outcome = pairs.column("outcome")
    live, shadow = _floats(pairs, "live_value"), _floats(pairs, "shadow_value")
    # A side that failed is not compared, even if it answered something next to its error.
    answered = _flags(pc.is_null(pairs.column("live_error_kind"))) & _flags(pc.equal(outcome, "scored"))
    both = answered & np.isfinite(live) & np.isfinite(shadow)
    difference = np.subtract(shadow, live, out=np.zeros(len(live)), where=both)
    comparable, agreed = (flags & answered for flags in _agreement(pairs, both, _close(live, shadow, both, tolerance)))
    chosen: dict[str, Booleans] = {
        "": np.ones(len(weight), dtype=np.bool_),
        "failed_": _flags(pc.equal(outcome, "failed")),
        "timed_out_": _flags(pc.equal(outcome, "timed_out")),
        "live_failed_": _flags(pc.is_valid(pairs.column("live_error_kind"))),
        "comparable_": comparable,
        "agreed_": agreed,
        "both_failed_": _flags(pc.is_valid(pairs.column("live_error_kind"))) & _flags(pc.not_equal(outcome, "scored")),
    }
    terms: dict[str, Any] = {}
    squared = weight * weight
    for prefix, flags in chosen.items():
        if flags.any():
            terms[prefix.rstrip("_") or "sampled"] = flags
            terms[f"{prefix}weight"] = _where(flags, weight)
            terms[f"{prefix}weight_squared"] = _where(flags, squared)
    terms["scored"] = _flags(pc.equal(outcome, "scored"))
    terms["value_difference"] = weight * difference
    terms["value_difference_absolute"] = np.abs(terms["value_difference"])
    terms["value_difference_squared"] = terms["value_difference"] * difference
    for name in ("", "_absolute", "_squared"):
        terms[f"squared_weight_value_difference{name}"] = weight * terms[f"value_difference{name}"]
    terms["value_difference_weight"] = _where(both, weight)
    terms["squared_weight_value_difference_weight"] = _where(both, squared)
    terms["valued"] = both
    return terms


def _where(flags: Booleans, numbers: Floats) -> Floats:
    """Return the numbers of the flagged rows and 0 for all others; the same array if all are flagged."""
    return numbers if flags.all() else np.where(flags, numbers, 0.0)


def _agreement(pairs: pa.RecordBatch, both_values: Booleans, close: Booleans) -> tuple[Booleans, Booleans]:
    """Return which rows are comparable, and which of them agree."""
    labels = [pairs.column(f"{side}_label") for side in ("live", "shadow")]
    labelled = [_flags(pc.is_valid(column)) for column in labels]
    both_labels = labelled[0] & labelled[1]
    by_value = ~labelled[0] & ~labelled[1] & both_values
    same_label = _flags(pc.fill_null(pc.equal(*labels), fill_value=False))
    values = [_flags(pc.is_valid(pairs.column(f"{side}_value"))) for side in ("live", "shadow")]
    # If a value is not finite, the decision that was derived from it is not comparable.
    odd = [
        has & ~np.isfinite(_floats(pairs, f"{side}_value"))
        for has, side in zip(values, ("live", "shadow"), strict=True)
    ]
    both_labels &= ~(odd[0] | odd[1])
    comparable = both_labels | by_value
    agreed = (both_labels & same_label) | (by_value & close)
    only_items = ~(labelled[0] | labelled[1] | values[0] | values[1])
    for at in np.flatnonzero(only_items).tolist():
        lists = [_ranked(*(pairs.column(f"{side}_{part}")[at].as_py() for part in ("items", "scores")))
                 for side in ("live", "shadow")]  # fmt: skip
        comparable[at] = None not in lists
        agreed[at] = comparable[at] and lists[0] == lists[1]
    return comparable, agreed


def _close(live: Floats, shadow: Floats, both: Booleans, tolerance: Tolerance) -> Booleans:
    """Return whether two finite values agree."""
    one, other = np.where(both, live, 0.0), np.where(both, shadow, 0.0)
    most = np.maximum(tolerance.absolute, tolerance.relative * np.maximum(np.abs(one), np.abs(other)))
    close: Booleans = both & (np.abs(one - other) <= most)
    return close


def _ranked(items: list[str] | None, scores: list[float] | None) -> list[str] | None:
    """Return items from the best score to the worst, equal scores by name; in their own order if they have no scores.

    None if they are not a ranking: no items, another number of scores, a score that is not a number. The same rule as
    gnomon.ranked().
    """
    if items is None or scores is None:
        return items
    if len(items) != len(scores) or any(score is None or score != score for score in scores):
        return None
    return [item for _, item in sorted((-score, item) for score, item in zip(scores, items, strict=True))]


def _floats(pairs: pa.RecordBatch, name: str) -> Floats:
    """Return a column as floats, NaN for null."""
    column: Floats = pairs.column(name).cast(pa.float64()).to_numpy(zero_copy_only=False)
    return column


def _flags(column: Any) -> Booleans:
    flags: Booleans = column.to_numpy(zero_copy_only=False).astype(np.bool_)
    return flags
