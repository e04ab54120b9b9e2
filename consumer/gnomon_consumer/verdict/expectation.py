"""What to expect of the configured plan, from the deployment's first days, or from the control's."""

from math import isfinite

from psycopg.rows import DictRow

from gnomon_consumer.database.connections import Connection
from gnomon_consumer.settings import Settings
from gnomon_consumer.verdict.collect import collect
from gnomon_consumer.verdict.database import SQL, deployment_row, one, rows
from gnomon_consumer.verdict.plans import StoredPlan
from gnomon_consumer.verdict.rules.judged import judge
from gnomon_consumer.verdict.rules.plan import Plan
from gnomon_consumer.verdict.rules.planning import Expected, expect
from gnomon_schemas.errors import ConfigurationError

LEAST_DAYS = 3


def expectation_of(
    connection: Connection, settings: Settings, deployment: str | None, rows_a_day: float | None
) -> Expected:
    """Return the expectation. Raise ConfigurationError if there is no data yet: then the deviation must be given."""
    stream, plan = settings.require_stream(), settings.verdict
    wanted = deployment_row(connection, stream, deployment)
    controls = rows(connection, SQL["controls"], {"stream": stream})
    for row in (wanted, *(c for c in controls if c["deployment_id"] != wanted["deployment_id"])):
        found = _from_days(connection, row, plan, row is wanted, rows_a_day)
        if found is not None:
            return found
    raise ConfigurationError(
        f"fewer than {LEAST_DAYS} whole days are sealed of {wanted['deployment']} and of any control: give --day-sd,"
        " the standard deviation of a day's difference, or --differ with --rows-a-day"
    )


def _from_days(
    connection: Connection, row: DictRow, plan: Plan, own: bool, rows_a_day: float | None
) -> Expected | None:
    stored = StoredPlan(
        plan_id=0,
        plan=plan,
        sha256=plan.sha256,
        process=plan.process,
        evidence_from=None,
        recorded_at=row["created_at"],
    )
    evidence = collect(connection, row, [stored])
    series = evidence.find(plan.metric)
    days = len(evidence.days)
    if series is None or days < LEAST_DAYS:
        return None
    judged = judge(series, plan.model_copy(update={"blocks": "day"}), plan.margins()[plan.metric], days)
    if not isfinite(judged.estimate) or not judged.standard_error > 0:
        return None
    return expect(
        plan,
        judged.standard_error * days**0.5,
        f"{days} days of {row['deployment']}",
        judged.estimate if own else None,
        rows_a_day or evidence.rows / days,
        _cpu_us(connection, row),
    )


def _cpu_us(connection: Connection, row: DictRow) -> float | None:
    found = one(connection, SQL["cpu_a_row"], id=row["deployment_id"])
    return found["us"] if found else None
