"""The reports on a stock server: JIT on, default costs, an owner without privileges."""

from collections.abc import Iterator

import psycopg
import pytest
from benchmarks.harness import stock as stock_server
from benchmarks.harness import traffic

from gnomon_consumer.database.connections import engine_for
from gnomon_consumer.reports import REPORTS, Question, ask
from gnomon_consumer.reports.query import open_reports
from gnomon_migrations import runner

PAIRS = 10_000


@pytest.fixture(scope="module")
def stock() -> Iterator[tuple[str, str]]:
    """Yield the URLs of a stock server's database of 10,000 pairs: as its owner, as a superuser."""
    programs = stock_server.programs()
    if programs is None:
        pytest.skip(f"no PostgreSQL of a Debian package in {stock_server.PACKAGES}")
    with stock_server.running(programs) as server:
        runner.upgrade(engine_for(server.owner))
        traffic.fill(server.owner, PAIRS)
        yield server.owner, server.superuser


def test_no_estimator_is_compiled_on_a_stock_server(stock: tuple[str, str]) -> None:
    """Compiling takes many times as long as running: no statement inside a report may be compiled."""
    with psycopg.connect(stock[1], autocommit=True) as connection:
        assert connection.execute("select pg_jit_available(), current_setting('jit')").fetchone() == (True, "on")
        plans: list[str] = []
        connection.add_notice_handler(lambda notice: plans.append(notice.message_primary or ""))
        connection.execute("load 'auto_explain'")
        for name, value in (("log_min_duration", "0"), ("log_nested_statements", "on"), ("log_analyze", "on")):
            connection.execute(f"set auto_explain.{name} = {value}")
        connection.execute("set client_min_messages = log")
        for name in REPORTS:
            ask(connection, name, Question(traffic.STREAM))
    assert len(plans) > len(REPORTS) + 10, "those of the reports themselves, too"
    assert not [plan[:200] for plan in plans if "\nJIT:" in plan]


def test_what_asks_reports_never_compiles(stock: tuple[str, str]) -> None:
    with open_reports(stock[0]) as connection:
        assert connection.execute("show jit").fetchone() == ("off",)
