"""Settings of role, database and pooler change no row: joiner, labels and reports compared with a plain database."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg import sql
from tests.support.door import enter
from tests.support.logs import Logs, make_logs
from tests.support.servers.stock import OWNER, Stock

from gnomon_consumer.database import connections
from gnomon_consumer.database.connections import connect, connect_service, engine_for
from gnomon_migrations import runner
from gnomon_schemas.errors import ConfigurationError

# One server for all of them, and databases with fixed names, so they belong in one worker.
pytestmark = pytest.mark.xdist_group("stock_settings")


def _nine_digits(text: str) -> float:
    """Round to nine digits: another plan adds in another order, but a changed digits setting would show earlier."""
    return float(f"{float(text):.9g}")


# Settings that people make for other programs; each changes the results of a client that ignores it.
HOSTILE: Mapping[str, tuple[str, ...]] = {
    "client_encoding": ("LATIN1", "SQL_ASCII", "WIN1252"),
    "datestyle": ("SQL, DMY", "German", "Postgres, MDY"),
    "intervalstyle": ("sql_standard", "iso_8601"),
    "timezone": ("Asia/Kathmandu", "America/St_Johns"),
    "bytea_output": ("escape",),
    "extra_float_digits": ("-15", "0"),
    "array_nulls": ("off",),
    "standard_conforming_strings": ("off",),
    "search_path": ("nowhere", "public, gnomon"),
    "default_transaction_isolation": ("serializable", "repeatable read"),
    "jit": ("on",),
    "statement_timeout": ("90s",),
    "lock_timeout": ("20s",),
    "idle_in_transaction_session_timeout": ("60s",),
    "row_security": ("off",),
    "xmloption": ("document",),
    "work_mem": ("64kB",),
    "enable_hashjoin": ("off",),
    "max_parallel_workers_per_gather": ("0",),
    "plan_cache_mode": ("force_generic_plan",),
}
STREAM = "settings"
REPORTS = ("agreement", "latency", "quality", "labels", "ledger", "disagreements", "segments")


@pytest.fixture(scope="module")
def logs() -> Iterator[Logs]:
    """Return live and shadow logs with texts that only UTF-8 holds, on a broker of this module."""
    from confluent_kafka import Producer

    cluster = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "mock"})
    brokers = ",".join(f"{broker.host}:{broker.port}" for broker in cluster.list_topics(timeout=10).brokers.values())
    made = make_logs(brokers, STREAM)
    for number, country in enumerate(("Zürich", "東京", "naïve\\nNULL", "a\"b'c", "Ω≈ç", "{NULL}", "")):
        prediction = {"value": 0.1 + number / 3, "label": "spät", "scores": [1 / 3, 2 / 3], "items": ["NULL", "früh"]}
        made.capture(
            8, features={"amount": 1 / (number + 3), "country": country, "repeat": None if number % 2 else True},
            segments={"stadt": country}, cluster=country or None, prediction=prediction,
        )  # fmt: skip
    made.score()
    yield made
    del made.producer, cluster  # in this order: a client without its broker logs errors into other tests


def _everything(logs: Logs, owner: str, url: str, folder: Path) -> dict[str, Any]:
    """Join, load labels and run every report through `url`; return the content of database and reports."""
    env = {
        "GNOMON_DATABASE_URL": url,
        "GNOMON_STREAM": STREAM,
        "GNOMON_BOOTSTRAP_SERVERS": logs.bootstrap,
        "GNOMON_LOG__LEVEL": "warning",
    }
    (folder / "labels.csv").write_text(
        "request_id,observed_at,label,value\nr0,2026-01-01T01:02:03.000004Z,spät,0.30000000000000004\n"
        "r1,01/02/2026 00:00,x,1\n" + "".join(f"r{n},2026-01-02T00:00:00+02:00,Zürich,{n / 7}\n" for n in range(2, 50)),
        encoding="utf-8",
    )
    loading = ("labels", "load", "labels.csv", "--complete-until", "2030-01-01", "--skip-invalid")
    for command in (("join", "--deployment", logs.deployment, "--drain"), loading):
        ended = enter(*command, cwd=folder, env=env)
        assert ended.status == 0, (command, ended)
    found: dict[str, Any] = {}
    for report in REPORTS:
        ended = enter("report", report, "--format", "json", cwd=folder, env=env)
        assert ended.status == 0, (report, ended)
        found[report] = json.loads(ended.stdout, parse_float=_nine_digits)
    readable = "-c extra_float_digits=3 -c timezone=UTC -c datestyle=ISO -c intervalstyle=postgres -c bytea_output=hex"
    with psycopg.connect(owner, client_encoding="UTF8", options=readable) as plain:
        for table in ("pairs", "labels", "cells", "rollups", "feature_columns"):
            columns = [
                sql.Identifier(row[0])
                for row in plain.execute(
                    "select column_name from information_schema.columns where table_schema = 'gnomon' and table_name ="
                    " %s and column_default is distinct from 'now()'"
                    " order by ordinal_position",
                    [table],
                )
            ]
            statement = sql.SQL("select array[{}] from {} order by 1").format(
                sql.SQL(", ").join(sql.SQL("{}::text").format(column) for column in columns),
                sql.Identifier("gnomon", table),
            )
            found[table] = plain.execute(statement).fetchall()
    # Hourly sums: their last digits depend on the number of transactions that added to them.
    found["rollups"] = [[_rounded(text) for text in row] for (row,) in found["rollups"]]
    return found


def _rounded(text: str | None) -> str | float | None:
    try:
        return text if text is None else _nine_digits(text)
    except ValueError:
        return text


@pytest.fixture(scope="module")
def ordinary(stock: Stock, logs: Logs, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the contents of a database with default settings."""
    with stock.database("settings_ordinary") as url:
        runner.upgrade(engine_for(url))
        return _everything(logs, url, url, tmp_path_factory.mktemp("ordinary"))


def test_the_logs_hold_what_they_should(ordinary: dict[str, Any]) -> None:
    assert len(ordinary["pairs"]) == 56
    assert "Zürich" in str(ordinary["pairs"])
    assert "東京" in str(ordinary["pairs"])


ALL = {name: values[0] for name, values in HOSTILE.items()}


def test_hostile_settings_change_no_row(stock: Stock, logs: Logs, ordinary: dict[str, Any], tmp_path: Path) -> None:
    @settings(max_examples=3, suppress_health_check=[HealthCheck.too_slow])
    @example(chosen=ALL, by_role=True, pooled=False)
    @example(chosen=ALL, by_role=False, pooled=True)
    @given(
        chosen=st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in HOSTILE.items()}),
        by_role=st.booleans(),
        pooled=st.booleans(),
    )
    def compare(chosen: dict[str, str], by_role: bool, pooled: bool) -> None:
        with stock.database("settings_hostile") as url:
            scope = f"role {OWNER} in database settings_hostile" if by_role else "database settings_hostile"
            for name, value in chosen.items():
                shown = value if name == "search_path" else f"'{value}'"
                stock.execute(f"alter {scope} set {name} = {shown}")
            runner.upgrade(engine_for(url))
            asked = stock.url("settings_hostile", OWNER, stock.pooler) if pooled else url
            found = _everything(logs, url, asked, tmp_path)
            different = [name for name in ordinary if found[name] != ordinary[name]]
            assert not different, {name: (found[name], ordinary[name]) for name in different}

    compare()


@pytest.mark.parametrize(("own", "limit"), [("0", "30s"), ("1h", "30s"), ("20s", "20s")])
def test_a_service_limits_its_locks_and_keeps_shorter_limits(stock: Stock, own: str, limit: str) -> None:
    with stock.database("settings_limits") as url:
        runner.upgrade(engine_for(url))
        names = ("lock_timeout", "idle_in_transaction_session_timeout")
        for name in names:
            stock.execute(f"alter database settings_limits set {name} = '{own}'")
        with connect_service(url, "test") as session, session.transaction():
            asked = session.execute("select current_setting(%s), current_setting(%s)", names)
            assert asked.fetchone() == (limit, limit)
            assert session.execute("show timezone").fetchone() == ("UTC",)


def test_a_database_in_another_encoding_is_refused_in_one_line(stock: Stock) -> None:
    with (
        stock.database("settings_latin1", "encoding 'LATIN1' locale 'C'") as url,
        pytest.raises(ConfigurationError, match="is encoded in LATIN1, which cannot store every text"),
    ):
        connect(url, "test")


def test_a_server_that_is_too_old_is_refused_in_one_line(stock: Stock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "OLDEST_SERVER", 990_000)
    with (
        stock.database("settings_old") as url,
        pytest.raises(ConfigurationError, match=r"has version \d+\.\d+; Gnomon needs 99 or later"),
    ):
        connect(url, "test")


def test_a_policy_that_hides_rows_is_an_error_and_not_a_smaller_number(stock: Stock) -> None:
    with stock.database("settings_policy") as url:
        runner.upgrade(engine_for(url))
        stock.execute("alter table gnomon.streams enable row level security, force row level security",
                      "settings_policy")  # fmt: skip
        session = connect(url, "test")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute("select count(*) from gnomon.streams")
        session.close()
