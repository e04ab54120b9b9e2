"""Sums by whole day: of each metric and segment, and of slow requests."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import NamedTuple, TypeVar

from psycopg.rows import DictRow

from gnomon_consumer.verdict.database import Subject, ask
from gnomon_consumer.verdict.pair_arrays import compared_pairs, labelled_pairs
from gnomon_consumer.verdict.rules.evidence import Compared, Series
from gnomon_consumer.verdict.rules.gate import look_of
from gnomon_consumer.verdict.rules.plan import RANKINGS, Plan
from gnomon_consumer.verdict.rules.silence import Why, silence
from gnomon_consumer.verdict.rules.summing import Labelled, Summing, agreement, labelled, sides
from gnomon_consumer.verdict.sealed import Period, horizon_of

N = TypeVar("N", int, float)


class DaySums(NamedTuple):
    """The sums, what is labelled, what could be compared, and why a metric has no sums."""

    series: tuple[Series, ...]
    labelled: Labelled
    compared: Compared | None
    silent: dict[str, Why]


def series_of(
    subject: Subject,
    plan: Plan,
    period: Period,
    keys: Sequence[str],
    *,
    every: bool,
    clustered: bool,
    as_of: datetime | None,
) -> DaySums:
    """Return the sums of every metric, segment and variant, what is labelled of them, and what could be compared.

    `keys` are the watched segment keys; `every`: there are no others. Each pair is read once for the metrics
    that need labels, and once for agreement, which needs no label.
    """
    days = len(period.days)
    looks = sorted({days, look_of(days, plan)} - {0})
    found: list[Series] = []
    silent: dict[str, Why] = {}
    how_much, compared, horizon = Labelled(), None, horizon_of(plan)
    if horizon is not None:
        ranked = not plan.margins().keys().isdisjoint(RANKINGS)
        pairs = labelled_pairs(subject, period, horizon, None if every else keys, clustered, ranked)
        summing = Summing(pairs, days, looks)
        how_much = labelled(pairs)
        for metric in plan.margins().keys() - {"agreement"}:
            series = list(summing.variants(metric))
            found += series
            if not any(one.variant == "complete" for one in series) and (why := silence(pairs, metric)) is not None:
                silent[metric] = why
        if plan.metric != "agreement":
            found += summing.segments(plan.metric, sides(pairs, plan.metric), keys)
    if "agreement" in plan.margins():
        pairs, differ = compared_pairs(subject, period, as_of, None if every else keys, clustered, plan.comparison)
        summing = Summing(pairs, days, looks)
        matches = agreement(pairs)
        found += summing.series("agreement", matches)
        if plan.metric == "agreement":
            found += summing.segments("agreement", matches, keys)
        ignored = {field: differ[field] for field in plan.comparison.ignored}
        compared = Compared(plan.comparison.compare, len(pairs.kind), int(matches.given.sum()), ignored)
    return DaySums(tuple(sorted(found, key=lambda s: (s.metric, s.segment, s.variant))), how_much, compared, silent)


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


def _latency(name: str, ours: list[DictRow], theirs: list[DictRow] | None, days: Sequence[date]) -> Series:
    """Return the share of slow requests with the control's, or with 0."""
    weights = _by_day(ours, "weight", days, 0.0)
    return Series(
        metric=name,
        rows=_by_day(ours, "n", days, 0),
        live_y=_by_day(theirs or (), "slow", days, 0.0),
        live_x=weights if theirs is None else _by_day(theirs, "weight", days, 0.0),
        shadow_y=_by_day(ours, "slow", days, 0.0),
        shadow_x=weights,
    )


def _by_day(rows: Sequence[DictRow], column: str, days: Sequence[date], missing: N) -> tuple[N, ...]:
    """Return a column's value of each day, `missing` for a day without a row."""
    found = {row["day"]: row[column] for row in rows}
    return tuple(found.get(day, missing) for day in days)
