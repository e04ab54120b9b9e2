"""Bounds on the reports' numbers: `agreement.low >= 0.9`, `errors.rate[metric=error,side=shadow] <= 0.01 if n >= 200`.

A bound is met if the number is on the right side in every row that matches the brackets. It is unknown if no row
matches, a row has no number, or the condition is not fulfilled: no evidence is never good news.
"""

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from prometheus_client import CollectorRegistry, Gauge
from psycopg.rows import DictRow

from gnomon_consumer.reports.catalogue import REPORTS
from gnomon_consumer.reports.numbers import number
from gnomon_schemas.errors import ConfigurationError

_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}
_COMPARISON = r"(?P<{0}sign><=|>=|<|>|=)\s*(?P<{0}limit>\S+)"
_SHAPE = re.compile(
    r"\s*(?P<report>\w+)\.(?P<column>\w+)\s*(?:\[(?P<where>[^\]]*)\])?\s*"
    + _COMPARISON.format("")
    + rf"(?:\s+if\s+(?P<if_column>\w+)\s*{_COMPARISON.format('if_')})?\s*"
)

MET, BROKEN, UNKNOWN = "met", "broken", "unknown"
# The states as Prometheus's values.
_STATES = {MET: 1, BROKEN: 0, UNKNOWN: -1}


@dataclass(frozen=True)
class Comparison:
    """A comparison of a column with a number."""

    column: str
    sign: str
    limit: float

    def holds(self, value: float) -> bool:
        """Return whether the number is on the right side."""
        return _COMPARE[self.sign](value, self.limit)


@dataclass(frozen=True, kw_only=True)
class Bound:
    """One bound, as written and as understood."""

    text: str
    report: str
    where: Mapping[str, str]
    wanted: Comparison
    condition: Comparison | None = None


@dataclass(frozen=True, kw_only=True)
class BoundResult:
    """One row compared with one bound: `state` is met, broken or unknown; `value` is None without a number."""

    bound: str
    deployment: str | None
    role: str | None
    value: float | None
    state: str
    reason: str


def parse(text: str) -> Bound:
    """Parse one bound. Raises ConfigurationError that shows the syntax."""
    match = _SHAPE.fullmatch(text)
    if match is None:
        raise ConfigurationError(f"bound '{text}': write REPORT.COLUMN[KEY=VALUE,…] >= NUMBER, or … if n >= NUMBER")
    if match["report"] not in REPORTS:
        raise ConfigurationError(f"bound '{text}': no report {match['report']}; there are {', '.join(REPORTS)}")
    where: dict[str, str] = {}
    for part in filter(None, (match["where"] or "").split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise ConfigurationError(f"bound '{text}': '{part}' is not KEY=VALUE")
        where[key.strip()] = value.strip()
    wanted = Comparison(match["column"], match["sign"], _limit(text, match["limit"]))
    condition = None
    if match["if_column"]:
        condition = Comparison(match["if_column"], match["if_sign"], _limit(text, match["if_limit"]))
    return Bound(text=" ".join(text.split()), report=match["report"], where=where, wanted=wanted, condition=condition)


def _limit(text: str, written: str) -> float:
    try:
        limit = float(written)
    except ValueError:
        raise ConfigurationError(f"bound '{text}': '{written}' is not a number") from None
    if not math.isfinite(limit):
        raise ConfigurationError(f"bound '{text}': the limit must be finite")
    return limit


def hold(bound: Bound, columns: Iterable[str], rows: Iterable[DictRow]) -> list[BoundResult]:
    """Compare a report's rows with a bound; never empty. Raises ConfigurationError for an unknown column."""
    known = list(columns)
    for name in (bound.wanted.column, *bound.where, *([bound.condition.column] if bound.condition else [])):
        if name not in known:
            raise ConfigurationError(
                f"bound '{bound.text}': report {bound.report} has no column {name}, only {', '.join(known)}"
            )
    rows = list(rows)
    findings = [
        _finding(bound, row)
        for row in rows
        if all(_format_value(row[key]) == value for key, value in bound.where.items())
    ]
    if findings:
        return findings
    problems = [str(row["status"]) for row in rows if row.get("status", "ok") != "ok"]
    return [
        BoundResult(
            bound=bound.text,
            deployment=None,
            role=None,
            value=None,
            state=UNKNOWN,
            reason=problems[0] if problems else "no row matches it",
        )
    ]


def _finding(bound: Bound, row: DictRow) -> BoundResult:
    value, state, reason = _number(row[bound.wanted.column]), UNKNOWN, ""
    if value is None:
        reason = str(row.get("status") or "no number")
        reason = "no number" if reason == "ok" else reason
    elif bound.condition and not _fulfilled(bound.condition, row):
        behind = number(
            row[bound.condition.column], "short" if isinstance(row[bound.condition.column], float) else "text"
        )
        reason = f"its {bound.condition.column} is {behind}"
    else:
        state = MET if bound.wanted.holds(value) else BROKEN
    return BoundResult(
        bound=bound.text,
        deployment=row.get("deployment"),
        role=row.get("role"),
        value=value,
        state=state,
        reason=reason,
    )


def _fulfilled(condition: Comparison, row: DictRow) -> bool:
    value = _number(row[condition.column])
    return value is not None and condition.holds(value)


def _number(value: Any) -> float | None:
    if value is None or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _format_value(value: Any) -> str:
    """Return a value as written in brackets: a horizon as the terminal shows it, because its ISO text has a comma."""
    if isinstance(value, timedelta):
        return number(value, "span")
    return "" if value is None else str(value)


def metrics(stream: str, findings: Sequence[BoundResult], now: float) -> CollectorRegistry:
    """Return the results as Prometheus metrics, for node_exporter's textfile collector; `now` in Unix seconds.

    A bound over several rows of a deployment has the state of the worst of them.
    """
    registry = CollectorRegistry()
    labels = ["stream", "deployment", "role", "bound"]
    state = Gauge(
        "gnomon_bound_state",
        "1: the bound is met, 0: it is broken, -1: unknown, for lack of data.",
        labels,
        registry=registry,
    )
    value = Gauge("gnomon_bound_value", "The value that the bound limits.", labels, registry=registry)
    worst: dict[tuple[str, str, str, str], BoundResult] = {}
    for finding in findings:
        key = (stream, finding.deployment or "", finding.role or "", finding.bound)
        if key not in worst or _badness(finding) > _badness(worst[key]):
            worst[key] = finding
    for key, finding in worst.items():
        state.labels(*key).set(_STATES[finding.state])
        if finding.value is not None:
            value.labels(*key).set(finding.value)
    Gauge(
        "gnomon_bound_time_seconds", "When the bounds were last checked, Unix seconds.", ["stream"], registry=registry
    ).labels(stream).set(now)
    return registry


def _badness(finding: BoundResult) -> int:
    return (MET, UNKNOWN, BROKEN).index(finding.state)
