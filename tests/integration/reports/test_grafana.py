"""The shipped dashboard: gnomon_reader may run its queries and gets rows; no query reads outside of report_v1."""

import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import psycopg
import pytest
import yaml
from psycopg import sql
from tests.support.report_database import ROLLUP, Database, sample
from tests.support.servers.shared import ROOT

from gnomon_consumer.reports import REPORTS, Question, ask

GRAFANA = ROOT / "deploy" / "grafana"
DASHBOARD: dict[str, Any] = json.loads((GRAFANA / "dashboards" / "gnomon.json").read_text(encoding="utf-8"))
VALUES = {"stream": "s", "deployment": "new"}


def expand(query: str, values: dict[str, str]) -> str:
    """Expand a query as Grafana does: variables as quoted text, the period as quoted times."""
    for name, value in values.items():
        query = query.replace(f"${{{name}:sqlstring}}", sql.Literal(value).as_string())
    query = query.replace("$__timeFrom()", "'2013-03-01T00:00:00Z'").replace("$__timeTo()", "'2013-06-01T00:00:00Z'")
    assert "$" not in query, query
    return query


def queries() -> dict[str, str]:
    panels = {panel["title"]: panel["targets"][0]["rawSql"] for panel in DASHBOARD["panels"]}
    return panels | {f"variable {v['name']}": v["query"] for v in DASHBOARD["templating"]["list"]}


@pytest.fixture(scope="module")
def reader(postgres_server: str, migrated_template: str) -> Iterator[psycopg.Connection[Any]]:
    """Return a connection as gnomon_reader to a database with a challenger and a control."""
    from tests.support.servers import postgres

    with postgres.database(postgres_server, migrated_template) as url, psycopg.connect(url, autocommit=True) as c:
        db = Database(c)
        db.add_stream()
        drawn = sample(np.random.default_rng(5), n=120)
        for name, role in (("new", "challenger"), ("control", "control")):
            db.add_deployment(name, role)
            db.add_pairs(drawn.rows(), name)
        c.execute(ROLLUP)
        c.execute("do $$ begin create role gnomon_reader; exception when duplicate_object then null; end $$")
        c.execute("select gnomon.grant_roles()")
        c.execute("set role gnomon_reader")
        yield c


@pytest.mark.parametrize("panel", queries())
def test_every_query_is_answered(reader: psycopg.Connection[Any], panel: str) -> None:
    for values in (VALUES, {"stream": "nowhere", "deployment": "it's nobody"}):
        cursor = reader.execute(expand(queries()[panel], values).encode())
        rows = cursor.fetchall()
        names = [column.name for column in cursor.description or ()]
        if values is VALUES and panel != "Producers" and "time" not in names:
            assert rows, "a panel that is empty where there are pairs"


def test_the_dashboard_numbers_are_the_reports(reader: psycopg.Connection[Any]) -> None:
    agreement = {row["role"]: row["agreement"] for row in ask(reader, "agreement", Question("s")).rows}
    latency = {
        row["role"]: row["microseconds"]
        for row in ask(reader, "latency", Question("s")).rows
        if (row["measure"], row["quantile"]) == ("shadow", 0.95)
    }
    errors = {"challenger": 0.0, "control": 0.0}
    for panel, expected in {
        "Agreement with live": agreement, "Latency, p95 of the probes": latency, "Shadow error rate": errors,
    }.items():  # fmt: skip
        ((challenger, control),) = reader.execute(expand(queries()[panel], VALUES).encode()).fetchall()
        assert challenger == pytest.approx(expected["challenger"]), panel
        assert control == pytest.approx(expected["control"]), panel


def test_shares_and_times_have_their_unit(reader: psycopg.Connection[Any]) -> None:
    """The dashboard shows per cent, µs and bytes in the same units as the terminal."""
    units, checked = {"share": "percentunit", "µs": "µs", "bytes": "bytes"}, 0
    for panel in (panel for panel in DASHBOARD["panels"] if panel["type"] == "table"):
        function = re.findall(r"report_v1\.(\w+)\(", queries()[panel["title"]])[0]
        names = [c.name for c in reader.execute(expand(queries()[panel["title"]], VALUES).encode()).description or ()]
        shown = {
            override["matcher"]["options"]: override["properties"][0]["value"]
            for override in panel["fieldConfig"].get("overrides", [])
        }
        assert set(shown) <= set(names), panel["title"]
        for column in REPORTS[function].columns:
            if column.kind in units and column.source in names:
                assert shown.get(column.source) == units[column.kind], (panel["title"], column.source)
                checked += 1
    assert checked >= 12


@pytest.mark.parametrize("panel", queries())
def test_only_the_reading_api_is_asked(panel: str) -> None:
    relations = re.findall(r"(?:from|join)\s+([a-z_0-9.]+)", queries()[panel])
    assert relations
    assert {name.split(".")[0] for name in relations} == {"report_v1"}


def test_provisioning_and_dashboard_name_the_same_source() -> None:
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/gnomon.yaml").read_text())["datasources"]
    assert source["user"] == "gnomon_reader"
    assert "password" not in source
    used = {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]}
    used |= {target["datasource"]["uid"] for panel in DASHBOARD["panels"] for target in panel["targets"]}
    assert used == {source["uid"]}
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/gnomon.yaml").read_text())["providers"]
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"


def test_panels_do_not_overlap_and_have_their_own_ids() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        area = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not area & taken, panel["title"]
        taken |= area
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
