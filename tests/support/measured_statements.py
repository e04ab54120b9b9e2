"""Write the composed statements of typical questions to docs/statements, from a database that `gnomon db upgrade` made.

python -m tests.support.measured_statements DATABASE_URL

`gnomon_estimators.measured_statement` composes a statement from the metrics of a question. Each file holds one, with
the settings of the function that runs it, so that psql can explain it: `psql -f docs/statements/agreement.sql`.
"""

import re
import sys
from pathlib import Path
from typing import Any

import psycopg

FOLDER = Path(__file__).parents[2] / "docs" / "statements"
QUESTIONS: dict[str, dict[str, Any]] = {
    "agreement": {"metrics": ["agreement"], "labelled": False, "slices": ["all"]},
    "segments": {"metrics": ["agreement", "error"], "labelled": False, "slices": ["segment:country", "segment:device"]},
    "quality": {"metrics": ["accuracy", "precision", "recall", "brier"], "labelled": True, "slices": ["all"]},
    "probabilities": {"metrics": ["log_loss", "brier"], "labelled": True, "slices": ["all"]},
    "numbers": {"metrics": ["rmse", "mae"], "labelled": True, "slices": ["all"]},
    "rankings": {"metrics": ["ndcg@10"], "labelled": True, "slices": ["all"]},
}
"""The metrics, whether they need labels, and the slices of each question."""
_HEAD = """-- The statement that `gnomon_estimators.measured` composes for these metrics: {metrics}.
-- Written by `python -m tests.support.measured_statements DATABASE_URL`; do not edit. It can be run as it is; for a
-- plan of your own data, write your stream instead of 'checkout'.
begin;
{settings}
prepare measured (text, text, timestamptz, timestamptz, jsonb, text[], text, interval, boolean, boolean, integer[],
                  float8[], text[]) as
"""
_TAIL = """
explain execute measured ('checkout', null, null, null, null, '{slices}', 'UTC', {horizon}, false, false,
                          '{{}}', '{{}}', {named});
deallocate measured;
rollback;
"""
_SETTINGS = """
select setting from pg_proc, unnest(proconfig) setting
where oid = (select oid from pg_proc where proname = 'measured' and pronamespace = 'gnomon_estimators'::regnamespace)
order by setting
"""


def file_of(connection: psycopg.Connection[Any], name: str) -> str:
    """Return the text of a question's file, as this database composes the statement."""
    question = QUESTIONS[name]
    named = bool({"precision", "f1"}.intersection(question["metrics"]))  # the metrics that ask which label is positive
    row = connection.execute(
        "select gnomon_estimators.measured_statement(%(metrics)s, %(slices)s, %(labelled)s, false, %(named)s)",
        {**question, "named": named},
    ).fetchone()
    assert row is not None
    settings = [setting.split("=", 1) for (setting,) in connection.execute(_SETTINGS)]
    statement = "\n".join(line.rstrip() for line in row[0].splitlines() if line.strip())
    return (
        _HEAD.format(
            metrics=", ".join(question["metrics"]),
            settings="\n".join(f"set local {key} = '{value}';" for key, value in settings),
        )
        + statement
        + ";\n"
        + _TAIL.format(
            slices="{" + ",".join(question["slices"]) + "}",
            horizon="interval '1 day'" if question["labelled"] else "null",
            named="array['yes']" if named else "null",
        ).lstrip()
    )


def slots(text: str) -> list[str]:
    """Return the slots that nothing filled."""
    return re.findall(r"\{[a-z_]\w*(?: \w+)?\}", text.replace("'{all}'", ""))


def main() -> None:
    """Write every file."""
    with psycopg.connect(sys.argv[1]) as connection:
        for name in QUESTIONS:
            (FOLDER / f"{name}.sql").write_text(file_of(connection, name), encoding="utf-8")


if __name__ == "__main__":
    main()
