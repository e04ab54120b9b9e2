"""What to do next where a report is empty: what there is instead, or what makes the rows come."""

from datetime import UTC, datetime
from typing import Any

import psycopg

from gnomon_consumer.reports.numbers import span
from gnomon_consumer.reports.query import Question, Row

_SCORE = (
    "captures are scored and joined by `gnomon score` and `gnomon join`, or `gnomon run`; `gnomon doctor` looks why not"
)
_LABEL = "the truth comes by `gnomon labels load FILE`, or `gnomon labels consume`, to any request, however late"
_NEXT = {
    "no deployment on this stream yet": _SCORE,
    "nothing joined yet": _SCORE,
    "no pair in this period": _SCORE,
    "no window in this period": _SCORE,
    "nothing captured in this period": _SCORE,
    "nothing received from any producer": _SCORE,
    "no labels stored yet": _LABEL,
    "no label has come for any of these pairs": _LABEL,
    "no pair is old enough for this horizon": "pairs come of age as labels do: see `gnomon report labels`",
    "no request scored one at a time in this period": "`score.probe_rows` says how many are, for latency's sake",
}


def hint(connection: psycopg.Connection[Any], question: Question, rows: list[Row]) -> str | None:
    """One line for an answer without a single number; None where there is one, or nothing to say.

    An unknown stream, deployment or period: those that there are. Nothing there yet: what brings it.
    """
    statuses = {str(row.get("status")) for row in rows}
    if "unknown stream" in statuses:
        return f"no stream {question.stream}; {listed('stream', names(connection, 'streams', 'name'))}"
    if "unknown deployment" in statuses:
        found = names(connection, "deployments", "deployment", "where stream = %s", question.stream)
        return f"no deployment {question.deployment} on {question.stream}; {listed('deployment', found)}"
    if "no such horizon on this stream" in statuses:
        spans = connection.execute(
            "select unnest(horizons) from report_v1.streams where name = %s order by 1", [question.stream]
        ).fetchall()
        return f"no such horizon; {listed('horizon', [span(row[0]) for row in spans])}"
    if "ok" not in statuses and (question.since or question.until):
        elsewhere = _captured(connection, question)
        if elsewhere is not None:
            return elsewhere
    remarks = {_NEXT.get(status) for status in statuses}
    return remarks.pop() if len(remarks) == 1 else None


def _captured(connection: psycopg.Connection[Any], question: Question) -> str | None:
    """When captures are of, if none is of the period asked; by the rollups, since pairs would be read to their end."""
    first, last, inside = connection.execute(
        "select min(hour), max(hour) + interval '1 hour', count(*) filter (where hour >= date_trunc('hour', %(since)s)"
        " and hour < %(until)s) from report_v1.rollups"
        " where deployment_id = any (report_v1.deployment_ids(%(stream)s, %(deployment)s))",
        {
            "stream": question.stream, "deployment": question.deployment,
            "since": question.since or datetime.min.replace(tzinfo=UTC),
            "until": question.until or datetime.max.replace(tzinfo=UTC),
        },
    ).fetchone() or (None, None, 0)  # fmt: skip
    if first is None or inside:
        return None
    return f"nothing in this period; the captures are of {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"


def names(connection: psycopg.Connection[Any], view: str, column: str, where: str = "", *values: str) -> list[str]:
    """The names in a view of report_v1, in order."""
    text = f"select {column} from report_v1.{view} {where} order by 1"  # noqa: S608  # constants of this package
    return [row[0] for row in connection.execute(text.encode(), values or None).fetchall()]


def listed(what: str, found: list[str]) -> str:
    """What there is, in words."""
    return f"there {'is' if len(found) == 1 else 'are'} {', '.join(found)}" if found else f"there is no {what} yet"
