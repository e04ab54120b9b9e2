"""`python -m benchmarks stock --pairs N`: every report on the embedded PostgreSQL and on Debian's, over N pairs.

Both get the same traffic. Each report runs once for the whole period, in seconds: on the embedded server, on Debian's
with default settings as an owner without superuser rights and as `gnomon_reader`, and on the same before any table was
analyzed. The connection is that of any SQL client, without the settings of Gnomon's own sessions.
"""

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import psycopg

from benchmarks.harness import stock, traffic
from benchmarks.jobs.reports import EXTRA, TIMEOUT, say, timed
from benchmarks.output import tables
from gnomon_consumer.database.connections import engine_for
from gnomon_consumer.database.roles import make_roles
from gnomon_consumer.quickstart.embedded import postgres
from gnomon_consumer.reports import REPORTS, Question
from gnomon_migrations import runner

LEFT_OUT = ("drift", "feature_health")  # they need a reference
_FORGET = (
    "alter system set autovacuum = off",
    "select pg_reload_conf()",
    "delete from pg_statistic s using pg_class c where c.oid = s.starelid and c.relnamespace = 'gnomon'::regnamespace",
    "update pg_class set reltuples = -1, relpages = 0 where relnamespace = 'gnomon'::regnamespace and relkind = 'r'",
)


def main() -> None:
    """Fill both servers, query them, write benchmarks/results/stock.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks stock", description=__doc__)
    parser.add_argument("--pairs", type=int, default=100_000, help="default: 100,000")
    parser.add_argument("--output", type=Path, default=tables.RESULTS, help="folder of the results")
    arguments = parser.parse_args()
    programs = stock.programs()
    if programs is None:
        sys.exit(f"no PostgreSQL of a Debian package in {stock.PACKAGES}: apt install postgresql")
    found = measured(programs, arguments.pairs)
    data = {"machine": tables.machine(), "pairs": arguments.pairs, **found}
    (arguments.output / "stock.json").write_text(json.dumps(data, indent=1) + "\n")


def measured(programs: Path, pairs: int) -> Mapping[str, object]:
    """Return the stock server's version, and the times of each report: embedded, owner, reader, never analyzed."""
    times: dict[str, list[float | str]] = {name: [] for name in REPORTS if name not in LEFT_OUT}
    with (
        tempfile.TemporaryDirectory() as folder,
        postgres.running(Path(folder) / "data") as embedded,
        stock.running(programs) as server,
    ):
        for url in (embedded, server.owner):
            filled(url, pairs)
        with psycopg.connect(server.owner, autocommit=True) as owner:
            make_roles(owner)
        ask_all({"embedded": embedded, "owner": server.owner, "reader": server.reader}, times)
        with psycopg.connect(server.superuser, autocommit=True) as superuser:
            for statement in _FORGET:
                superuser.execute(statement)
        ask_all({"unanalyzed": server.owner}, times)
        return {"version": server.version, "reports": times}


def filled(url: str, pairs: int) -> None:
    """Insert the traffic into an empty database."""
    runner.upgrade(engine_for(url))
    traffic.fill(url, pairs)


def ask_all(urls: Mapping[str, str], times: dict[str, list[float | str]]) -> None:
    """Append the times of every report, on one server after the other, so that other work affects them alike."""
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(psycopg.connect(url, autocommit=True)) for url in urls.values()]
        for connection in connections:
            connection.execute(f"set statement_timeout = '{TIMEOUT}'")
        for name, row in times.items():
            question = Question(traffic.STREAM, extra=EXTRA.get(name))
            row += [timed(connection, name, question) for connection in connections]
            say(
                f"{name}: {', '.join(f'{column} {took}' for column, took in zip(urls, row[-len(urls) :], strict=True))}"
            )


if __name__ == "__main__":
    main()
