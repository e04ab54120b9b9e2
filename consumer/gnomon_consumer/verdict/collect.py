"""Evidence of one deployment from the database: sealed days only, so that it is the same at any later time."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import psycopg
from psycopg import IsolationLevel
from psycopg.rows import DictRow

from gnomon_consumer.database.connections import Connection
from gnomon_consumer.verdict.database import SQL, Subject, ask, one, rows
from gnomon_consumer.verdict.day_sums import latency_of, series_of
from gnomon_consumer.verdict.manifest import manifest
from gnomon_consumer.verdict.plans import StoredPlan
from gnomon_consumer.verdict.rules.evidence import Control, Errors, Evidence, Rejection
from gnomon_consumer.verdict.rules.plan import Plan
from gnomon_consumer.verdict.sealed import Period, horizon_of, live_versions, replayed_until, sealed, whole_days
from gnomon_schemas.errors import ConfigurationError

MOST_SEGMENTS = 50
"""A segment key with more values than this is not watched for harm, unless the plan names it."""


def collect(
    connection: Connection, deployment: DictRow, plans: Sequence[StoredPlan], as_of: datetime | None = None
) -> Evidence:
    """Return the evidence of the sealed days under the newest plan, from one read-only snapshot."""
    before = connection.isolation_level, connection.read_only
    connection.isolation_level, connection.read_only = IsolationLevel.REPEATABLE_READ, True
    try:
        with connection.transaction():
            return _Collector(Subject(connection, deployment), plans, as_of).evidence()
    except psycopg.DataError as error:
        raise ConfigurationError(f"verdict.comparison: {error.diag.message_primary}") from error
    finally:
        connection.isolation_level, connection.read_only = before


class _Collector:
    def __init__(self, subject: Subject, plans: Sequence[StoredPlan], as_of: datetime | None) -> None:
        self._subject = subject
        self._plans = plans
        self._plan: Plan = plans[-1].plan
        self._as_of = as_of
        self._horizon = horizon_of(self._plan)

    def evidence(self) -> Evidence:
        row, connection = self._subject.row, self._subject.connection
        whole = Evidence(
            row["stream"],
            row["deployment"],
            row["role"] or "challenger",
            manifest=manifest(connection, row, self._plans, self._horizon, self._as_of),
            rejected=self._rejected(),
        )
        seal = sealed(self._subject, self._plan, self._as_of)
        if seal.until is None:
            return whole
        versions = live_versions(self._subject, seal.until, self._plan.time_zone)
        replay_end = replayed_until(self._subject)
        period = whole_days(seal.until, replay_end, self._plans[-1], versions)
        whole = replace(whole, live_versions=versions, sealed_until=seal.until, cohort_id=seal.cohort_id)
        return whole if period is None else self._within(period, whole, replayed=replay_end is not None)

    def _within(self, period: Period, whole: Evidence, *, replayed: bool) -> Evidence:
        plan, subject = self._plan, self._subject
        failed = subject.ask("verdict_errors", time_zone=plan.time_zone, **period.limits)[0]
        keys, every = self._watched(period)
        sums = series_of(subject, plan, period, keys, every=every, clustered=failed["clustered"], as_of=self._as_of)
        labelled = sums.labelled
        control = self._control_name()
        # A window of a replay may hold many days of event time, so coverage is that of all windows.
        covered = subject.ask("coverage", **({} if replayed else period.limits))[0]
        return replace(
            whole,
            days=period.days,
            series=sums.series,
            compared=sums.compared,
            silent=sums.silent,
            latency=latency_of(subject, plan, period, control),
            errors=Errors(failed["units"], failed["shadow_failed"], failed["shadow_only"], failed["live_only"]),
            rows=failed["n"],
            answered=failed["answered"],
            coverage=covered["coverage"],
            orphaned=covered["orphaned"] or 0,
            label_coverage=labelled.coverage,
            effective_rows=labelled.effective_rows,
            classes=dict(labelled.classes),
            cells=labelled.cells,
            ledger_differences=self._ledger_differences(),
            drift=self._drift(period),
            control=None if control is None else self._control(control, period),
            promoted_from=self._former(),
        )

    def _watched(self, period: Period) -> tuple[list[str], bool]:
        """Return the watched segment keys, and whether there are no others.

        Raises ConfigurationError for a segment that does not exist.
        """
        row = self._subject.row
        named = {"stream": row["stream"], "deployment": row["deployment"]}
        found = rows(self._subject.connection, SQL["segments"], {**named, **period.limits})
        values = {row["key"]: row["values"] for row in found}
        keys = {name.partition("=")[0]: name for name in self._plan.segments}
        for name in self._plan.segments:
            key, _, value = name.partition("=")
            if values and value not in values.get(key, ()):
                there = sorted(f"{k}={v}" for k, vs in values.items() for v in vs)
                shown = ", ".join(there[:20]) + (", …" if len(there) > 20 else "")
                raise ConfigurationError(f"verdict.segments names {name}, which no request has; there are {shown}")
        asked = self._plan.harm
        if asked is not None and values and (missing := sorted(set(asked) - set(values))):
            raise ConfigurationError(
                f"verdict.harm names {', '.join(missing)}; requests have the segments {', '.join(values)}"
            )
        watched = [key for key in values if asked is None and len(values[key]) <= MOST_SEGMENTS]
        chosen = sorted({*watched, *(asked or ()), *keys})
        return chosen, set(chosen) >= set(values)

    def _control_name(self) -> str | None:
        found = one(self._subject.connection, SQL["controls"], stream=self._subject.row["stream"])
        return found["deployment"] if found else None

    def _control(self, name: str, period: Period) -> Control | None:
        asked: dict[str, Any] = {"stream": self._subject.row["stream"], "deployment": name, **period.limits}
        row = one(self._subject.connection, SQL["control_agreement"], **asked)
        if row is None or row["agreement"] is None:
            return None
        high = 1.0 if row["high"] is None else row["high"]
        features: tuple[str, ...] = ()
        if 1 - high > self._plan.gates.control_disagreement:
            found = ask(self._subject.connection, "verdict_disagreeing_features", **asked)
            features = tuple(row["feature"] for row in found)
        return Control(
            deployment=name, rows=row["n"], disagreement=1 - row["agreement"], low=1 - high, features=features
        )

    def _drift(self, period: Period) -> dict[str, float]:
        found = self._subject.ask("drift", **period.limits)
        return {
            row["feature"]: row["psi_low"]
            for row in found
            if row["feature"] and not row["feature"].startswith("@") and row["psi_low"] is not None
        }

    def _ledger_differences(self) -> int:
        found = self._subject.one(SQL["ledger_differences"])
        return int(found["n"]) if found else 0

    def _former(self) -> bool:
        """Return whether this deployment's model was live before the newest promotion that is in effect."""
        found = self._subject.one(SQL["standing_former"], as_of=self._as_of)
        former = (found or {}).get("former") or {}
        row = self._subject.row
        mine = (row["model_name"], row["model_version"])
        return mine != (None, None) and (former.get("model_name"), former.get("model_version")) == mine

    def _rejected(self) -> Rejection | None:
        """Return the verdict that rejected this deployment under a plan with the same questions, or None."""
        newest = self._plans[-1]
        # A plan may return after another one: only verdicts since its return count.
        same = 0
        for plan in reversed(self._plans):
            if plan.process != newest.process:
                break
            same = plan.plan_id
        found = self._subject.one(SQL["first_rejection"], since_plan=same, as_of=self._as_of)
        if found is None:
            return None
        codes = [reason["code"] for reason in found["verdict"]["reasons"] if reason["state"] == "harm"]
        return Rejection(found["verdict_id"], found["days"], found["decided_at"], tuple(dict.fromkeys(codes)))
