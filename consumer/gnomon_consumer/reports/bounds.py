"""Bounds on the reports' numbers: `agreement.low >= 0.9`, `errors.rate[metric=error,side=shadow] <= 0.01`.

A bound is met when every row of its report that fits the brackets has its number on the right side. No such row, or a
row without the number, breaks it: no evidence is never good news.
"""

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gnomon_consumer.reports.catalogue import REPORTS
from gnomon_consumer.reports.query import Row
from gnomon_schemas.errors import ConfigurationError

_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}
_SHAPE = re.compile(
    r"\s*(?P<report>\w+)\.(?P<column>\w+)\s*(?:\[(?P<where>[^\]]*)\])?\s*(?P<sign><=|>=|<|>|=)\s*(?P<limit>\S+)\s*"
)


@dataclass(frozen=True)
class Bound:
    """One bound, as written and as understood."""

    text: str
    report: str
    column: str
    where: Mapping[str, str]
    sign: str
    limit: float


@dataclass(frozen=True)
class Finding:
    """One row held against one bound; `value` is None where there is no number, and `reason` says why."""

    bound: str
    deployment: str | None
    value: float | None
    met: bool
    reason: str


def parse(text: str) -> Bound:
    """Understand one bound. Raises ConfigurationError that shows how one is written."""
    match = _SHAPE.fullmatch(text)
    if match is None:
        raise ConfigurationError(f"bound '{text}': write REPORT.COLUMN[KEY=VALUE,…] >= NUMBER")
    if match["report"] not in REPORTS:
        raise ConfigurationError(f"bound '{text}': no report {match['report']}; there are {', '.join(REPORTS)}")
    where: dict[str, str] = {}
    for part in filter(None, (match["where"] or "").split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise ConfigurationError(f"bound '{text}': '{part}' is not KEY=VALUE")
        where[key.strip()] = value.strip()
    try:
        limit = float(match["limit"])
    except ValueError:
        raise ConfigurationError(f"bound '{text}': '{match['limit']}' is no number") from None
    if not math.isfinite(limit):
        raise ConfigurationError(f"bound '{text}': the limit must be finite")
    return Bound(text.strip(), match["report"], match["column"], where, match["sign"], limit)


def hold(bound: Bound, columns: Iterable[str], rows: Iterable[Row]) -> list[Finding]:
    """Hold a report's rows against a bound; never empty. Raises ConfigurationError for a column that is not there."""
    known = set(columns)
    for name in (bound.column, *bound.where):
        if name not in known:
            raise ConfigurationError(f"bound '{bound.text}': report {bound.report} has no column {name}")
    findings = [
        _finding(bound, row) for row in rows if all(_said(row[key]) == value for key, value in bound.where.items())
    ]
    return findings or [Finding(bound.text, None, None, False, "no row fits it")]


def _finding(bound: Bound, row: Row) -> Finding:
    deployment, value = row.get("deployment"), row[bound.column]
    if value is None or isinstance(value, str) or not math.isfinite(value):
        return Finding(bound.text, deployment, None, False, str(row.get("status") or "no number"))
    met = _COMPARE[bound.sign](float(value), bound.limit)
    return Finding(bound.text, deployment, float(value), met, "met" if met else "broken")


def _said(value: Any) -> str:
    return "" if value is None else str(value)
