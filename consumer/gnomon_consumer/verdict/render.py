"""A verdict and an expectation as text: a table for a terminal, Markdown for a CI job's page. Pure."""

import json
from datetime import datetime
from math import isfinite
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gnomon_consumer.verdict.rules.answer import Decision, State
from gnomon_consumer.verdict.rules.judged import Judged
from gnomon_consumer.verdict.rules.planning import Expected
from gnomon_consumer.verdict.rules.words import number
from gnomon_consumer.verdict.service import Decided

STYLES = {
    Decision.PROMOTE: "bold green",
    Decision.ROLLBACK: "bold magenta",
    Decision.HOLD: "bold yellow",
    Decision.REJECT: "bold red",
    Decision.INSUFFICIENT_DATA: "bold cyan",
}
SAYS = {
    State.PASS: "passes",
    State.NOT_YET: "not yet",
    State.NO_DATA: "missing",
    State.FAIL: "no",
    State.HARM: "harm",
    State.NOTE: "note",
}


def as_table(decided: Decided) -> RenderableType:
    """Return the verdict for a terminal: the decision, its sentence, the metrics and every reason."""
    verdict = decided.verdict
    head = Text.assemble(
        (verdict.decision.replace("_", " "), STYLES[verdict.decision]),
        f"  {decided.evidence.stream} · {decided.evidence.deployment} · {moment(decided.as_of)}",
        f" · verdict {decided.verdict_id}" if decided.verdict_id else "",
    )
    metrics = Table("metric", "difference", "at least", "at most", "margin", "n", box=box.SIMPLE_HEAD, pad_edge=False)
    for judged in verdict.metrics:
        metrics.add_row(judged.name, *figures(judged), f"{judged.n} {judged.unit}s")
    reasons = Table("gate", "says", "because", box=box.SIMPLE_HEAD, pad_edge=False)
    for reason in verdict.reasons:
        reasons.add_row(reason.code, SAYS[reason.state], reason.text)
    return Group(head, Text(verdict.sentence), Text("positive: the challenger is better", "dim"), metrics, reasons)


def as_markdown(decided: Decided) -> str:
    """Return the verdict as Markdown for a CI job's summary page."""
    verdict = decided.verdict
    lines = [
        f"## {verdict.decision}: {decided.evidence.stream} · {decided.evidence.deployment}",
        "",
        verdict.sentence,
        "",
        "| metric (positive: the challenger is better) | difference | at least | at most | margin | n |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    lines += [f"| {escape(m.name)} | {' | '.join(figures(m))} | {m.n} {m.unit}s |" for m in verdict.metrics]
    lines += ["", "| gate | says | because |", "|---|---|---|"]
    lines += [f"| {reason.code} | {SAYS[reason.state]} | {escape(reason.text)} |" for reason in verdict.reasons]
    number = f"Verdict {decided.verdict_id}, " if decided.verdict_id else ""
    lines += ["", f"{number}as of {moment(decided.as_of)}, plan `{decided.plan.sha256[:12]}`."]
    return "\n".join(lines) + "\n"


def expectation(expected: Expected) -> RenderableType:
    """Return what to expect of a plan, for a terminal."""
    table = Table(box=None, show_header=False, pad_edge=False)
    rows = {
        "metric": f"{expected.metric}, {expected.goal}, margin {figure(expected.margin)}",
        "a day's difference varies by": f"{figure(expected.day_sd)} ({expected.source})",
        "difference so far": "not known" if expected.difference is None else figure(expected.difference),
        "days until PROMOTE if it stays": (
            "not known" if expected.difference is None else days(expected.days_if_it_stays)
        ),
        "days until PROMOTE if it is 0": days(expected.days_if_none),
        **{f"margin that {n} days can show": figure(m) for n, m in expected.shown_margins.items()},
        "margin that a year can show": figure(expected.smallest_margin),
        "requests scored by then": "not known" if expected.rows is None else f"{expected.rows:,}",
        "CPU hours by then": "not known" if expected.cpu_hours is None else f"{expected.cpu_hours:.3g}",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    if expected.feasible:
        return table
    return Group(table, Text(infeasible(expected), "bold red"))


def infeasible(expected: Expected) -> str:
    """Return why a plan can never be met, and what to change."""
    if not expected.attainable:
        return (
            "This plan cannot be met: no model can agree with live more than live itself, so no challenger is superior"
            ' in agreement. Set goal = "not_worse".'
        )
    return (
        f"This plan cannot be met: a year of days shows a margin of {figure(expected.smallest_margin)} at best, and the"
        f" plan asks for {figure(expected.margin)}. Plan a wider margin, more requests a day, or another metric."
    )


def as_json(value: dict[str, Any]) -> str:
    """Return JSON for people and machines: indented, keys in order."""
    return json.dumps(value, indent=2, sort_keys=True, default=str)


def figures(judged: Judged) -> list[str]:
    """Return the difference, its bounds and the margin; rounding noise next to the metric becomes 0."""
    ends = (judged.estimate, judged.low, judged.high)
    return [number(value, judged.level) if isfinite(value) else "–" for value in ends] + [figure(judged.margin)]


def figure(value: float) -> str:
    """Return a number with four digits, an open end as a dash."""
    return number(value) if isfinite(value) else "–"


def days(value: int | None) -> str:
    """Return a number of days, or a text that a year is not enough."""
    return "more than a year" if value is None else str(value)


def moment(at: datetime) -> str:
    """Return a time to the minute, in UTC."""
    return f"{at:%Y-%m-%d %H:%M} UTC"


def escape(text: str) -> str:
    """Return text that is safe in a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")
