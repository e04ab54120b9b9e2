"""Run a report on a test's database."""

from typing import Any

from psycopg.rows import dict_row

from tests.support.report_database import Database


def ask(db: Database, call: str, *arguments: Any) -> list[dict[str, Any]]:
    """Return the rows of a function of report_v1, or of gnomon_estimators if requested."""
    function = call if call.startswith("gnomon_estimators.") else f"report_v1.{call}"
    with db.connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(f"select * from {function}", arguments).fetchall()


def quality(db: Database, horizon: str = "1 day") -> dict[tuple[str, str], dict[str, Any]]:
    """Return the rows of `quality` by metric and side."""
    rows = ask(db, "quality('s', horizon => %s::interval)", horizon)
    return {(row["metric"], row["side"]): row for row in rows}
