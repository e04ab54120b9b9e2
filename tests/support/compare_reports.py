"""Compare every report before and after a change of its SQL, column by column.

    python -m tests.support.compare_reports keep DATABASE_URL STREAM before.json
    gnomon db upgrade --database-url DATABASE_URL
    python -m tests.support.compare_reports compare DATABASE_URL STREAM before.json

The order in which workers add numbers differs from run to run, so floats may differ by 1e-9 of themselves.
"""

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from gnomon_consumer.reports import REPORTS, Question, ask

TOLERANCE = 1e-9
SEGMENT = {"device": "phone"}


def questions(stream: str) -> Iterator[tuple[str, Question]]:
    """Yield every report as a whole, for a segment, and by each slice that it has."""
    for name, report in REPORTS.items():
        yield name, Question(stream)
        if "segment" in report.arguments:
            yield name, Question(stream, segment=SEGMENT)
        if "exact" in report.arguments:
            yield name, Question(stream, extra={"exact": "yes"})
        if name in ("quality", "coverage"):
            for slice_ in ("stratum", "weekday", "segment:device"):
                yield name, Question(stream, extra={"slice": slice_})


def answers(url: str, stream: str) -> dict[str, Any]:
    """Return the columns and rows of every question, values in JSON's types."""
    found = {}
    with psycopg.connect(url, autocommit=True) as connection:
        for name, question in questions(stream):
            answer = ask(connection, name, question)
            rows = [[plain(row[column]) for column in answer.columns] for row in answer.rows]
            found[f"{name} {question.segment or ''} {question.extra or ''}"] = {"columns": answer.columns, "rows": rows}
    return found


def plain(value: Any) -> Any:
    """Return a value in JSON's types; a float that is not finite as text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def differences(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each value that differs."""
    for question in sorted(before.keys() | after.keys()):
        old, new = before.get(question), after.get(question)
        if old is None or new is None:
            yield f"{question}: asked {'after' if old is None else 'before'} only"
        elif list(old["columns"]) != list(new["columns"]) or len(old["rows"]) != len(new["rows"]):
            yield f"{question}: {len(old['rows'])} rows of {old['columns']}, {len(new['rows'])} of {new['columns']}"
        else:
            for place, (left, right) in enumerate(zip(old["rows"], new["rows"], strict=True)):
                for column, a, b in zip(old["columns"], left, right, strict=True):
                    if not same(a, b):
                        yield f"{question}: row {place}, {column}: {a!r} before, {b!r} after"


def same(a: Any, b: Any) -> bool:
    """Return whether two values are equal, floats within the tolerance."""
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(a == b)


def main() -> None:
    """Store the answers in a file, or compare the present ones with those of a file."""
    what, url, stream, file = sys.argv[1:]
    found = answers(url, stream)
    if what == "keep":
        Path(file).write_text(json.dumps(found))
        return
    lines = list(differences(json.loads(Path(file).read_text()), found))
    rows = sum(len(answer["rows"]) for answer in found.values())
    sys.stdout.write("\n".join([*lines, f"{len(found)} questions, {rows} rows, {len(lines)} differences"]) + "\n")
    sys.exit(bool(lines))


if __name__ == "__main__":
    main()
