"""Evidence of one deployment from the database: sealed days only, the same at any later time."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from psycopg import IsolationLevel

from gnomon_consumer.verdict.database import Connection, Row, ask, one, rows
from gnomon_consumer.verdict.manifest import manifest
from gnomon_consumer.verdict.plans import StoredPlan
from gnomon_consumer.verdict.rules.evidence import AnswerCell, Control, Errors, Evidence, LiveVersion, Series
from gnomon_consumer.verdict.rules.gate import look_of
from gnomon_consumer.verdict.rules.plan import Plan
from gnomon_schemas.errors import ConfigurationError

DAY = timedelta(days=1)
MOST_SEGMENTS = 50
"""Values of a segment key beyond which it is not watched for harm, unless the plan names it."""


class Period:
    """The whole local days that count, as times and as dates."""

    def __init__(self, first: date, end: date, time_zone: str) -> None:
        """Hold [first, end) in a time zone."""
        self.days = tuple(first + i * DAY for i in range(max(0, (end - first).days)))
        self.end = end
        zone = ZoneInfo(time_zone)
        self.since = datetime.combine(first, time(), zone)
        self.until = datetime.combine(max(first, end), time(), zone)


def collect(
    connection: Connection, deployment: Row, plans: Sequence[StoredPlan], as_of: datetime | None = None
) -> Evidence:
    """Return the evidence of sealed days under the newest plan, read in one snapshot."""
    before = connection.isolation_level
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    try:
        with connection.transaction():
            return _Collector(connection, deployment, plans, as_of).evidence()
    finally:
        connection.isolation_level = before


class _Collector:
    def __init__(
        self, connection: Connection, deployment: Row, plans: Sequence[StoredPlan], as_of: datetime | None
    ) -> None:
        self._connection = connection
        self._deployment = deployment
        self._plans = plans
        self._plan = plans[-1].plan
        self._as_of = as_of
        self._horizon = timedelta(days=self._plan.horizon_days) if needs_labels(self._plan) else None

    def evidence(self) -> Evidence:
        stream, name = self._deployment["stream"], self._deployment["deployment"]
        found = manifest(self._connection, self._deployment, self._plans, self._horizon, self._as_of)
        empty = Evidence(stream, name, self._deployment["role"] or "challenger", manifest=found)
        sealed, cohort = self._sealed()
        if sealed is None:
            return empty
        zone = ZoneInfo(self._plan.time_zone)
        versions = self._live_versions(sealed)
        end = sealed.astimezone(zone).date()
        replay_end = self._replay_end()
        if replay_end is not None:
            end = min(end, replay_end.astimezone(zone).date())
        first = self._first_day(zone, versions)
        whole = replace(empty, live_versions=versions, sealed_until=sealed, cohort_id=cohort)
        if first is None or first >= end:
            return whole
        return self._within(Period(first, end, self._plan.time_zone), whole, replayed=replay_end is not None)

    def _sealed(self) -> tuple[datetime | None, int | None]:
        """Return the event time up to which days are sealed, and the cohort of that seal."""
        if self._horizon is None:
            found = one(
                self._connection,
                "select min(event_time_reached) as until from gnomon.join_progress where deployment_id = %(id)s"
                " and event_time_reached is not null",
                id=self._id,
            )
            return (found or {}).get("until"), None
        self._check_horizon()
        found = one(
            self._connection,
            "select until, cohort_id from gnomon.cohorts where deployment_id = %(id)s"
            " and horizon = %(horizon)s::interval and sealed_at <= coalesce(%(as_of)s::timestamptz, 'infinity')"
            " order by until desc limit 1",
            id=self._id,
            horizon=self._horizon,
            as_of=self._as_of,
        )
        return (found["until"], found["cohort_id"]) if found else (None, None)

    def _check_horizon(self) -> None:
        known = one(
            self._connection,
            "select horizons from report_v1.streams where name = %(stream)s",
            stream=self._deployment["stream"],
        )
        horizons = known["horizons"] if known else []
        if self._horizon not in horizons:
            there = ", ".join(f"{h / DAY:g}" for h in horizons)
            raise ConfigurationError(f"stream has no horizon of {self._plan.horizon_days:g} days; there are {there}")

    @property
    def _id(self) -> int:
        return int(self._deployment["deployment_id"])

    def _asked(self, function: str, **arguments: Any) -> list[Row]:
        return ask(
            self._connection,
            function,
            stream=self._deployment["stream"],
            deployment=self._deployment["deployment"],
            **arguments,
        )

    def _live_versions(self, until: datetime) -> tuple[LiveVersion, ...]:
        found = self._asked("verdict_live_versions", until=until, time_zone=self._plan.time_zone)
        return tuple(LiveVersion(r["name"], r["version"], r["first_day"], r["last_day"], r["n"]) for r in found)

    def _first_day(self, zone: ZoneInfo, versions: Sequence[LiveVersion]) -> date | None:
        """Return the first whole day that counts: of the deployment, of the plan, and of the live version."""
        if not versions:
            return None
        first = min(version.first for version in versions) + DAY
        started = self._plans[-1].evidence_from
        if started is not None:
            first = max(first, started.astimezone(zone).date() + DAY)
        return max([first, *(version.last + DAY for version in versions[:-1])])

    def _replay_end(self) -> datetime | None:
        """Return the last capture of a replayed past, None for live traffic.

        A live stream without captures on its last days has stopped, which must be reported; a replay has only ended.
        """
        found = one(
            self._connection,
            "select max(last_captured_at) as last, min(opened_at - last_captured_at) > interval '1 day' as past"
            " from gnomon.windows where deployment_id = %(id)s and last_captured_at is not null",
            id=self._id,
        )
        last: datetime | None = found["last"] if found and found["past"] else None
        return last

    def _within(self, period: Period, whole: Evidence, *, replayed: bool) -> Evidence:
        plan, limits = self._plan, {"since": period.since, "until": period.until}
        failed = self._asked("verdict_errors", time_zone=plan.time_zone, **limits)[0]
        keys = self._watched(limits)
        cells, classes, coverage, effective = self._labelled(limits)
        # A window of a replay may hold many days of event time, so coverage is that of all windows.
        covered = self._asked("coverage", **({} if replayed else limits))[0]
        return replace(
            whole,
            days=period.days,
            series=self._series(period, keys, failed["clustered"]),
            latency=self._latency(period),
            errors=Errors(failed["units"], failed["shadow_failed"], failed["shadow_only"], failed["live_only"]),
            rows=failed["n"],
            answered=failed["answered"],
            coverage=covered["coverage"],
            orphaned=covered["orphaned"] or 0,
            label_coverage=coverage,
            effective_rows=effective,
            classes=classes,
            cells=cells,
            ledger_differences=self._ledger_differences(),
            drift=self._drift(limits),
            control=self._control(limits),
            promoted_from=self._former(),
        )

    def _series(self, period: Period, keys: list[str], clustered: bool) -> tuple[Series, ...]:
        plan = self._plan
        asked = {
            "since": period.since,
            "until": period.until,
            "horizon": self._horizon,
            "time_zone": plan.time_zone,
            "metrics": list(plan.margins()),
            "keys": keys,
        }
        looks = {n: period.days[0] + n * DAY for n in {len(period.days), look_of(len(period.days), plan)} - {0}}
        between: dict[tuple[str, str, str], dict[int, tuple[float, float]]] = {}
        if clustered:
            counted = {look: n for n, look in looks.items()}
            for row in self._asked("verdict_clusters", looks=list(looks.values()), **asked):
                where = between.setdefault((row["metric"], row["segment"], row["variant"]), {})
                where[counted[row["look"]]] = (row["by_cluster"] or 0.0, row["by_cluster_and_day"] or 0.0)
        by_series: dict[tuple[str, str, str], dict[date, Row]] = {}
        for row in self._asked("verdict_sums", **asked):
            by_series.setdefault((row["metric"], row["segment"], row["variant"]), {})[row["day"]] = row
        return tuple(
            _series_of(key, found, period.days, between.get(key, {})) for key, found in sorted(by_series.items())
        )

    def _watched(self, limits: dict[str, Any]) -> list[str]:
        """Return the watched segment keys. Raises ConfigurationError for a segment that does not exist."""
        found = rows(
            self._connection,
            "select s.key, array_agg(distinct s.value) as values"
            " from gnomon_estimators.pairs_of(%(stream)s, %(deployment)s, %(since)s, %(until)s, null) p"
            " cross join lateral jsonb_each_text(p.segments) s group by 1 order by 1",
            {"stream": self._deployment["stream"], "deployment": self._deployment["deployment"], **limits},
        )
        values = {row["key"]: row["values"] for row in found}
        named = {name.partition("=")[0]: name for name in self._plan.segments}
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
        return sorted({*watched, *(asked or ()), *named})

    def _labelled(self, limits: dict[str, Any]) -> tuple[tuple[AnswerCell, ...], dict[str, int], float | None, float]:
        """Return cells, rows by true class, label coverage, and the effective number of labelled rows."""
        if self._horizon is None:
            return (), {}, None, 0.0
        found = self._asked("verdict_cells", horizon=self._horizon, time_zone=self._plan.time_zone, **limits)
        total = sum(row["weight"] for row in found)
        known = sum(row["known_weight"] for row in found)
        squared = sum(row["known_weight_squared"] for row in found)
        by_cell: dict[tuple[str | None, str | None], list[float]] = {}
        classes: dict[str, int] = {}
        for row in found:
            cell = by_cell.setdefault((row["live_label"], row["shadow_label"]), [0.0, 0.0])
            cell[0] += row["weight"]
            cell[1] += row["known_weight"]
            if row["truth_label"] is not None and row["known"]:
                classes[row["truth_label"]] = classes.get(row["truth_label"], 0) + row["known"]
        cells = tuple(
            AnswerCell(live, shadow, weight / total, labelled / weight)
            for (live, shadow), (weight, labelled) in by_cell.items()
        )
        effective = known * known / squared if squared else 0.0
        return cells, classes, known / total if total else None, effective

    def _latency(self, period: Period) -> tuple[Series, ...]:
        gates, found = self._plan.gates, []
        limits = {"since": period.since, "until": period.until}
        ask_for = {**limits, "time_zone": self._plan.time_zone}
        if gates.latency_sla_ms is not None:
            slow = self._asked("verdict_latency", limit_us=gates.latency_sla_ms * 1000, **ask_for)
            found.append(_latency_series("latency_sla", slow, None, period.days))
        control = self._control_name()
        if gates.latency_control_share is not None and control is not None:
            named = {"stream": self._deployment["stream"], "deployment": control}
            quantiles = ask(self._connection, "latency", **named, **limits)
            p95 = next(
                (r["microseconds"] for r in quantiles if r["measure"] == "shadow" and r["quantile"] == 0.95), None
            )
            if p95 is not None:
                theirs = ask(self._connection, "verdict_latency", **named, **ask_for, limit_us=p95)
                ours = self._asked("verdict_latency", limit_us=p95, **ask_for)
                found.append(_latency_series("latency_control", ours, theirs, period.days))
        return tuple(found)

    def _control_name(self) -> str | None:
        found = one(
            self._connection,
            "select deployment from report_v1.deployments where stream = %(stream)s and role = 'control'"
            " order by deployment_id limit 1",
            stream=self._deployment["stream"],
        )
        return found["deployment"] if found else None

    def _control(self, limits: dict[str, Any]) -> Control | None:
        name = self._control_name()
        if name is None:
            return None
        asked = {"stream": self._deployment["stream"], "deployment": name, **limits}
        row = ask(self._connection, "agreement", **asked)[0]
        if row["agreement"] is None:
            return None
        high = 1.0 if row["high"] is None else row["high"]
        features: tuple[str, ...] = ()
        if 1 - high > self._plan.gates.control_disagreement:
            found = ask(self._connection, "verdict_disagreeing_features", **asked)
            features = tuple(row["feature"] for row in found)
        return Control(name, row["n"], 1 - row["agreement"], 1 - high, features)

    def _drift(self, limits: dict[str, Any]) -> dict[str, float]:
        found = self._asked("drift", **limits)
        return {
            row["feature"]: row["psi_low"]
            for row in found
            if row["feature"] and not row["feature"].startswith("@") and row["psi_low"] is not None
        }

    def _ledger_differences(self) -> int:
        found = one(self._connection, "select count(*) as n from gnomon.ledger_differences(%(id)s)", id=self._id)
        return int(found["n"]) if found else 0

    def _former(self) -> bool:
        """Return whether this deployment's model was live before the newest promotion that was not undone."""
        found = one(
            self._connection,
            "select p.former from gnomon.promotions p join gnomon.deployments d using (stream_id)"
            " where d.deployment_id = %(id)s and p.undoes is null"
            " and p.decided_at <= coalesce(%(as_of)s::timestamptz, 'infinity')"
            " and not exists (select from gnomon.promotions u where u.undoes = p.promotion_id)"
            " order by p.promotion_id desc limit 1",
            id=self._id,
            as_of=self._as_of,
        )
        former = (found or {}).get("former") or {}
        mine = (self._deployment["model_name"], self._deployment["model_version"])
        return mine != (None, None) and (former.get("model_name"), former.get("model_version")) == mine


def needs_labels(plan: Plan) -> bool:
    """Return whether any metric of the plan needs labels."""
    return set(plan.margins()) != {"agreement"}


def _series_of(
    key: tuple[str, str, str], found: dict[date, Row], days: Sequence[date], clusters: dict[int, tuple[float, float]]
) -> Series:
    metric, segment, variant = key

    def column(name: str) -> tuple[float, ...]:
        return tuple(float(found[day][name] or 0.0) if day in found else 0.0 for day in days)

    counts = tuple(found[day]["n"] if day in found else 0 for day in days)
    return Series(
        metric,
        counts,
        live_y=column("live_y"),
        live_x=column("live_x"),
        shadow_y=column("shadow_y"),
        shadow_x=column("shadow_x"),
        clusters=clusters,
        segment=segment,
        variant=variant,
    )


def _latency_series(name: str, ours: list[Row], theirs: list[Row] | None, days: Sequence[date]) -> Series:
    """Return the share of slow requests with the control's, or with 0."""
    mine = {row["day"]: row for row in ours}
    other = {row["day"]: row for row in theirs or ()}
    weights = tuple(mine[day]["weight"] if day in mine else 0.0 for day in days)
    return Series(
        name,
        tuple(mine[day]["n"] if day in mine else 0 for day in days),
        tuple(other[day]["slow"] if day in other else 0.0 for day in days),
        weights if theirs is None else tuple(other[day]["weight"] if day in other else 0.0 for day in days),
        tuple(mine[day]["slow"] if day in mine else 0.0 for day in days),
        weights,
    )
