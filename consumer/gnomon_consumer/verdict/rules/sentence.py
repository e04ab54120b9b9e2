"""The verdict as one sentence for the decision maker. Pure."""

from math import isfinite
from typing import NamedTuple

from gnomon_consumer.verdict.rules import codes
from gnomon_consumer.verdict.rules.answer import Decision, Reason, State, Verdict
from gnomon_consumer.verdict.rules.confidence import NOISE
from gnomon_consumer.verdict.rules.evidence import Evidence
from gnomon_consumer.verdict.rules.judged import Judged
from gnomon_consumer.verdict.rules.plan import RANKINGS, Plan
from gnomon_consumer.verdict.rules.words import name_of, number


class _Said(NamedTuple):
    """The words for a difference: `{}` is its size; `more` and `fewer` name its two directions."""

    better: str
    worse: str
    more: str
    fewer: str
    points: bool = False
    aside: str = ""


_VALUES = ("its probabilities are better by {}", "its probabilities are worse by {}", "better", "worse")
_LISTS = ("its lists are better by {}", "its lists are worse by {}", "better", "worse")
SAID: dict[str, _Said] = {
    "accuracy": _Said("right on {} more of the requests", "right on {} fewer of the requests", "more", "fewer", True),
    "precision": _Said("{} more of its alarms are right", "{} fewer of its alarms are right", "more", "fewer", True),
    "recall": _Said("it finds {} more of the cases", "it finds {} fewer of the cases", "more", "fewer", True),
    **{name: _Said(*_VALUES, aside=name_of(name)) for name in ("brier", "log_loss")},
    **{name: _Said(*_LISTS, aside=name_of(name)) for name in RANKINGS},
    **{
        name: _Said(
            f"its {name_of(name)} is smaller by {{}}", f"its {name_of(name)} is larger by {{}}", "smaller", "larger"
        )
        for name in ("squared_error", "absolute_error", "rmse")
    },
}
HEADS = {
    Decision.PROMOTE: "Promote",
    Decision.ROLLBACK: "Roll back to the former model",
    Decision.REJECT: "Reject",
    Decision.HOLD: "Hold",
    Decision.INSUFFICIENT_DATA: "Not enough evidence yet",
}
ABOUT_METRIC = {codes.WORSE, codes.SHOWN, codes.LABELS_DECIDE, codes.DAYS}
"""The reasons that the difference explains; any other reason is shown in the sentence."""
EXPLAIN = {codes.LIVE_CHANGED, codes.PLAN_CHANGED, codes.DAYS_DEPEND}
"""The notes that say why it takes longer."""
MOST = 3


def sentence(plan: Plan, evidence: Evidence, verdict: Verdict) -> str:
    """Return one sentence: the decision, the challenger's gain or loss, and the basis or the missing evidence."""
    reasons = _leading_reasons(plan, verdict)
    gained = _gained(plan, verdict)
    if verdict.decision in (Decision.PROMOTE, Decision.ROLLBACK):
        accepted = f"the plan accepts a loss of {_margin(plan)}" if plan.goal == "not_worse" else ""
        parts = [gained, accepted, _failed(evidence)]
    else:
        texts = [_text(plan, reason) for reason in reasons]
        if not (gained and reasons and reasons[0].code in ABOUT_METRIC and not reasons[0].numbers.get("segment")):
            parts = [*texts, gained]
        elif reasons[0].code == codes.DAYS:
            parts = [gained, f"it takes {plan.days}", *texts[1:]]
        else:
            parts = [gained, *texts]
        if verdict.decision is not Decision.REJECT:
            parts += [reason.text for reason in verdict.reasons if reason.code in EXPLAIN]
    if verdict.expected is not None:
        day = f"{verdict.expected.day} {verdict.expected:%B %Y}"
        parts.append(f"if the difference stays as it is, a decision is due about {day}")
    return f"{HEADS[verdict.decision]}: {'; '.join(part for part in parts if part)}."


def _leading_reasons(plan: Plan, verdict: Verdict) -> list[Reason]:
    """Return the reasons of the sentence, each once: the first ones, with those about the metric in front."""
    deciding = list(verdict.deciding)
    shown = {(r.code, r.numbers.get("metric"), r.numbers.get("segment")) for r in deciding}
    if (codes.ERRORS, None, None) in shown and not next(r for r in deciding if r.code == codes.ERRORS).numbers["units"]:
        # Nothing was scored: no other reason matters.
        return [r for r in deciding if r.code == codes.ERRORS]
    if (codes.CONTROL, None, None) in shown:
        return [r for r in deciding if r.code in (codes.CONTROL, codes.DRIFT)]
    said_by = {codes.LABELS_DECIDE: codes.SHOWN, codes.SEGMENT_HARM: codes.SEGMENT_WORSE}
    told = [
        r for r in deciding
        if (said_by.get(r.code), r.numbers.get("metric"), r.numbers.get("segment")) not in shown
    ]  # fmt: skip
    own = (plan.metric, "")
    return sorted(told, key=lambda r: (r.numbers.get("metric"), r.numbers.get("segment")) != own)[:MOST]


def _text(plan: Plan, reason: Reason) -> str:
    """Return a reason as a text of the sentence, without the metric's own numbers if the difference shows them."""
    own = (reason.numbers.get("metric"), reason.numbers.get("segment")) == (plan.metric, "")
    if reason.code == codes.SHOWN and own and not plan.attainable:
        return 'no model can agree with live more than live itself: set goal = "not_worse"'
    if reason.code == codes.SHOWN and own:
        return (
            "not yet shown to be better"
            if plan.goal == "superior"
            else f"not yet shown to lose at most {_margin(plan)}"
        )
    if reason.code == codes.WORSE and own:
        return f"the plan accepts a loss of {_margin(plan)}"
    return reason.text


def _margin(plan: Plan) -> str:
    margin = plan.margins()[plan.metric]
    said = SAID.get(plan.metric)
    return _size(margin, 0.0, points=said is None or said.points)


def _failed(evidence: Evidence) -> str:
    errors = evidence.errors
    # A unit is a cluster on a day; without clusters it is a request.
    what = "requests" if errors.units == evidence.rows else "units"
    return f"{errors.shadow_failed:,} of {errors.units:,} {what} failed"


def _gained(plan: Plan, verdict: Verdict) -> str:
    """Return the challenger's gain or loss, and after how many days; nothing if it is not known."""
    # A rejection may come between two looks: its own numbers are newer than those of the last look.
    own = next((r for r in verdict.reasons if r.code == codes.WORSE and r.numbers["metric"] == plan.metric), None)
    judged = (
        Judged(**own.numbers) if own is not None and own.state is State.HARM
        else next((one for one in verdict.metrics if one.metric == plan.metric and not one.segment), None)
    )  # fmt: skip
    if judged is None or not judged.known:
        return ""
    days = verdict.days if own is not None or not verdict.look else verdict.look
    upper = own is not None or (judged.estimate < 0 and plan.goal == "superior")
    return f"{difference(judged, upper=upper)}, after {days} whole day{'' if days == 1 else 's'}"


def difference(judged: Judged, *, upper: bool) -> str:
    """Return the difference in words, with the relevant bound: its best (`upper`) or worst value."""
    end = judged.high if upper else judged.low
    if judged.metric not in SAID:
        return _agreement(judged, end)
    said = SAID[judged.metric]
    size = _size(abs(judged.estimate), judged.level, points=said.points)
    what = "no difference"
    if size != "0":
        what = (said.better if judged.estimate > 0 else said.worse).format(size)
    bound = _bound(judged, end, said, upper)
    aside = ", ".join(part for part in (said.aside if size != "0" else "", bound) if part)
    return f"{what} ({aside})" if aside else what


def _bound(judged: Judged, end: float, said: _Said, upper: bool) -> str:
    if not isfinite(end) or abs(end) > 1e300:
        return "with no bound yet"
    size = _size(abs(end), judged.level, points=False, factor=100 if said.points else 1)
    if size == "0":
        return "" if abs(judged.estimate) <= NOISE * judged.level else f"at {'best' if upper else 'worst'} equal"
    if not upper and end > 0:
        return f"at least {size}"
    points = " points" if said.points else ""
    return f"at {'best' if upper else 'worst'} {size}{points} {said.more if end > 0 else said.fewer}"


def _agreement(judged: Judged, end: float) -> str:
    """Return how often it differs from live, which is neither better nor worse."""
    share = number(-100 * judged.estimate, 100 * judged.level, 3)
    if not isfinite(end):
        bound = "with no bound yet"
    elif end == judged.high and end != judged.low:
        bound = f"at least {number(max(0.0, -100 * end), 100 * judged.level, 3)}%"
    else:
        bound = f"at most {number(min(100.0, -100 * end), 100 * judged.level, 3)}%"
    if share == "0":
        return f"it answers every request as live does ({bound} differ)"
    return f"it differs from live on {share}% of the requests ({bound})"


def _size(value: float, level: float, *, points: bool, factor: float = 1.0) -> str:
    """Return a size with three digits, of shares in points; 0 if it is rounding noise next to `level`."""
    if not points:
        return number(value * factor, level * factor, 3)
    size = number(100 * value, 100 * level, 3)
    return size if size == "0" else f"{size} point{'' if size == '1' else 's'}"
