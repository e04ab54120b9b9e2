"""The gates in addition to the metrics: errors, latency, volume, labels, drift, control. Pure."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from math import exp

from gnomon_consumer.verdict.rules import codes
from gnomon_consumer.verdict.rules.answer import Reason, State
from gnomon_consumer.verdict.rules.evalues import discordant, log_errors_above, log_errors_below
from gnomon_consumer.verdict.rules.evidence import Evidence
from gnomon_consumer.verdict.rules.judged import FIRST_REJECT, judge, rarest
from gnomon_consumer.verdict.rules.plan import Plan
from gnomon_consumer.verdict.rules.words import counted


def errors(plan: Plan, evidence: Evidence) -> Iterator[Reason]:
    """Judge the error rate: absolute, and against live on the units in which only one side failed."""
    errors, limit, alarm = evidence.errors, plan.gates.error_rate, 1 / plan.alpha
    numbers = asdict(errors) | {"limit": limit, "alarm": alarm}
    if not errors.units:
        none = "no whole day counts: it must be sealed, and begin after the plan was stored"
        yield Reason(codes.ERRORS, State.NO_DATA, "no request was scored" if evidence.days else none, numbers)
        return
    good = errors.units - errors.shadow_failed
    below = exp(min(700.0, log_errors_below(errors.shadow_failed, good, limit)))
    above = exp(min(700.0, log_errors_above(errors.shadow_failed, good, limit)))
    said = f"{errors.shadow_failed} of {errors.units:,} units failed"
    numbers |= {"e_below": below, "e_above": above}
    # A rate of one in a thousand cannot be judged from fewer than a thousand requests: one failure in three proves
    # little.
    if above >= alarm and errors.units * limit >= 1:
        yield Reason(codes.ERRORS, State.HARM, f"{said}: the error rate is above {limit:g}", numbers)
    elif below >= alarm:
        yield Reason(codes.ERRORS, State.PASS, f"{said}: the error rate is below {limit:g}", numbers)
    else:
        yield Reason(codes.ERRORS, State.NOT_YET, f"{said}: not yet shown to be below {limit:g}", numbers)
    b, c = errors.shadow_only, errors.live_only
    against = discordant(b, c)
    numbers = {"shadow_only": b, "live_only": c, "e": against, "alarm": alarm}
    said = f"the challenger alone failed in {b} units, live alone in {c}"
    if b <= c or against <= 1:
        yield Reason(codes.MORE_ERRORS, State.PASS, said, numbers)
    elif against >= alarm:
        yield Reason(codes.MORE_ERRORS, State.HARM, f"{said}: the challenger fails more often", numbers)
    else:
        yield Reason(codes.MORE_ERRORS, State.NOT_YET, f"{said}: not yet clear whether it fails more often", numbers)


def latency(plan: Plan, evidence: Evidence, days: int, look: int) -> Iterator[Reason]:
    """Judge the shares of slow answers: over the agreed latency, and over the control's own p95."""
    gates = plan.gates
    limits = {"latency_sla": gates.latency_sla_share if gates.latency_sla_ms else None,
              "latency_control": gates.latency_control_share}  # fmt: skip
    for name, limit in limits.items():
        if limit is None:
            continue
        agreed = name == "latency_sla"
        slower = f"slower than {gates.latency_sla_ms:g} ms" if agreed else "slower than the control's p95"
        series = next((s for s in evidence.latency if s.metric == name), None)
        code = codes.LATENCY_SLA if agreed else codes.LATENCY_CONTROL
        if series is None or not days:
            yield Reason(code, State.NO_DATA, f"no request was scored alone, so none is known to be {slower}")
            continue
        judged = judge(series, plan, limit, days)
        numbers = asdict(judged) | {"limit": limit}
        more = "" if agreed else " more than of the control's"
        over = f"{-judged.estimate:.2%} of the requests{more} are {slower}".replace("-", "−") if judged.known else ""
        at = judge(series, plan, limit, look) if look else judged
        if not judged.known:
            yield Reason(code, State.NO_DATA, f"no latency on one side, so none is known to be {slower}", numbers)
        elif days >= FIRST_REJECT and judged.high < -limit:
            yield Reason(code, State.HARM, f"{over}, and at most {limit:.2%} may be", numbers)
        elif at.low > -limit or (not at.estimate and rarest(sum(series.rows), plan.alpha) < limit):
            yield Reason(code, State.PASS, f"{over}, and at most {limit:.2%} may be", numbers)
        else:
            yield Reason(code, State.NOT_YET, f"{over}, not yet shown to be at most {limit:.2%}", numbers)


def enough(plan: Plan, evidence: Evidence) -> Iterator[Reason]:
    """Judge days, volume, the ledger and its coverage."""
    gates, days = plan.gates, len(evidence.days)
    if evidence.live_changed:
        newest = evidence.live_versions[-1]
        text = f"the live model changed to {newest.name} {newest.version}: evidence counts from then on"
        earlier = [asdict(version) for version in evidence.live_versions[:-1]]
        yield Reason(codes.LIVE_CHANGED, State.NOTE, text, {"days": days, "earlier": earlier})
    plans = evidence.manifest.get("plans", [])
    if len(plans) > 1:
        hashes = " and ".join(plan["sha256"][:12] for plan in plans[-2:])
        text = f"the plan changed after the start ({hashes}): evidence counts from then on"
        yield Reason(codes.PLAN_CHANGED, State.NOTE, text, {"plans": plans})
    enough = days >= plan.days
    text = f"{days} whole days of {plan.days}"
    yield Reason(codes.DAYS, State.PASS if enough else State.NO_DATA, text, {"days": days, "planned": plan.days})
    least: dict[str, tuple[float, float]] = {"rows": (evidence.rows, gates.rows)}
    labelled = evidence.find(plan.metric)
    if labelled is not None and gates.rows_a_day:
        least["rows on the poorest day"] = (min(labelled.rows, default=0), gates.rows_a_day)
    if plan.metric != "agreement":
        least["effective labelled rows"] = (evidence.effective_rows, gates.effective_rows)
        if len(evidence.classes) > 1:
            least["labelled rows of the rarest class"] = (min(evidence.classes.values()), gates.class_rows)
    for what, (found, wanted) in least.items():
        yield _at_least(codes.VOLUME, what, found, wanted, f"{found:,.0f} {what} (needed: {wanted:,.0f})")
    shares = {codes.ANSWERED: ("requests that both sides answered", evidence.answered, gates.answered),
              codes.COVERAGE: ("offered captures that were judged", evidence.coverage, gates.coverage)}  # fmt: skip
    for code, (what, share, wanted) in shares.items():
        yield _at_least(code, what, share, wanted, _percent(what, share, wanted))
    compared = evidence.compared
    if compared is not None:
        what, wanted = "answered requests that could be compared", gates.answered
        share = compared.compared / compared.answered if compared.answered else None
        ignored = ", ".join(f"{field} {n:,}" for field, n in compared.ignored.items())
        text = _percent(what, share, wanted) + (f"; ignored where it differs: {ignored}" if ignored else "")
        yield replace(_at_least(codes.COMPARED, what, share, wanted, text), numbers=asdict(compared))
    if evidence.ledger_differences or evidence.orphaned:
        differences = counted(evidence.ledger_differences, "difference")
        text = f"the ledger does not close: {differences}, {counted(evidence.orphaned, 'orphan')}"
        yield Reason(codes.LEDGER, State.NO_DATA, text, {"differences": evidence.ledger_differences,
                                                         "orphaned": evidence.orphaned})  # fmt: skip


def labels(plan: Plan, evidence: Evidence) -> Iterator[Reason]:
    """Judge label coverage: in total, and in each cell of decisions."""
    if plan.metric == "agreement" and not set(plan.guardrails) - {"agreement"}:
        return
    share, wanted = evidence.label_coverage, plan.gates.label_coverage
    what = "requests with a label"
    yield _at_least(codes.LABEL_COVERAGE, what, share, wanted, _percent(what, share, wanted))
    for cell in evidence.cells:
        if cell.share >= plan.gates.cell_share and cell.labelled < plan.gates.cell_coverage:
            text = (
                f"of requests where live said {cell.live or 'nothing'} and the challenger {cell.shadow or 'nothing'}, "
                f"{cell.labelled:.1%} have a label"
            )
            yield Reason(codes.LABEL_CELL, State.NO_DATA, text, asdict(cell))


def outside(plan: Plan, evidence: Evidence) -> Iterator[Reason]:
    """Judge drift, the control, the deployment's role and the way back."""
    for feature, low in sorted(evidence.drift.items()):
        if low > plan.gates.drift_psi and feature not in plan.gates.drift_expected:
            text = f"{feature} has drifted: PSI at least {low:.3g}, above {plan.gates.drift_psi:g}"
            yield Reason(codes.DRIFT, State.FAIL, text, {"feature": feature, "psi_low": low})
    if evidence.role == "control":
        yield Reason(codes.CONTROL, State.FAIL, "this is a control: the live model itself, never to be promoted")
    control = evidence.control
    if control is not None:
        differs = control.low > plan.gates.control_disagreement
        named = "" if control.deployment == "control" else f" {control.deployment}"
        text = f"the control{named} differs from live on {control.disagreement:.2%} of the requests"
        if differs and control.features:
            text += f", where these features differ most: {', '.join(control.features)}"
        state = State.FAIL if differs and evidence.role != "control" else State.NOTE
        yield Reason(codes.CONTROL_DISAGREES if differs else codes.NOISE_FLOOR, state, text, asdict(control))
    if plan.way_back.kind == "none" and evidence.role != "control":
        text = "the plan names no way back: set verdict.way_back"
        yield Reason(codes.NO_WAY_BACK, State.FAIL, text)


def _at_least(code: str, what: str, found: float | None, wanted: float, text: str) -> Reason:
    enough = found is not None and found >= wanted
    return Reason(code, State.PASS if enough else State.NO_DATA, text, {"what": what, "found": found, "wanted": wanted})


def _percent(what: str, share: float | None, wanted: float) -> str:
    return f"{'nothing known of' if share is None else f'{share:.2%} of'} {what} (needed: {wanted:.2%})"
