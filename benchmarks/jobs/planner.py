"""`python -m benchmarks planner --pairs N`: every report with all planner notes of docs/sql-planner-notes.md, and
without each of them, on Debian's PostgreSQL over N pairs.

A note is taken away from all functions at once, within a transaction that is rolled back. Each report runs `--runs`
times with all notes and as often without each; the fastest run counts. Note 8 is a way to write a join, not a clause.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.harness import stock, traffic
from benchmarks.jobs.reports import EXTRA, refer, say, timed
from benchmarks.jobs.stock import filled
from benchmarks.output import tables
from gnomon_consumer.database.roles import make_roles
from gnomon_consumer.reports import REPORTS, Question

TIMEOUT = "100s"
WITH = "with"
_FUNCTIONS = """
from pg_proc p join pg_namespace n on n.oid = p.pronamespace join pg_language l on l.oid = p.prolang
where n.nspname in ('gnomon', 'gnomon_estimators', 'report_v1') and l.lanname in ('sql', 'plpgsql')
"""


def _without_setting(*names: str) -> str:
    changed = " || '; ' || ".join(f"format('alter function %s reset {name}', p.oid::regprocedure)" for name in names)
    return f"select {changed} {_FUNCTIONS} and p.proconfig::text ~ '[{{,]{names[0]}='"


def _without_text(clause: str) -> str:
    quoted = clause.replace("'", "''")
    return (
        f"select replace(pg_get_functiondef(p.oid), '{quoted}', '') {_FUNCTIONS} and strpos(p.prosrc, '{quoted}') > 0"
    )


# Note: a query of the statements that take it away. Note 8 is a way to write a join, not a clause.
WITHOUT = {
    # A setting that changes nothing but prevents inlining.
    1: f"select format('alter function %s set extra_float_digits = 1', p.oid::regprocedure) {_FUNCTIONS}"
    " and l.lanname = 'sql' and p.proconfig is null",
    2: _without_setting("jit"),
    3: _without_text("offset '0'"),
    4: _without_setting("enable_sort", "enable_incremental_sort"),
    5: _without_setting("work_mem"),
    6: _without_setting("enable_nestloop"),
    7: _without_text("not materialized"),
    9: f"select format('alter function %s rows 1000', p.oid::regprocedure) {_FUNCTIONS} and p.prorows not in (0, 1000)",
    10: _without_setting("enable_seqscan"),
    11: _without_setting("plan_cache_mode"),
}


def main() -> None:
    """Fill a server, run the reports, write benchmarks/results/planner.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks planner", description=__doc__)
    parser.add_argument("--pairs", type=int, default=200_000, help="default: 200,000")
    parser.add_argument("--runs", type=int, default=2, help="of each report with and without each note; default: 2")
    parser.add_argument("--only", help="names of reports, by semicolons")
    parser.add_argument(
        "--notes", help="numbers of notes, by commas; default: all but 8, which is a way to write a join"
    )
    parser.add_argument("--output", type=Path, default=tables.RESULTS, help="folder of the results")
    arguments = parser.parse_args()
    programs = stock.programs()
    if programs is None:
        sys.exit(f"no PostgreSQL of a Debian package in {stock.PACKAGES}: apt install postgresql")
    names = [name for name in REPORTS if arguments.only is None or name in arguments.only.split(";")]
    with stock.running(programs) as server:
        filled(server.owner, arguments.pairs)
        with psycopg.connect(server.owner, autocommit=True) as owner:
            make_roles(owner)
            refer(owner, traffic.last_day(server.owner))
            owner.execute(f"set statement_timeout = '{TIMEOUT}'")
            notes = [int(note) for note in arguments.notes.split(",")] if arguments.notes else list(WITHOUT)
            changes = {WITH: [], **{str(note): _statements(owner, WITHOUT[note]) for note in notes}}
            times: dict[str, dict[str, float | str]] = {}
            for name in names:  # written after each report, since some take minutes without a note
                times[name] = measured(owner, name, changes, arguments.runs)
                data = {
                    "machine": tables.machine(),
                    "version": server.version,
                    "pairs": arguments.pairs,
                    "changed": {note: len(statements) for note, statements in changes.items()},
                    "reports": times,
                }
                (arguments.output / "planner.json").write_text(json.dumps(data, indent=1) + "\n")


def measured(
    connection: psycopg.Connection[Any], name: str, changes: dict[str, list[str]], runs: int
) -> dict[str, float | str]:
    """Return the fastest time of a report after each group of changes, in seconds; the error if it always failed."""
    question = Question(traffic.STREAM, extra=EXTRA.get(name))
    all_times: dict[str, list[float | str]] = {note: [] for note in changes}
    for _ in range(runs):
        for note, statements in changes.items():
            with connection.transaction(force_rollback=True):
                for statement in statements:
                    connection.execute(statement)
                all_times[note].append(timed(connection, name, question))
    fastest = {note: _fastest(times) for note, times in all_times.items()}
    say(f"{name}: {', '.join(f'{note} {took}' for note, took in fastest.items())}")
    return fastest


def _statements(connection: psycopg.Connection[Any], query: str) -> list[str]:
    statements = [str(statement) for (statement,) in connection.execute(query)]
    if not statements:
        raise ValueError(f"no function has what this query looks for: {query}")
    return statements


def _fastest(times: Sequence[float | str]) -> float | str:
    return min((took for took in times if isinstance(took, float)), default=times[-1])


if __name__ == "__main__":
    main()
