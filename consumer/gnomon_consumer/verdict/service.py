"""Decide, store, verify and export verdicts."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from math import isclose
from typing import Any

from psycopg.types.json import Jsonb

from gnomon_consumer.runtime.user import user_name
from gnomon_consumer.verdict import events
from gnomon_consumer.verdict.collect import collect
from gnomon_consumer.verdict.database import SQL, Connection, Row, one
from gnomon_consumer.verdict.plans import StoredPlan, record_plan, stored_plans
from gnomon_consumer.verdict.rules.answer import Verdict
from gnomon_consumer.verdict.rules.evidence import Evidence
from gnomon_consumer.verdict.rules.gate import decide
from gnomon_consumer.verdict.rules.plan import Plan
from gnomon_schemas.errors import ConfigurationError

FORMAT = "gnomon.verdict.v1"
CLOSE = 1e-9
"""PostgreSQL's parallel workers add in varying order, so sums may differ in their last digits."""


@dataclass(frozen=True)
class Decided:
    """A verdict with its evidence; `verdict_id` is None if it was not stored."""

    deployment: Row
    plan: StoredPlan
    evidence: Evidence
    verdict: Verdict
    as_of: datetime
    verdict_id: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the JSON of `--format json` and the HTTP gate."""
        return {
            "verdict_id": self.verdict_id,
            "stream": self.evidence.stream,
            "deployment": self.evidence.deployment,
            "as_of": self.as_of.isoformat(),
            "plan_sha256": self.plan.sha256,
            **self.verdict.as_json(),
        }


def decide_now(connection: Connection, deployment: Row, plan: Plan, given: bool) -> Decided:
    """Decide and store the verdict, in one transaction.

    The same evidence gives one verdict, also for concurrent calls.
    """
    record_plan(connection, deployment["deployment_id"], plan, given)
    while True:
        found = said_as_of(connection, deployment, None)
        with connection.transaction():
            connection.execute(SQL["lock_verdicts"], {"id": deployment["deployment_id"]})
            last = one(connection, SQL["last_verdict"], id=deployment["deployment_id"])
            if last is not None and _same(last, found):
                return replace(found, verdict_id=last["verdict_id"])
            # Another process decided meanwhile on newer seals: read the evidence again, because verdicts must not go
            # back in time.
            if last is None or last["as_of"] <= found.as_of:
                return _store(connection, found, last)


def _same(last: Row, found: Decided) -> bool:
    """Return whether the last verdict has the same decision on the same evidence."""
    if (last["plan_id"], last["decision"]) != (found.plan.plan_id, found.verdict.decision):
        return False
    now, rejected = found.evidence.as_json(), found.evidence.rejected
    if rejected is not None and rejected.verdict_id == last["verdict_id"]:
        now["rejected"] = None
    return not list(differences({"rejected": None, **last["evidence"]}, now))


def _store(connection: Connection, found: Decided, last: Row | None) -> Decided:
    evidence = found.evidence.as_json()
    row = one(
        connection,
        SQL["add_verdict"],
        deployment_id=found.deployment["deployment_id"],
        plan_id=found.plan.plan_id,
        cohort_id=found.evidence.cohort_id,
        as_of=found.as_of,
        decision=found.verdict.decision,
        sentence=found.verdict.sentence,
        days=found.verdict.days,
        look=found.verdict.look,
        verdict=Jsonb(found.verdict.as_json()),
        evidence=Jsonb(evidence),
        sha256=digest(evidence),
        by=user_name(),
    )
    assert row is not None
    decided = replace(found, verdict_id=row["verdict_id"])
    if last is None or last["decision"] != found.verdict.decision:
        before = last["decision"] if last else None
        events.write(connection, found.deployment, "verdict.changed", {"before": before, **decided.as_json()})
    return decided


def said_as_of(connection: Connection, deployment: Row, as_of: datetime | None) -> Decided:
    """Return the verdict by the seals and plans of a time (default: now), without storing it."""
    if as_of is None:
        now = one(connection, SQL["now"])
        assert now is not None
        as_of = now["at"]
        assert isinstance(as_of, datetime)
    plans = stored_plans(connection, deployment["deployment_id"], as_of)
    if not plans:
        raise ConfigurationError(f"deployment {deployment['deployment']} had no plan by then")
    evidence = collect(connection, deployment, plans, as_of)
    return Decided(deployment, plans[-1], evidence, decide(plans[-1].plan, evidence), as_of)


def stored_verdict(connection: Connection, verdict_id: int) -> Row:
    """Return a stored verdict with its plan. Raises ConfigurationError for one that does not exist."""
    row = one(connection, SQL["verdict"], id=verdict_id)
    if row is None:
        known = one(connection, SQL["known_verdicts"])
        there = f"there are {known['low']} to {known['high']}" if known and known["high"] else "there is none yet"
        raise ConfigurationError(f"there is no verdict {verdict_id}; {there}")
    return row


def export(row: Row) -> dict[str, Any]:
    """Return a stored verdict as one JSON object with everything that is needed to check it."""
    return {
        "format": FORMAT,
        "verdict_id": row["verdict_id"],
        "stream": row["stream"],
        "deployment": row["deployment"],
        "as_of": row["as_of"].isoformat(),
        "decided_at": row["decided_at"].isoformat(),
        "decided_by": row["decided_by"],
        "plan": row["plan"],
        "plan_sha256": row["plan_sha256"],
        "evidence": row["evidence"],
        "evidence_sha256": row["evidence_sha256"],
        "verdict": row["verdict"],
    }


def verify(connection: Connection, deployment: Row, row: Row) -> list[str]:
    """Return how a stored verdict differs from what its plan and evidence, and the database, give now; empty: equal."""
    problems = []
    if Plan.model_validate(row["plan"]).sha256 != row["plan_sha256"]:
        problems.append("the plan does not have its hash")
    if digest(row["evidence"]) != row["evidence_sha256"]:
        problems.append("the stored evidence does not have its hash")
    again = decide(Plan.model_validate(row["plan"]), Evidence.from_json(row["evidence"]))
    if again.decision != row["decision"]:
        problems.append(f"the stored evidence gives {again.decision} by this version, {row['decision']} was stored")
    plans = [p for p in stored_plans(connection, row["deployment_id"]) if p.plan_id <= row["plan_id"]]
    found = collect(connection, deployment, plans, row["as_of"])
    for path, before, now in differences(row["evidence"], found.as_json()):
        by = f" ({now - before:+.6g})" if isinstance(before, int | float) and isinstance(now, int | float) else ""
        problems.append(f"{path}: {_short(before)} was stored, the database says {_short(now)}{by}")
    decision = decide(plans[-1].plan, found).decision
    if decision != row["decision"]:
        problems.append(f"the database gives {decision} now")
    return problems


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else text[:77] + "..."


def differences(before: Any, now: Any, path: str = "evidence") -> Iterator[tuple[str, Any, Any]]:
    """Yield (path, before, now) of every value that differs by more than rounding."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            yield from differences(before.get(key), now.get(key), f"{path}.{key}")
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for at, (one_value, other) in enumerate(zip(before, now, strict=True)):
            yield from differences(one_value, other, f"{path}[{at}]")
    elif isinstance(before, int | float) and isinstance(now, int | float):
        if not isclose(before, now, rel_tol=CLOSE, abs_tol=CLOSE):
            yield path, before, now
    elif before != now:
        yield path, before, now


def digest(evidence: dict[str, Any]) -> str:
    """Return the SHA-256 of the evidence as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(evidence, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
