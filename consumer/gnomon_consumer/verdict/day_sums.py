"""Sums by whole day from the database: of each metric and segment, and of slow requests."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

from gnomon_consumer.verdict.database import Row, Subject, ask
from gnomon_consumer.verdict.rules.evidence import Series
from gnomon_consumer.verdict.rules.gate import look_of
from gnomon_consumer.verdict.rules.plan import Plan
from gnomon_consumer.verdict.sealed import DAY, Period

Key = tuple[str, str, str]


def series_of(
    subject: Subject, plan: Plan, horizon: timedelta | None, period: Period, keys: list[str], clustered: bool
) -> tuple[Series, ...]:
    """Return the sums of every metric, segment and variant, with the variances of clusters at the looks that count."""
    asked = {**period.limits, "horizon": horizon, "time_zone": plan.time_zone, "metrics": list(plan.margins()),
             "keys": keys}  # fmt: skip
    days = len(period.days)
    looks = {n: period.days[0] + n * DAY for n in {days, look_of(days, plan)} - {0}}
    between: dict[Key, dict[int, tuple[float, float]]] = {}
    if clustered:
        counted = {look: n for n, look in looks.items()}
        for row in subject.ask("verdict_clusters", looks=list(looks.values()), **asked):
            where = between.setdefault((row["metric"], row["segment"], row["variant"]), {})
            where[counted[row["look"]]] = (row["by_cluster"] or 0.0, row["by_cluster_and_day"] or 0.0)
    by_series: dict[Key, dict[date, Row]] = {}
    for row in subject.ask("verdict_sums", **asked):
        by_series.setdefault((row["metric"], row["segment"], row["variant"]), {})[row["day"]] = row
    return tuple(_series(key, found, period.days, between.get(key, {})) for key, found in sorted(by_series.items()))


def latency_of(subject: Subject, plan: Plan, period: Period, control: str | None) -> tuple[Series, ...]:
    """Return the shares of requests over the agreed latency and over the control's own p95."""
    gates, found = plan.gates, []
    limits = {**period.limits, "time_zone": plan.time_zone}
    if gates.latency_sla_ms is not None:
        slow = subject.ask("verdict_latency", limit_us=gates.latency_sla_ms * 1000, **limits)
        found.append(_latency("latency_sla", slow, None, period.days))
    if gates.latency_control_share is not None and control is not None:
        named = {"stream": subject.row["stream"], "deployment": control}
        quantiles = ask(subject.connection, "latency", **named, **period.limits)
        p95 = next((r["microseconds"] for r in quantiles if r["measure"] == "shadow" and r["quantile"] == 0.95), None)
        if p95 is not None:
            theirs = ask(subject.connection, "verdict_latency", **named, **limits, limit_us=p95)
            ours = subject.ask("verdict_latency", limit_us=p95, **limits)
            found.append(_latency("latency_control", ours, theirs, period.days))
    return tuple(found)


def _series(key: Key, found: dict[date, Row], days: Sequence[date], clusters: dict[int, tuple[float, float]]) -> Series:
    metric, segment, variant = key

    def column(name: str) -> tuple[Any, ...]:
        return tuple(found[day][name] or 0.0 if day in found else 0.0 for day in days)

    return Series(
        metric,
        tuple(found[day]["n"] if day in found else 0 for day in days),
        live_y=column("live_y"),
        live_x=column("live_x"),
        shadow_y=column("shadow_y"),
        shadow_x=column("shadow_x"),
        clusters=clusters,
        segment=segment,
        variant=variant,
    )


def _latency(name: str, ours: list[Row], theirs: list[Row] | None, days: Sequence[date]) -> Series:
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
