"""Compute a stored verdict again and say how it differs."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from math import isclose
from typing import Any

from psycopg.rows import DictRow

from gnomon_consumer.database.connections import Connection
from gnomon_consumer.verdict.collect import collect
from gnomon_consumer.verdict.plans import stored_plans
from gnomon_consumer.verdict.rules.evidence import Evidence
from gnomon_consumer.verdict.rules.gate import decide
from gnomon_consumer.verdict.rules.plan import Plan

CLOSE = 1e-9
"""Sums that PostgreSQL's workers add up in another order differ in their last digits only."""
VERSIONS = ("software", "sql", "tables", "schemas")
"""The parts of the manifest that say by which program it was computed, not from what."""
UNORDERED = {
    "evidence.cells": ("live", "shadow"),
    "evidence.series": ("metric", "segment", "variant"),
    "evidence.latency": ("metric",),
}
"""Lists in no order of their own, and the names that tell their members apart."""


@dataclass(frozen=True)
class Verified:
    """How a stored verdict differs from one computed again (empty: it is equal), and both versions if they differ."""

    problems: tuple[str, ...]
    versions: str | None


def verify(connection: Connection, deployment: DictRow, row: DictRow) -> Verified:
    """Compute a stored verdict again, from its plan and evidence, and from the database.

    The versions of Gnomon and its SQL are no evidence: a newer one that finds the same numbers confirms the verdict.
    """
    problems = []
    plan = Plan.model_validate(row["plan"])
    if plan.sha256 != row["plan_sha256"]:
        problems.append("the plan does not match its hash")
    if digest(row["evidence"]) != row["evidence_sha256"]:
        problems.append("the stored evidence does not match its hash")
    again = decide(plan, Evidence.from_json(row["evidence"]))
    if again.decision != row["decision"]:
        problems.append(f"the stored evidence gives {again.decision} by this version, {row['decision']} was stored")
    plans = [p for p in stored_plans(connection, row["deployment_id"]) if p.plan_id <= row["plan_id"]]
    found = collect(connection, deployment, plans, row["as_of"])
    stored, now, versions = _comparable(row["evidence"], found.as_json())
    for path, before, after in differences(stored, now):
        by = f" ({after - before:+.6g})" if _is_number(before) and _is_number(after) else ""
        problems.append(f"{path}: {_short(before)} was stored, the database says {_short(after)}{by}")
    decision = decide(plans[-1].plan, found).decision
    if decision != row["decision"]:
        problems.append(f"the database gives {decision} now")
    return Verified(tuple(problems), versions)


def _comparable(stored: dict[str, Any], now: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], str | None]:
    """Return both without versions and with the fields that both versions know, and a text if the versions differ."""
    before, after = stored.get("manifest", {}), now["manifest"]
    versions = None
    if any(before.get(key) != after[key] for key in VERSIONS):
        versions = f"decided by Gnomon {before.get('software')}, computed again by Gnomon {version('gnomon')}"
        if before.get("software") == version("gnomon"):
            versions = f"decided by Gnomon {version('gnomon')}, computed again by another version of its SQL"
    data = {key: value for key, value in before.items() if key not in VERSIONS}
    known = {key: value for key, value in now.items() if key in stored}
    return (
        {**stored, "manifest": data},
        {**known, "manifest": {key: after.get(key) for key in data}},
        versions,
    )


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else text[:77] + "..."


def differences(before: Any, now: Any, path: str = "evidence") -> Iterator[tuple[str, Any, Any]]:
    """Yield (path, before, now) of every value that differs by more than rounding."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            yield from differences(before.get(key), now.get(key), f"{path}.{key}")
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        both = zip(_in_order(path, before), _in_order(path, now), strict=True)
        for at, (one_value, other) in enumerate(both):
            yield from differences(one_value, other, f"{path}[{at}]")
    elif _is_number(before) and _is_number(now):
        if not isclose(before, now, rel_tol=CLOSE, abs_tol=CLOSE):
            yield path, before, now
    elif before != now:
        yield path, before, now


def _in_order(path: str, values: list[Any]) -> list[Any]:
    """Return the values in an order of their own where the one in which they were stored means nothing."""
    names = UNORDERED.get(path)
    if names is None:
        return values
    return sorted(values, key=lambda value: tuple((value[name] is not None, value[name] or "") for name in names))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def digest(evidence: dict[str, Any]) -> str:
    """Return the SHA-256 of the evidence as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(evidence, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
