"""Decide from plan and evidence, with reasons. Pure: the same input gives the same verdict, even years later.

The order: REJECT, then INSUFFICIENT_DATA, then PROMOTE, then HOLD. Missing evidence is never good news.
"""

from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import date, timedelta

from gnomon_consumer.verdict.rules import codes, gates
from gnomon_consumer.verdict.rules.answer import Decision, Reason, State, Verdict
from gnomon_consumer.verdict.rules.confidence import WEEK
from gnomon_consumer.verdict.rules.evalues import e_bh, harm_evalue
from gnomon_consumer.verdict.rules.evidence import Evidence, Series
from gnomon_consumer.verdict.rules.judged import FIRST_REJECT, Judged, days_until, judge, tuning
from gnomon_consumer.verdict.rules.plan import Plan
from gnomon_consumer.verdict.rules.sentence import sentence
from gnomon_consumer.verdict.rules.words import name_of, number

FULL_LABELS = 0.9
"""Below this label coverage, PROMOTE must hold even if all missing labels have their worst values."""
WAITABLE = {
    codes.SHOWN,
    codes.LABELS_DECIDE,
    codes.DAYS,
    codes.VOLUME,
    codes.ERRORS,
    codes.MORE_ERRORS,
    codes.NO_METRIC,
}
"""The reasons that more days can resolve. Any other reason needs a person, so no date is given."""


HOW = {
    "complete": "",
    "weighted": "with weights for the missing labels, ",
    "worst": "with the worst values for the missing labels, ",
}
"""The words for each variant of a series."""


def look_of(days: int, plan: Plan) -> int:
    """Return the number of days at the last look for PROMOTE: the last whole week from the planned minimum on, or 0."""
    look = days - days % WEEK if plan.promote_at == "week" else days
    return look if look >= plan.days else 0


def decide(plan: Plan, evidence: Evidence) -> Verdict:
    """Return the verdict on the evidence."""
    days = len(evidence.days)
    look = look_of(days, plan)
    metrics, about_metrics = _metrics(plan, evidence, days, look)
    reasons = (
        *gates.errors(plan, evidence),
        *about_metrics,
        *_harm(plan, evidence, days),
        *_standing(evidence),
        *gates.latency(plan, evidence, days, look),
        *gates.enough(plan, evidence),
        *gates.labels(plan, evidence),
        *gates.outside(plan, evidence),
    )
    decision = _decision({reason.state for reason in reasons}, evidence)
    verdict = Verdict(decision=decision, reasons=reasons, days=days, look=look, metrics=metrics, sentence="")
    if decision in (Decision.HOLD, Decision.INSUFFICIENT_DATA) and {r.code for r in verdict.blocking} <= WAITABLE:
        verdict = replace(verdict, expected=_expected(plan, evidence, metrics, days))
    return replace(verdict, sentence=sentence(plan, evidence, verdict))


def _decision(states: set[State], evidence: Evidence) -> Decision:
    if State.HARM in states:
        return Decision.REJECT
    if State.NO_DATA in states:
        return Decision.INSUFFICIENT_DATA
    if states & {State.NOT_YET, State.FAIL}:
        return Decision.HOLD
    return Decision.ROLLBACK if evidence.promoted_from else Decision.PROMOTE


def target(plan: Plan, metric: str) -> float:
    """Return the value that the lower bound of a metric must exceed."""
    return 0.0 if metric == plan.metric and plan.goal == "superior" else -plan.margins()[metric]


def _metrics(plan: Plan, evidence: Evidence, days: int, look: int) -> tuple[tuple[Judged, ...], list[Reason]]:
    """Judge the metric, its guardrails and the required segments, in every variant that PROMOTE requires."""
    reasons: list[Reason] = []
    now: list[Judged] = []
    asked = [(metric, "", margin) for metric, margin in plan.margins().items()]
    asked += [(plan.metric, segment, margin) for segment, margin in plan.segments.items()]
    for metric, segment, margin in asked:
        series = evidence.find(metric, segment)
        if series is None or not days:
            reasons.append(_without(evidence, metric, segment))
            continue
        judged = judge(series, plan, margin, days)
        now.append(judge(series, plan, margin, look) if look else judged)
        if not judged.known:
            reasons.append(Reason(codes.NO_METRIC, State.NO_DATA, f"{judged.name} has no denominator on one side"))
        elif days >= FIRST_REJECT and judged.high < -margin:
            text = f"{judged.name} is worse by {number(-judged.high)} at best, more than {number(margin)}"
            reasons.append(Reason(codes.SEGMENT_WORSE if segment else codes.WORSE, State.HARM, text, asdict(judged)))
        elif look:
            beyond = -margin if segment else target(plan, metric)
            reasons.extend(_judge_at_look(plan, evidence, series, margin, look, beyond))
    return tuple(now), reasons


def _without(evidence: Evidence, metric: str, segment: str) -> Reason:
    """Say that there is nothing to judge a metric by, and why where that is known."""
    code, text = evidence.silent.get(metric, ("", "")) if not segment else ("", "")
    if not code:
        code, text = codes.NO_METRIC, f"no request has the data for {name_of(metric)}"
    return Reason(code, State.NO_DATA, text + (f" of {segment}" if segment else ""), {"metric": metric})


def _variants(evidence: Evidence, series: Series) -> Iterator[tuple[str, Series | None]]:
    yield "complete", series
    if series.metric == "agreement" or series.segment:
        return
    yield "weighted", evidence.find(series.metric, variant="weighted")
    if (evidence.label_coverage or 0) < FULL_LABELS:
        yield "worst", evidence.find(series.metric, variant="worst")


def _judge_at_look(
    plan: Plan, evidence: Evidence, series: Series, margin: float, look: int, beyond: float
) -> Iterator[Reason]:
    """Return whether the lower bound passed at the last look, also with the label corrections."""
    for variant, candidate in _variants(evidence, series):
        if candidate is None:
            text = f"labels are missing, and {name_of(series.metric)} has no bound over their possible values"
            yield Reason(codes.LABELS_DECIDE, State.NOT_YET, text)
            continue
        judged = judge(candidate, plan, margin, look)
        passed = judged.low > beyond
        code = codes.SHOWN if variant == "complete" else codes.LABELS_DECIDE
        text = f"{HOW[variant]}{judged.name} {judged.at_least} after {look} days, and must be above {number(beyond)}"
        yield Reason(code, State.PASS if passed else State.NOT_YET, text, asdict(judged))
        if judged.unit == "week" and variant == "complete":
            missing = max(0, plan.weeks - judged.n)
            why = f"days depend on each other ({judged.name}: correlation {number(judged.correlation, digits=2)}), so"
            text = (
                f"{'as the plan says,' if plan.blocks == 'week' else why} whole weeks are counted: {judged.n} so far,"
                f" {missing} of {plan.weeks} planned still to come"
            )
            yield Reason(codes.DAYS_DEPEND, State.NOTE, text, {"weeks": judged.n, "missing": missing,
                                                               "correlation": judged.correlation})  # fmt: skip


def _harm(plan: Plan, evidence: Evidence, days: int) -> Iterator[Reason]:
    """Judge segments that lose more than the margin, by e-BH over all of them."""
    watched = [s for s in evidence.series if s.segment and s.metric == plan.metric and s.variant == "complete"]
    if not watched or days < FIRST_REJECT:
        return
    margin = plan.margins()[plan.metric]
    g = tuning(plan.days, plan.weeks, plan.alpha)
    judged = [judge(series, plan, plan.segments.get(series.segment, margin), days) for series in watched]
    values = [
        float(harm_evalue(j.estimate, j.standard_error, j.margin, j.n, g[j.unit == "week"])) if j.known else 0.0
        for j in judged
    ]
    for at in e_bh(values, plan.alpha):
        one = judged[at]
        text = f"{one.name} is worse by {number(-one.estimate)}, more than {number(one.margin)}"
        yield Reason(codes.SEGMENT_HARM, State.HARM, text, asdict(judged[at]) | {"e": values[at], "of": len(values)})


def _standing(evidence: Evidence) -> Iterator[Reason]:
    """Return the earlier rejection that is still in effect.

    The error of REJECT over all looks is limited only if no later look revokes it.
    """
    before = evidence.rejected
    if before is not None:
        by = f" ({', '.join(before.codes)})" if before.codes else ""
        text = f"verdict {before.verdict_id} rejected it after {before.days} whole days{by}; another plan starts again"
        yield Reason(codes.REJECTED_BEFORE, State.HARM, text, asdict(before))


def _expected(plan: Plan, evidence: Evidence, metrics: tuple[Judged, ...], days: int) -> date | None:
    """Return the day on which the metric would pass if the difference does not change."""
    first = next((judged for judged in metrics if judged.metric == plan.metric and not judged.segment), None)
    if first is None or not evidence.days or not plan.attainable:
        return None
    reached = days_until(first, plan, target(plan, plan.metric))
    return evidence.days[-1] + timedelta(days=max(reached - days, 1)) if reached else None
