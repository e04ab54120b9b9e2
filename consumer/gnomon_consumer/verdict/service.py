"""Decide, store and export verdicts."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from gnomon_consumer.database.connections import Connection
from gnomon_consumer.runtime.user import user_name
from gnomon_consumer.verdict import events
from gnomon_consumer.verdict.collect import collect
from gnomon_consumer.verdict.database import SQL, one
from gnomon_consumer.verdict.plans import StoredPlan, plans_with, record_plan, stored_plans
from gnomon_consumer.verdict.rules.answer import Verdict
from gnomon_consumer.verdict.rules.evidence import Evidence
from gnomon_consumer.verdict.rules.gate import decide
from gnomon_consumer.verdict.rules.plan import Plan
from gnomon_consumer.verdict.verification import differences, digest
from gnomon_schemas.errors import ConfigurationError

FORMAT = "gnomon.verdict.v1"


@dataclass(frozen=True, kw_only=True)
class Decided:
    """A verdict with its evidence; `verdict_id` is None if it was not stored."""

    deployment: DictRow
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


def decide_now(connection: Connection, deployment: DictRow, plan: Plan, given: bool) -> Decided:
    """Decide and store the verdict, in one transaction.

    The same evidence gives one verdict, also for concurrent calls.
    """
    record_plan(connection, deployment["deployment_id"], plan, given)
    while True:
        found = decide_as_of(connection, deployment, None)
        with connection.transaction():
            connection.execute(SQL["lock_verdicts"], {"id": deployment["deployment_id"]})
            last = one(connection, SQL["last_verdict"], id=deployment["deployment_id"])
            if last is not None and _same(last, found):
                return replace(found, verdict_id=last["verdict_id"])
            # Another process decided meanwhile on newer seals: read the evidence again, because verdicts must not go
            # back in time.
            if last is None or last["as_of"] <= found.as_of:
                return _store(connection, found, last)


def _same(last: DictRow, found: Decided) -> bool:
    """Return whether the last verdict has the same decision on the same evidence."""
    if (last["plan_id"], last["decision"]) != (found.plan.plan_id, found.verdict.decision):
        return False
    now, rejected = found.evidence.as_json(), found.evidence.rejected
    if rejected is not None and rejected.verdict_id == last["verdict_id"]:
        now["rejected"] = None
    return not list(differences({"rejected": None, "silent": {}, **last["evidence"]}, now))


def _store(connection: Connection, found: Decided, last: DictRow | None) -> Decided:
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


def dry_run(connection: Connection, deployment: DictRow, plan: Plan, given: bool) -> Decided:
    """Return what `decide_now` would, and store nothing: a role that can only read may ask."""
    plans = plans_with(connection, deployment["deployment_id"], plan, given)
    return _decide_at(connection, deployment, _now(connection), plans)


def decide_as_of(connection: Connection, deployment: DictRow, as_of: datetime | None) -> Decided:
    """Return the verdict by the seals and plans of a time (default: now), without storing it."""
    at = as_of or _now(connection)
    plans = stored_plans(connection, deployment["deployment_id"], at)
    if not plans:
        raise ConfigurationError(f"deployment {deployment['deployment']} had no plan by then")
    return _decide_at(connection, deployment, at, plans)


def _now(connection: Connection) -> datetime:
    now = one(connection, SQL["now"])
    assert now is not None
    at: datetime = now["at"]
    return at


def _decide_at(connection: Connection, deployment: DictRow, as_of: datetime, plans: list[StoredPlan]) -> Decided:
    evidence = collect(connection, deployment, plans, as_of)
    return Decided(
        deployment=deployment, plan=plans[-1], evidence=evidence, verdict=decide(plans[-1].plan, evidence), as_of=as_of
    )


def stored_verdict(connection: Connection, verdict_id: int) -> DictRow:
    """Return a stored verdict with its plan. Raises ConfigurationError for one that does not exist."""
    row = one(connection, SQL["verdict"], id=verdict_id)
    if row is None:
        known = one(connection, SQL["known_verdicts"])
        there = f"there are {known['low']} to {known['high']}" if known and known["high"] else "there is none yet"
        raise ConfigurationError(f"there is no verdict {verdict_id}; {there}")
    return row


def export(row: DictRow) -> dict[str, Any]:
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
