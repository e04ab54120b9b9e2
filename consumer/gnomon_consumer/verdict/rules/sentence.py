"""The verdict as one sentence for the decision maker. Pure."""

from gnomon_consumer.verdict.rules.answer import Decision, Verdict
from gnomon_consumer.verdict.rules.evidence import Evidence
from gnomon_consumer.verdict.rules.judged import Judged
from gnomon_consumer.verdict.rules.plan import Plan

SAID: dict[str, tuple[str, str, float]] = {
    # metric: (better, worse, factor of the numbers)
    "accuracy": ("right on {} points more of the requests", "right on {} points fewer of the requests", 100),
    "precision": ("{} points more of its alarms are right", "{} points fewer of its alarms are right", 100),
    "recall": ("finds {} points more of the cases", "finds {} points fewer of the cases", 100),
    "brier": ("its probabilities are better by {} (Brier score)", "its probabilities are worse by {} (Brier score)", 1),
    "agreement": ("{} points more agreement", "it differs from live on {} % of the requests", 100),
}


def sentence(plan: Plan, evidence: Evidence, verdict: Verdict) -> str:
    """Return one sentence: the decision, the challenger's gain or loss, and the basis or the missing evidence."""
    head = {
        Decision.PROMOTE: "Promote",
        Decision.ROLLBACK: "Roll back to the former model",
        Decision.REJECT: "Reject",
        Decision.HOLD: "Hold",
        Decision.INSUFFICIENT_DATA: "Not enough evidence yet",
    }[verdict.decision]
    first = next((judged for judged in verdict.metrics if judged.metric == plan.metric and not judged.segment), None)
    parts = []
    if first is not None and first.known:
        parts.append(f"{difference(first)}, after {verdict.look or verdict.days} whole days")
    if verdict.decision in (Decision.PROMOTE, Decision.ROLLBACK):
        parts.append(f"{evidence.errors.shadow_failed} of {evidence.errors.units:,} units failed")
    else:
        parts += [reason.text for reason in verdict.deciding[:3]]
    if verdict.expected is not None:
        parts.append(f"if the difference stays as it is, a decision is due about {verdict.expected:%d %B %Y}")
    return f"{head}: {'; '.join(parts)}."


def difference(judged: Judged) -> str:
    """Return the difference in words, with the bound that matters."""
    better, worse, factor = SAID.get(
        judged.metric, (f"{judged.metric} better by {{}}", f"{judged.metric} worse by {{}}", 1)
    )
    size = f"{abs(judged.estimate) * factor:.3g}"
    if judged.estimate >= 0:
        shown = f"at least {judged.low * factor:.3g}" if judged.low > -1e300 else "with no bound yet"
        return f"{better.format(size)} ({shown})"
    shown = f"at best {judged.high * factor:.3g}" if judged.high < 1e300 else "with no bound yet"
    return f"{worse.format(size)} ({shown})"
