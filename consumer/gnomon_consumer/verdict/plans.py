"""The plans of a deployment: stored when it starts, a change recorded and dated."""

from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg.types.json import Jsonb

from gnomon_consumer.database.connections import Connection
from gnomon_consumer.verdict.database import SQL, one, rows
from gnomon_consumer.verdict.rules.plan import Plan
from gnomon_schemas.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True)
class StoredPlan:
    """A plan as it was recorded. `evidence_from`: evidence counts from the first whole day after this event time."""

    plan_id: int
    plan: Plan
    sha256: str
    process: str
    evidence_from: datetime | None
    recorded_at: datetime


def stored_plans(connection: Connection, deployment_id: int, as_of: datetime | None = None) -> list[StoredPlan]:
    """Return the plans recorded by a time (default: all), the newest last."""
    found = rows(connection, SQL["stored_plans"], {"id": deployment_id, "as_of": as_of})
    return [StoredPlan(**{**row, "plan": Plan.model_validate(row["plan"])}) for row in found]


def record_plan(connection: Connection, deployment_id: int, plan: Plan, given: bool) -> StoredPlan:
    """Store the plan unless it is already stored, and return the valid plan.

    If the configuration has no plan (`given` false), a stored one is valid. A plan with other questions than the last
    one counts only evidence that has not yet been joined; a change of the way back alone has no such effect.
    """
    _check_expression(connection, plan)
    with connection.transaction():
        connection.execute(SQL["lock_plans"], {"id": deployment_id})
        valid = plans_with(connection, deployment_id, plan, given)[-1]
        if valid.plan_id:
            return valid
        connection.execute(
            SQL["add_plan"],
            {"id": deployment_id, "sha256": plan.sha256, "process": plan.process, "since": valid.evidence_from,
             "plan": Jsonb(plan.model_dump(mode="json"))},
        )  # fmt: skip
        return stored_plans(connection, deployment_id)[-1]


def plans_with(connection: Connection, deployment_id: int, plan: Plan, given: bool) -> list[StoredPlan]:
    """Return the plans that would be stored if this one were recorded now: a new one is the last, numbered 0."""
    known = stored_plans(connection, deployment_id)
    if known and (not given or known[-1].sha256 == plan.sha256):
        return known
    if known and known[-1].process == plan.process:
        since = known[-1].evidence_from
    else:
        reached = one(connection, SQL["captured_until"], id=deployment_id)
        since = reached["at"] if reached else None
    now = one(connection, SQL["now"])
    assert now is not None
    return [
        *known,
        StoredPlan(
            plan_id=0, plan=plan, sha256=plan.sha256, process=plan.process, evidence_from=since, recorded_at=now["at"]
        ),
    ]


def _check_expression(connection: Connection, plan: Plan) -> None:
    """Raise ConfigurationError if PostgreSQL cannot parse an expression.

    The expression is not evaluated on any data.
    """
    if plan.comparison.expression is None:
        return
    try:
        with connection.transaction():
            connection.execute(SQL["read_only"])
            connection.execute(SQL["check_expression"], {"expression": plan.comparison.expression})
            raise psycopg.Rollback
    except psycopg.DataError as error:
        raise ConfigurationError(f"verdict.comparison: {error.diag.message_primary}") from error
