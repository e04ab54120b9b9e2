"""What there is, for a question about something that there is not."""

from typing import Any

import psycopg

from gnomon_consumer.reports.query import Question, Row


def hint(connection: psycopg.Connection[Any], question: Question, rows: list[Row]) -> str | None:
    """One line for a question of which nothing is known: the streams, the deployments or the period that there are."""
    statuses = {str(row.get("status")) for row in rows}
    if "unknown stream" in statuses:
        return f"no stream {question.stream}; {listed('stream', names(connection, 'streams', 'name'))}"
    if "unknown deployment" in statuses:
        found = names(connection, "deployments", "deployment", "where stream = %s", question.stream)
        return f"no deployment {question.deployment} on {question.stream}; {listed('deployment', found)}"
    if (question.since or question.until) and all("in this period" in status for status in statuses):
        # By the rollups: the pairs would be read to their end.
        first, last = connection.execute(
            "select min(hour), max(hour) + interval '1 hour' from report_v1.rollups"
            " where deployment_id = any (report_v1.deployment_ids(%s, %s))",
            [question.stream, question.deployment],
        ).fetchone() or (None, None)
        if first is not None:
            return f"nothing in this period; the captures are of {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"
    return None


def names(connection: psycopg.Connection[Any], view: str, column: str, where: str = "", *values: str) -> list[str]:
    """The names in a view of report_v1, in order."""
    text = f"select {column} from report_v1.{view} {where} order by 1"  # noqa: S608  # constants of this package
    return [row[0] for row in connection.execute(text.encode(), values or None).fetchall()]


def listed(what: str, found: list[str]) -> str:
    """What there is, in words."""
    return f"there {'is' if len(found) == 1 else 'are'} {', '.join(found)}" if found else f"there is no {what} yet"
