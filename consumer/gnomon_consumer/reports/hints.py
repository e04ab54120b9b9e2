"""Hints for an empty report: what exists instead, or which command provides the rows."""

import shlex
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.rows import DictRow

from gnomon_consumer.database.queries import queries_of
from gnomon_consumer.reports.catalogue import REPORTS
from gnomon_consumer.reports.numbers import span
from gnomon_consumer.reports.query import LIVE_VERSION, Question

SQL = queries_of(__package__)

_SCORE = (
    "captures are scored and joined by `gnomon score` and `gnomon join`, or `gnomon run`;"
    " `gnomon doctor` finds out why they are not"
)
_LABEL = "labels come from `gnomon labels load FILE` or `gnomon labels consume`; they may arrive long after the request"
_SHORTER = (
    "`gnomon streams set --horizon '1 hour'` declares a shorter horizon; `gnomon labels load --complete-until TIME`"
)
_NEXT = {
    "no deployment on this stream yet": _SCORE,
    "nothing joined yet": _SCORE,
    "no pair in this period": _SCORE,
    "no window in this period": _SCORE,
    "nothing captured in this period": _SCORE,
    "nothing received from any producer": _SCORE,
    "no labels stored yet": _LABEL,
    "labels are stored, but it is unknown until when they are complete": (
        "`gnomon labels load FILE --complete-until TIME` states it for a file, `gnomon labels consume` for the topic"
    ),
    "no label has arrived for any of these pairs": _LABEL,
    "no pair is old enough for this horizon": "pairs mature when their labels do: see `gnomon report labels`",
    "no request scored one at a time in this period": "`score.probe_rows` sets how many are, to measure latency",
}

_MOST = 20
BY_VERSION = ("live_version", f"segment:{LIVE_VERSION}")


def hint(connection: psycopg.Connection[Any], question: Question, rows: list[DictRow]) -> str | None:
    """Return one line for an answer without any number; None if it has one, or if there is no hint.

    For an unknown stream, deployment or period it lists the existing ones; for missing data it names the command.
    """
    statuses = {str(row.get("status")) for row in rows}
    if "unknown stream" in statuses:
        streams = names(connection, SQL["streams"])
        return f"no stream {question.stream}; {listed('stream', streams)}"
    if "unknown deployment" in statuses:
        found = names(connection, SQL["deployments"], question.stream)
        return f"no deployment {question.deployment} on {question.stream}; {listed('deployment', found)}"
    if "no such horizon on this stream" in statuses:
        spans = connection.execute(SQL["horizons"], [question.stream]).fetchall()
        return f"no such horizon; {listed('horizon', [span(row[0]) for row in spans])}"
    if (misspelt := _misspelt(connection, question, rows)) is not None:
        return misspelt
    if "ok" not in statuses and (question.since or question.until):
        elsewhere = _captured(connection, question)
        if elsewhere is not None:
            return elsewhere
    remarks = {_SHORTER if status.startswith("not mature yet") else _NEXT.get(status) for status in statuses}
    return remarks.pop() if len(remarks) == 1 else None


def _misspelt(connection: psycopg.Connection[Any], question: Question, rows: list[DictRow]) -> str | None:
    """Name the existing segments if no pair has the requested one."""
    extra = question.extra or {}
    key = extra.get("key") or str(extra.get("slice") or "").removeprefix("segment:")
    by_key = extra.get("key") or str(extra.get("slice") or "").startswith("segment:")
    if by_key and not str(key).startswith("@") and {row.get("value") for row in rows} <= {"(none)", None}:
        found = _segments(connection, question)
        return (
            f"none of the newest requests has the segment {key}; {listed('segment', sorted(found))}"
            if key not in found
            else None
        )
    if not question.segment or any(row.get("n") for row in rows):
        return None
    return segment_hint(connection, question)


def segment_hint(connection: psycopg.Connection[Any], question: Question) -> str | None:
    """Return the existing segments if a key or value of the question is unknown."""
    found = _segments(connection, question)
    for key, value in (question.segment or {}).items():
        if key == LIVE_VERSION:
            versions = names(connection, SQL["live_versions"], question.stream, question.deployment)
            if value not in versions:
                missing = f"version {value} of the live model answered none of the newest requests"
                return f"{missing}; {listed('version', versions)}"
            continue
        if key not in found:
            return f"none of the newest requests has the segment {key}; {listed('segment', sorted(found))}"
        if value not in found[key]:
            return f"none of the newest requests has {key} = {value}; {listed('value', sorted(found[key])[:_MOST])}"
    return None


def live_versions(connection: psycopg.Connection[Any], question: Question) -> list[str]:
    """Return the versions of the live model in a question's period, if a question that names none has several."""
    if LIVE_VERSION in (question.segment or {}):
        return []
    rows = connection.execute(
        SQL["live_versions_within"],
        {
            "stream": question.stream,
            "deployment": question.deployment,
            "since": question.since,
            "until": question.until,
        },
    ).fetchall()
    return [row[0] for row in rows] if len(rows) > 1 else []


def versions_hint(connection: psycopg.Connection[Any], name: str, question: Question) -> str | None:
    """Return one line if the numbers of a report mix several versions of the live model."""
    extra = question.extra or {}
    if "segment" not in REPORTS[name].arguments or str(extra.get("slice")) in BY_VERSION:
        return None
    versions = live_versions(connection, question)
    if not versions:
        return None
    shown = ", ".join(versions[:_MOST]) + (f" and {len(versions) - _MOST} more" if len(versions) > _MOST else "")
    return (
        f"{len(versions)} versions of the live model answered in this period: {shown}."
        f" The numbers mix them; --live-version {shlex.quote(versions[-1])} reads one alone"
    )


def _segments(connection: psycopg.Connection[Any], question: Question) -> dict[str, set[str]]:
    """Return keys and values of the segments of the newest pairs."""
    found: dict[str, set[str]] = {}
    for key, value in connection.execute(SQL["segments"], [question.stream, question.deployment]).fetchall():
        found.setdefault(key, set()).add(value)
    return found


def _captured(connection: psycopg.Connection[Any], question: Question) -> str | None:
    """Return the period that has captures, if the requested one has none; the rollups are faster than the pairs."""
    first, last, inside = connection.execute(
        SQL["captured"],
        {
            "stream": question.stream, "deployment": question.deployment,
            "since": question.since or datetime.min.replace(tzinfo=UTC),
            "until": question.until or datetime.max.replace(tzinfo=UTC),
        },
    ).fetchone() or (None, None, 0)  # fmt: skip
    if first is None or inside:
        return None
    return f"nothing in this period; the captures are of {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"


def names(connection: psycopg.Connection[Any], query: bytes, *values: str | None) -> list[str]:
    """Return the names in a statement's rows."""
    return [row[0] for row in connection.execute(query, values or None).fetchall()]


def listed(what: str, found: list[str]) -> str:
    """Return the existing names in words."""
    return f"there {'is' if len(found) == 1 else 'are'} {', '.join(found)}" if found else f"there is no {what} yet"
