"""`python -m benchmarks reports --pairs N`: fill a database with N pairs, run every report once, write the times.

The times are in seconds, over the whole period and over one day two days before its end; next to them are the tables of
pairs or labels that were scanned completely for that day, by the server's own count of scans. Reports that use the
rollups are also run on the pairs ("exact"). Finally a cohort of each horizon is sealed and stored, as `gnomon db
maintain` does, and the reports that use them are run again.

`--growth` fills smaller databases instead, of 5 and of 20 deployments with 1,000 pairs each, and writes how much longer
each report takes over the larger one: four times as long is linear.
"""

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa

from benchmarks.harness import traffic
from benchmarks.output import tables
from gnomon_consumer.database.connections import engine_for
from gnomon_consumer.quickstart.embedded import postgres
from gnomon_consumer.reference import build
from gnomon_consumer.reports import REPORTS, Question, ask, skew
from gnomon_consumer.reports.catalogue import SKEW
from gnomon_consumer.reports.html import render
from gnomon_consumer.reports.page import gather
from gnomon_consumer.reports.query import ask_report
from gnomon_migrations import runner
from gnomon_schemas.errors import GnomonError

TIMEOUT = "300s"
# Only one horizon of `quality`, because each is a separate query.
EXTRA: dict[str, dict[str, Any]] = {"quality": {"horizon": "1 day"}, "labels": {"horizon": "1 day"}}
PAGE, SKEWED = "the page", "skew"
RECOMPUTED = 20_000  # requests in the file that `skew` compares with
GROWTH = (5, 20)
PAIRS_EACH = 1_000
EXACT = {
    f"{name}, exact": name for name in ("agreement", "confusion", "errors", "latency", "label_bounds", "label_delay")
}
KEEPING = "computing what is kept of a sealed cohort"
KEPT = {f"{name}, with a kept cohort": name for name in ("quality", "latency", "agreement", PAGE)}
SEAL = """
insert into gnomon.cohorts (deployment_id, horizon, until, watermark, grace, label_kind, label_choice, source_offsets,
    label_offsets, load_ids)
select c.deployment_id, c.horizon, c.until, c.watermark, c.grace, c.label_kind, c.label_choice,
       (select jsonb_object_agg(p.source_partition::text, p.next_source_offset) from gnomon.join_progress p
        where p.deployment_id = c.deployment_id), '{}', array(select load_id from gnomon.label_loads)
from report_v1.cohorts c where not c.sealed
"""


def main() -> None:
    """Fill, query, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks reports", description=__doc__)
    parser.add_argument("--pairs", type=int, default=1_000_000, help="default: 1,000,000")
    parser.add_argument("--database", help="URL of a migrated, empty database; default: an embedded server's")
    parser.add_argument("--filled", action="store_true", help="the database was filled by an earlier run")
    parser.add_argument("--only", help="names of reports, by semicolons; the others keep what an earlier run wrote")
    parser.add_argument("--day-only", action="store_true", help="leave the whole period as an earlier run wrote it")
    parser.add_argument(
        "--growth", action="store_true", help="measure how times grow with deployments, and nothing else"
    )
    parser.add_argument("--output", type=Path, default=tables.RESULTS, help="folder of the tables")
    arguments = parser.parse_args()
    if arguments.growth:
        grow(arguments.output)
        return
    with database(arguments.database) as url:
        runner.upgrade(engine_for(url))
        began = time.perf_counter()
        end = traffic.last_day(url) if arguments.filled else traffic.fill(url, arguments.pairs, say)
        filled = None if arguments.filled else time.perf_counter() - began
        say("filled before" if filled is None else f"filled in {filled:.0f} s")
        with psycopg.connect(url, autocommit=True) as connection:
            refer(connection, end)
            connection.execute(f"set statement_timeout = '{TIMEOUT}'")
            for name in wanted(arguments.only):
                rows = keep(connection) if name == KEEPING else [measure(connection, name, end, not arguments.day_only)]
                for row in rows:
                    write(arguments.output, arguments.pairs, filled, row)


def wanted(only: str | None) -> list[str]:
    """Return the reports to run, in the order of the catalogue; a report that seals a cohort comes last."""
    names = [*REPORTS, SKEWED, PAGE, *EXACT, KEEPING]
    return [name for name in names if only is None or name in only.split(";")]


@contextlib.contextmanager
def database(url: str | None) -> Iterator[str]:
    """Yield the given database, or one of an embedded server that lasts as long as the block."""
    if url is not None:
        yield url
        return
    with tempfile.TemporaryDirectory() as folder, postgres.running(Path(folder) / "data") as embedded:
        yield embedded


def measure(connection: psycopg.Connection[Any], name: str, end: datetime, whole: bool = True) -> dict[str, Any]:
    """Return the times of one report, and the tables that it scans for a day; without the total time if not `whole`."""
    row: dict[str, Any] = {"report": name, "day_s": None, "read_whole": []}
    if name in ALONE:
        row["whole_s"] = ALONE[name](connection)
        say(f"{name}: {row['whole_s']} s")
        return row
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
    """Seal a cohort, compute and store its results; return the times of that and of queries afterwards."""
    connection.execute("set statement_timeout = 0")
    connection.execute(SEAL)
    began = time.perf_counter()
    connection.execute("select gnomon.keep_cohort_estimates()")
    times: dict[str, float | str] = {KEEPING: round(time.perf_counter() - began, 1)}
    for name, report in KEPT.items():
        whole = Question(traffic.STREAM, extra=EXTRA.get(report))
        times[name] = page(connection) if report == PAGE else timed(connection, report, whole)
    for table in ("cohort_estimates", "cohort_latencies", "cohorts"):
        connection.execute(f"delete from gnomon.{table}")
    say(f"{times}")
    return [{"report": name, "whole_s": took, "day_s": None, "read_whole": []} for name, took in times.items()]


def timed(connection: psycopg.Connection[Any], name: str, question: Question) -> float | str:
    """Return seconds, or the error."""
    began = time.perf_counter()
    try:
        ask(connection, name, question)
    except (psycopg.errors.QueryCanceled, GnomonError) as error:
        return " ".join(str(error).split())[:60]
    return round(time.perf_counter() - began, 3)


def refer(connection: psycopg.Connection[Any], end: datetime) -> None:
    """Freeze the oldest day as the reference for drift and feature health, if there is none."""
    if connection.execute("select from gnomon.reference_profiles limit 1").fetchone() is None:
        row = connection.execute("select min(event_time) from gnomon.pairs where event_time < %s", [end]).fetchone()
        assert row is not None
        made = build.from_period(connection, traffic.STREAM, row[0], row[0] + timedelta(days=1))
        build.store(connection, traffic.STREAM, "first day", "benchmark", made)


def page(connection: psycopg.Connection[Any]) -> float | str:
    """Return the seconds for the HTML page, from the first query to the last character."""
    began = time.perf_counter()
    try:
        with psycopg.connect(connection.info.dsn, autocommit=True) as other:
            other.execute(f"set statement_timeout = '{TIMEOUT}'")
            render(gather(connection, Question(traffic.STREAM), datetime.now(UTC), [other]))
    except psycopg.errors.QueryCanceled as error:
        return " ".join(str(error).split())[:60]
    return round(time.perf_counter() - began, 3)


def skewed(connection: psycopg.Connection[Any]) -> float | str:
    """Return the seconds of `skew` over all pairs and a file of RECOMPUTED requests, already read."""
    with connection.transaction(force_rollback=True):
        columns = skew.feature_columns(connection, traffic.STREAM)
        numbers = [name for name in columns if columns[name].kind == "numeric"]
        features = [
            f"features_{columns[name].kind}[{columns[name].position}]" for name in columns
        ]  # fmt: skip
        rows = connection.execute(
            f"select request_id, {', '.join(features)} from gnomon.pairs where deployment_id ="
            " (select min(deployment_id) from gnomon.pairs) limit %s",
            [RECOMPUTED],
        ).fetchall()
        file = pa.table(
            [
                pa.array([row[0] for row in rows]),
                *(
                    pa.array([row[at] for row in rows], pa.float64() if name in numbers else pa.string())
                    for at, name in enumerate(columns, 1)
                ),
            ],
            ["request_id", *columns],
        )
        skew.copy_file(connection, file, columns)
        began = time.perf_counter()
        try:
            ask_report(connection, SKEW, Question(traffic.STREAM, extra={"features": list(columns)}))
        except psycopg.errors.QueryCanceled as error:
            return " ".join(str(error).split())[:60]
        return round(time.perf_counter() - began, 3)


ALONE = {PAGE: page, SKEWED: skewed}


def grow(folder: Path) -> None:
    """Measure every report over few and many deployments and write both times and their ratio."""
    times: dict[int, dict[str, float | str]] = {}
    for deployments in GROWTH:
        with database(None) as url:
            runner.upgrade(engine_for(url))
            end = traffic.fill(url, deployments * PAIRS_EACH, challengers=deployments - 1, days=7)
            with psycopg.connect(url, autocommit=True) as connection:
                refer(connection, end)
                connection.execute(f"set statement_timeout = '{TIMEOUT}'")
                times[deployments] = {
                    name: ALONE[name](connection)
                    if name in ALONE
                    else timed(connection, name, Question(traffic.STREAM, extra=EXTRA.get(name)))
                    for name in (*REPORTS, *ALONE)
                }
        say(f"{deployments} deployments: {times[deployments]}")
    few, many = GROWTH
    where = tables.machine()
    place = f"{where['at']}, {where['processor']}, {where['cores']} cores, embedded PostgreSQL"
    rows = [
        {
            "report": name,
            "few_s": times[few][name],
            "many_s": times[many][name],
            "ratio": ratio(times[few][name], times[many][name]),
        }
        for name in times[few]
    ]
    folder.mkdir(parents=True, exist_ok=True)
    data = {"machine": where, "deployments": GROWTH, "pairs_each": PAIRS_EACH, "reports": rows}
    (folder / "reports-growth.json").write_text(json.dumps(data, indent=1) + "\n")
    lines = [
        f"## Reports over {few} and {many} deployments of {PAIRS_EACH:,} pairs",
        "",
        f"{place}; load average at the end {where['load_average'][0]}. Seconds. A ratio of {many / few:g} is linear.",
        "",
        f"| report | {few} deployments | {many} deployments | ratio |",
        "|---|---:|---:|---:|",
        *(f"| {row['report']} | {row['few_s']} | {row['many_s']} | {cell(row['ratio'])} |" for row in rows),
        "",
    ]
    (folder / "reports-growth.md").write_text("\n".join(lines))


def ratio(few: float | str, many: float | str) -> float | None:
    """Return how many times as long the second one took."""
    return round(many / few, 1) if isinstance(few, float) and isinstance(many, float) and few > 0 else None


def scans(connection: psycopg.Connection[Any]) -> dict[str, int]:
    """Return how often each table of pairs or labels was scanned, also by functions that are planned separately."""
    connection.execute("select pg_stat_force_next_flush()")
    connection.execute("select pg_stat_clear_snapshot()")
    rows = connection.execute(
        "select relname, seq_scan from pg_stat_user_tables where relname ~ '^pairs_' or relname = 'labels'"
    )
    return {relation: int(count or 0) for relation, count in rows}


def write(folder: Path, pairs: int, filled: float | None, row: dict[str, Any]) -> None:
    """Write a row into reports-PAIRS.json, which may hold others, and write the table next to it."""
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
    """Return a number, the reason why there is none, or nothing."""
    return "" if value is None else str(value)


def say(text: str) -> None:
    """Print at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
