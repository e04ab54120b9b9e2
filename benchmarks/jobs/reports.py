"""`python -m benchmarks reports --pairs N`: fill a database with N pairs, ask every report once, write the times down.

The times are in seconds, over the whole period and over one day two days before its end; beside them stands which
tables of pairs or labels were read from end to end for that day, by the server's own count of scans. What answers from
the rollups is asked to read the pairs, too ("exact"). At last a cohort is sealed and kept, as `gnomon db maintain` does
it, and what answers from there is asked again.
"""

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.harness import traffic
from benchmarks.output import tables
from gnomon_consumer.database.connections import engine_for
from gnomon_consumer.quickstart.embedded import postgres
from gnomon_consumer.reports import REPORTS, Question, ask
from gnomon_migrations import runner
from gnomon_schemas.errors import GnomonError

TIMEOUT = "300s"
# Of `quality` one horizon is asked for: each is a question of its own. Profiles are not built here.
EXTRA: dict[str, dict[str, Any]] = {"quality": {"horizon": "1 day"}, "labels": {"horizon": "1 day"}}
LEFT_OUT = ("drift", "feature_health", "skew")
EXACT = {f"{name}, exact": name for name in ("agreement", "confusion", "errors")}
KEEPING = "computing what is kept of a sealed cohort"
KEPT = {f"{name}, with a kept cohort": name for name in ("quality", "latency", "agreement")}
SEAL = """
insert into gnomon.cohorts (deployment_id, horizon, until, watermark, grace, label_kind, label_choice, source_offsets,
    label_offsets, load_ids)
select c.deployment_id, c.horizon, c.until, c.watermark, c.grace, c.label_kind, c.label_choice,
       (select jsonb_object_agg(p.source_partition::text, p.next_source_offset) from gnomon.join_progress p
        where p.deployment_id = c.deployment_id), '{}', array(select load_id from gnomon.label_loads)
from report_v1.cohorts c where c.horizon = '1 day' and not c.sealed
"""


def main() -> None:
    """Fill, ask, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks reports", description=__doc__)
    parser.add_argument("--pairs", type=int, default=1_000_000, help="default: 1,000,000")
    parser.add_argument("--database", help="URL of a migrated, empty database; default: an embedded server's")
    parser.add_argument("--filled", action="store_true", help="the database was filled by an earlier run")
    parser.add_argument("--only", help="names of reports, by semicolons; the others keep what an earlier run wrote")
    parser.add_argument("--day-only", action="store_true", help="leave the whole period as an earlier run wrote it")
    parser.add_argument("--output", type=Path, default=tables.RESULTS, help="folder of the tables")
    arguments = parser.parse_args()
    with database(arguments.database) as url:
        runner.upgrade(engine_for(url))
        began = time.perf_counter()
        end = traffic.last_day(url) if arguments.filled else traffic.fill(url, arguments.pairs, say)
        filled = None if arguments.filled else time.perf_counter() - began
        say("filled before" if filled is None else f"filled in {filled:.0f} s")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"set statement_timeout = '{TIMEOUT}'")
            for name in wanted(arguments.only):
                rows = keep(connection) if name == KEEPING else [measure(connection, name, end, not arguments.day_only)]
                for row in rows:
                    write(arguments.output, arguments.pairs, filled, row)


def wanted(only: str | None) -> list[str]:
    """The reports to ask, in the order of the catalogue; what seals a cohort comes last, for it changes the answers."""
    names = [*(name for name in REPORTS if name not in LEFT_OUT), *EXACT, KEEPING]
    return [name for name in names if only is None or name in only.split(";")]


@contextlib.contextmanager
def database(url: str | None) -> Iterator[str]:
    """The database given, or one of an embedded server that lasts as long as the block."""
    if url is not None:
        yield url
        return
    with tempfile.TemporaryDirectory() as folder, postgres.running(Path(folder) / "data") as embedded:
        yield embedded


def measure(connection: psycopg.Connection[Any], name: str, end: datetime, whole: bool = True) -> dict[str, Any]:
    """Times of one report, and what it reads whole for a day; without the whole period's time if not `whole`."""
    row: dict[str, Any] = {"report": name, "day_s": None, "read_whole": []}
    report = EXACT.get(name, name)
    extra = {"exact": "yes"} if name in EXACT else EXTRA.get(name)
    if whole:
        row["whole_s"] = timed(connection, report, Question(traffic.STREAM, extra=extra))
    if "since" in REPORTS[report].arguments:
        day = Question(traffic.STREAM, since=end - timedelta(days=3), until=end - timedelta(days=2), extra=extra)
        before = scans(connection)
        row["day_s"] = timed(connection, report, day)
        row["read_whole"] = [table for table, count in sorted(scans(connection).items()) if count > before[table]]
    say(f"{name}: {row.get('whole_s')} s, a day {row['day_s']} s {row['read_whole']}")
    return row


def keep(connection: psycopg.Connection[Any]) -> list[dict[str, Any]]:
    """Seal a cohort, compute and keep what is kept of it; the times of that and of asking for it afterwards."""
    connection.execute("set statement_timeout = 0")
    connection.execute(SEAL)
    began = time.perf_counter()
    connection.execute("select gnomon.keep_cohort_estimates()")
    times: dict[str, float | str] = {KEEPING: round(time.perf_counter() - began, 1)}
    for name, report in KEPT.items():
        times[name] = timed(connection, report, Question(traffic.STREAM, extra=EXTRA.get(report)))
    for table in ("cohort_estimates", "cohort_latencies", "cohorts"):
        connection.execute(f"delete from gnomon.{table}")
    say(f"{times}")
    return [{"report": name, "whole_s": took, "day_s": None, "read_whole": []} for name, took in times.items()]


def timed(connection: psycopg.Connection[Any], name: str, question: Question) -> float | str:
    """Seconds, or why there are none."""
    began = time.perf_counter()
    try:
        ask(connection, name, question)
    except (psycopg.errors.QueryCanceled, GnomonError) as error:
        return " ".join(str(error).split())[:60]
    return round(time.perf_counter() - began, 3)


def scans(connection: psycopg.Connection[Any]) -> dict[str, int]:
    """How often each table of pairs or labels was read from end to end, functions planned on their own included."""
    connection.execute("select pg_stat_force_next_flush()")
    connection.execute("select pg_stat_clear_snapshot()")
    rows = connection.execute(
        "select relname, seq_scan from pg_stat_user_tables where relname ~ '^pairs_' or relname = 'labels'"
    )
    return {relation: int(count or 0) for relation, count in rows}


def write(folder: Path, pairs: int, filled: float | None, row: dict[str, Any]) -> None:
    """Put a row into reports-PAIRS.json, where others may stand, and write the table beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    where = tables.machine()
    path = folder / f"reports-{pairs}"
    data = json.loads(path.with_suffix(".json").read_text()) if path.with_suffix(".json").exists() else {"reports": []}
    rows = {old["report"]: old for old in data["reports"]}
    rows[row["report"]] = rows.get(row["report"], {"whole_s": None}) | row
    rows = {name: rows[name] for name in (*wanted(None), *KEPT) if name in rows}
    data |= {"machine": where, "pairs": pairs, "reports": list(rows.values())}
    if filled is not None:
        data["fill_s"] = filled
    path.with_suffix(".json").write_text(json.dumps(data, indent=1) + "\n")
    place = f"{where['at']}, {where['processor']}, {where['cores']} cores, embedded PostgreSQL"
    lines = [
        f"## Reports over {pairs:,} pairs of {traffic.DAYS} days",
        "",
        f"{place}; load average at the end {where['load_average'][0]}. Seconds.",
        "",
        "| report | whole period | one day | read from end to end for the day |",
        "|---|---:|---:|---|",
        *(
            f"| {name} | {cell(one['whole_s'])} | {cell(one['day_s'])}"
            f" | {', '.join(one['read_whole']) or ('' if one['day_s'] is None else 'nothing')} |"
            for name, one in rows.items()
        ),
        "",
    ]
    path.with_suffix(".md").write_text("\n".join(lines))


def cell(value: float | str | None) -> str:
    """A number, the reason why there is none, or nothing."""
    return "" if value is None else str(value)


def say(text: str) -> None:
    """To the terminal, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
