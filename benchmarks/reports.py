"""`python -m benchmarks.reports --pairs N`: fill a database with N pairs, ask every report once, write the times down.

The times are of a first and a second asking, in seconds, over the whole period and over its last day; beside them
stands whether the plan for one day reads a table of pairs from end to end other than that day's own.
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

from benchmarks import tables, traffic
from gnomon_consumer.database import engine_for
from gnomon_consumer.quickstart import postgres
from gnomon_consumer.reports import REPORTS, Question, ask
from gnomon_migrations import runner
from gnomon_schemas.errors import GnomonError

TIMEOUT = "300s"
# Of `quality` one horizon is asked for: each is a question of its own. Profiles are not built here.
EXTRA: dict[str, dict[str, Any]] = {"quality": {"horizon": "1 day"}, "labels": {"horizon": "1 day"}}
LEFT_OUT = ("drift", "feature_health", "skew")


def main() -> None:
    """Fill, ask, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reports", description=__doc__)
    parser.add_argument("--pairs", type=int, default=1_000_000, help="default: 1,000,000")
    parser.add_argument("--database", help="URL of a migrated, empty database; default: an embedded server's")
    parser.add_argument("--filled", action="store_true", help="the database was filled by an earlier run")
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
            rows = [measure(connection, name, end) for name in REPORTS if name not in LEFT_OUT]
    write(arguments.output, arguments.pairs, filled, rows)


@contextlib.contextmanager
def database(url: str | None) -> Iterator[str]:
    """The database given, or one of an embedded server that lasts as long as the block."""
    if url is not None:
        yield url
        return
    with tempfile.TemporaryDirectory() as folder, postgres.running(Path(folder) / "data") as embedded:
        yield embedded


def measure(connection: psycopg.Connection[Any], name: str, end: datetime) -> dict[str, Any]:
    """Times of one report, and what its plan for a day reads whole."""
    whole = Question(traffic.STREAM, extra=EXTRA.get(name))
    knows_period = "since" in REPORTS[name].arguments
    day = Question(traffic.STREAM, since=end - timedelta(days=1), until=end, extra=EXTRA.get(name))
    row: dict[str, Any] = {"report": name, "first_s": timed(connection, name, whole)}
    row["second_s"] = timed(connection, name, whole)
    row["day_s"] = timed(connection, name, day) if knows_period else None
    row["other_partitions"] = other_partitions(connection, name, day, end) if knows_period else []
    say(f"{name}: {row['first_s']} s, again {row['second_s']} s, a day {row['day_s']} s {row['other_partitions']}")
    return row


def timed(connection: psycopg.Connection[Any], name: str, question: Question) -> float | str:
    """Seconds, or why there are none."""
    began = time.perf_counter()
    try:
        ask(connection, name, question)
    except (psycopg.errors.QueryCanceled, GnomonError) as error:
        return " ".join(str(error).split())[:60]
    return round(time.perf_counter() - began, 3)


def other_partitions(connection: psycopg.Connection[Any], name: str, day: Question, end: datetime) -> list[str]:
    """Tables of pairs outside the month of the day that were read from end to end while the report ran.

    Counted by the server, so it also sees into functions that are planned on their own.
    """
    own = f"pairs_{end - timedelta(days=1):%Y_%m}"

    def scans() -> dict[str, int]:
        connection.execute("select pg_stat_force_next_flush()")
        connection.execute("select pg_stat_clear_snapshot()")
        rows = connection.execute("select relname, seq_scan from pg_stat_user_tables where relname ~ '^pairs_[0-9]'")
        return {relation: int(count or 0) for relation, count in rows}

    before = scans()
    timed(connection, name, day)
    return [table for table, count in sorted(scans().items()) if count > before.get(table, 0) and table != own]


def write(folder: Path, pairs: int, filled: float | None, rows: list[dict[str, Any]]) -> None:
    """Write reports-PAIRS.md and .json."""
    folder.mkdir(parents=True, exist_ok=True)
    where = tables.machine()
    path = folder / f"reports-{pairs}"
    path.with_suffix(".json").write_text(
        json.dumps({"machine": where, "pairs": pairs, "fill_s": filled, "reports": rows}, indent=1) + "\n"
    )
    place = f"{where['at']}, {where['processor']}, {where['cores']} cores, embedded PostgreSQL"
    lines = [
        f"## Reports over {pairs:,} pairs of {traffic.DAYS} days",
        "",
        f"{place}; load average at the end {where['load_average'][0]}. Seconds.",
        "",
        "| report | whole period | again | last day | other months read for it |",
        "|---|---:|---:|---:|---|",
        *(
            f"| {row['report']} | {row['first_s']} | {row['second_s']} | {'' if row['day_s'] is None else row['day_s']}"
            f" | {', '.join(row['other_partitions']) or 'none'} |"
            for row in rows
        ),
        "",
    ]
    path.with_suffix(".md").write_text("\n".join(lines))
    say(str(path.with_suffix(".md")))


def say(text: str) -> None:
    """To the terminal, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
