"""Prometheus' own tool accepts the shipped alert rules; each fires when it should and has its runbook."""

import contextlib
import json
import re
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest, start_http_server
from tests.support.servers.ports import free_port
from tests.support.servers.shared import ROOT
from tests.support.servers.tools import tool

from gnomon_consumer.reports.bounds import MET, UNKNOWN, BoundResult, metrics, parse
from gnomon_consumer.runtime.metrics import JoinerMetrics, LabelMetrics, ScorerMetrics
from gnomon_producer.disabled import DisabledTap
from gnomon_producer.errors import DROP_REASONS
from gnomon_producer.metrics import TapCollector

ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
RUNBOOKS = ROOT / "docs" / "runbooks.md"


def rules() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def test_alerts_ask_for_what_is_written() -> None:
    """Every metric and label of an alert is served by a command; the bounds that it names exist."""
    written = metrics("s", [BoundResult(bound="b", deployment="d", role="r", value=1.0, state=MET, reason="")], 0.0)
    known = {family.name: set(family.samples[0].labels) for family in written.collect()}
    for metric_set in (ScorerMetrics("s", "d"), JoinerMetrics("s", "d"), LabelMetrics("s")):
        for name, kind, own, _ in metric_set.described():
            known |= {f"{name}{suffix}": set(own) for suffix in (("_sum", "_count") if kind == "histogram" else ("",))}
    for family in TapCollector(DisabledTap()).collect():
        suffix = "_total" if family.type == "counter" else ""
        known[f"{family.name}{suffix}"] = set(family.samples[0].labels)
    known["up"] = {"job", "instance"}  # Prometheus' own
    for name, rule in rules().items():
        used = re.findall(r"gnomon_[a-z_]+|\bup\b", rule["expr"])
        assert used
        assert set(used) <= set(known), name
        labels = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        # A quotient has the labels of its left side; either side of an `or` may be what fires.
        sides = used[:1] if " / " in rule["expr"] else used
        assert labels <= set.intersection(*(known[metric] for metric in sides)), name
        for selector in re.findall(r"\{([^}]*)\}", rule["expr"]):
            assert set(re.findall(r"(\w+)(?:=|!)", selector)) <= known[used[0]]
    assert parse("ledger.balanced = 1").report == "ledger"  # the bound that GnomonLedgerOpen refers to


def test_each_alert_has_a_runbook_and_each_runbook_an_alert() -> None:
    entries = re.findall(r"(?m)^## (\w+)$", RUNBOOKS.read_text(encoding="utf-8"))
    assert entries == list(rules())
    for name, rule in rules().items():
        assert rule["annotations"]["runbook"] == f"docs/runbooks.md#{name.lower()}"


def test_the_runbooks_name_metrics_and_reasons_that_exist() -> None:
    """A runbook that names a missing metric or reason would mislead its reader."""
    text = RUNBOOKS.read_text(encoding="utf-8")
    known = {
        name
        for v in (ScorerMetrics("s", "d"), JoinerMetrics("s", "d"), LabelMetrics("s"))
        for name, *_ in v.described()
    }
    known |= {f"{family.name}_total" for family in TapCollector(DisabledTap()).collect() if family.type == "counter"}
    named = set(re.findall(r"`(gnomon_[a-z_]+)`", text))
    assert named - known <= {"gnomon_tap_in_flight"}
    drops = re.findall(r"(?s)## (GnomonNoCaptures|GnomonHookDrops|GnomonHookCannotPublish)\n(.*?)(?=\n## |\Z)", text)
    reasons = {word for _, entry in drops for word in re.findall(r"`([a-z]+_[a-z]+|misconfigured)`", entry)}
    assert reasons - {"before_send"} <= set(DROP_REASONS)
    assert len(reasons) > 5


@pytest.fixture(scope="session")
def promtool() -> str:
    return tool("promtool", package="prometheus")


D = 'stream="s", deployment="new"'
BOUND = '{stream="s", deployment="new", role="challenger", bound="%s"}'
# Alert: the series that Prometheus gets, minute by minute; the time of the query; the alert's labels then.
CASES: dict[str, tuple[dict[str, str], str, dict[str, str]]] = {
    "GnomonBoundBroken": (
        {"gnomon_bound_state" + BOUND % "agreement.low >= 0.9": "0x90"},
        "20m",
        {"deployment": "new", "role": "challenger", "bound": "agreement.low >= 0.9"},
    ),
    "GnomonControlOutOfBounds": (
        {'gnomon_bound_state{stream="s", deployment="old", role="control", bound="agreement.low >= 0.99"}': "0x90"},
        "20m",
        {"deployment": "old", "role": "control", "bound": "agreement.low >= 0.99"},
    ),
    "GnomonLedgerOpen": (
        {"gnomon_bound_state" + BOUND % "ledger.balanced = 1": "0x90"},
        "20m",
        {"deployment": "new", "role": "challenger", "bound": "ledger.balanced = 1"},
    ),
    "GnomonBoundUnknown": (
        {"gnomon_bound_state" + BOUND % "quality.low >= 0": "-1x90"},
        "70m",
        {"deployment": "new", "role": "challenger", "bound": "quality.low >= 0"},
    ),
    "GnomonBoundsStale": ({'gnomon_bound_time_seconds{stream="s"}': "0x90"}, "40m", {}),
    "GnomonServiceDown": (
        {'up{job="gnomon", instance="score-0:9464"}': "1x10 0x80", 'up{job="gnomon", instance="join-0:9464"}': "1x90"},
        "15m",
        {"job": "gnomon", "instance": "score-0:9464"},
    ),
    "GnomonScorerBehind": ({f"gnomon_score_position_lag_seconds{{{D}}}": "30x10 300x80"}, "20m", {"deployment": "new"}),
    "GnomonBreakerOpen": ({f"gnomon_score_breaker_open{{{D}}}": "1x90"}, "20m", {"deployment": "new"}),
    "GnomonWorkersDie": (
        {f"gnomon_score_worker_restarts{{{D}}}": "0x10 1 2 3 4 5x80"},
        "20m",
        {"deployment": "new"},
    ),
    "GnomonCapturesLost": ({f"gnomon_score_gap_offsets_total{{{D}}}": "0x10 40x80"}, "15m", {"deployment": "new"}),
    "GnomonOrphans": ({f"gnomon_join_orphans_total{{{D}}}": "0x10 40x80"}, "15m", {"deployment": "new"}),
    "GnomonDeadLetters": ({f"gnomon_join_dead_letters_total{{{D}}}": "0x10 4x80"}, "15m", {"deployment": "new"}),
    "GnomonPartitionStopped": ({f"gnomon_join_failed_partitions{{{D}}}": "1x90"}, "20m", {"deployment": "new"}),
    "GnomonDatabaseUnreachable": ({f"gnomon_join_database_unreachable{{{D}}}": "1x90"}, "20m", {"deployment": "new"}),
    "GnomonJoinerBehind": (
        {
            f"gnomon_join_delay_seconds_sum{{{D}}}": "0+60x10 600+9000x80",
            f"gnomon_join_delay_seconds_count{{{D}}}": "0+60x90",
        },
        "40m",
        {"deployment": "new"},
    ),
    "GnomonLabelsUnreachable": ({'gnomon_labels_dependency_unreachable{stream="s"}': "1x90"}, "20m", {}),
    "GnomonLabelsRejected": ({'gnomon_labels_rejected_total{stream="s"}': "0x10 3x80"}, "15m", {}),
    "GnomonPartitionStalled": (
        {
            f'gnomon_join_partition_stalled_seconds{{{D}, partition="3"}}': "0x10 31+60x80",
            f'gnomon_join_partition_stalled_seconds{{{D}, partition="4"}}': "0x90",
        },
        "11m",
        {"deployment": "new", "partition": "3"},
    ),
    "GnomonDeploymentSilent": (
        {
            f"gnomon_join_seen_total{{{D}}}": "0+100x10 1000x80",
            'gnomon_join_seen_total{stream="s", deployment="old"}': "0+100x90",
        },
        "20m",
        {"deployment": "new"},
    ),
    "GnomonNoCaptures": ({f"gnomon_join_seen_total{{{D}}}": "0+100x10 1000x80"}, "40m", {}),
    "GnomonHookCannotPublish": (
        {
            'gnomon_tap_dropped_total{stream="s", kind="captures", reason="publisher_dead", instance="a"}': "0x10 7x80",
            'gnomon_tap_dropped_total{stream="s", kind="captures", reason="publisher_dead", instance="b"}': "0x90",
        },
        "12m",
        {},
    ),
    "GnomonHookDrops": (
        {
            'gnomon_tap_dropped_total{stream="s", kind="captures", reason="queue_full", instance="a"}': "0+50x90",
            'gnomon_tap_dropped_total{stream="s", kind="captures", reason="too_large", instance="a"}': "0+1x90",
            'gnomon_tap_offered_total{stream="s", kind="captures", instance="a"}': "0+1000x90",
            'gnomon_tap_offered_total{stream="s", kind="captures", instance="b"}': "0+1000x90",
        },
        "30m",
        {"reason": "queue_full"},
    ),
}
QUIET = {
    "gnomon_bound_state" + BOUND % "errors.n > 0": "1x90",
    'gnomon_bound_time_seconds{stream="s"}': "0+60x90",
    f"gnomon_score_position_lag_seconds{{{D}}}": "30x90",
    f"gnomon_score_breaker_open{{{D}}}": "0x90",
    f"gnomon_score_gap_offsets_total{{{D}}}": "7x90",
    f"gnomon_join_failed_partitions{{{D}}}": "0x90",
    f"gnomon_join_database_unreachable{{{D}}}": "0x90",
    f'gnomon_score_partition_stalled_seconds{{{D}, partition="3"}}': "0 20 29 30 0x86",
    f"gnomon_join_seen_total{{{D}}}": "0+1000x90",
    'up{job="gnomon", instance="a"}': "1 1 0 1 1x86",  # one missed scrape
    'up{job="another", instance="b"}': "0x90",
    f"gnomon_score_worker_restarts{{{D}}}": "0x10 1x80",
    f"gnomon_join_delay_seconds_sum{{{D}}}": "0+60x90",
    f"gnomon_join_delay_seconds_count{{{D}}}": "0+60x90",
    'gnomon_labels_dependency_unreachable{stream="s"}': "0x90",
    'gnomon_labels_rejected_total{stream="s"}': "5x90",
    'gnomon_tap_dropped_total{stream="s", kind="captures", reason="publisher_dead"}': "9x90",
    'gnomon_tap_dropped_total{stream="s", kind="captures", reason="queue_full"}': "0+1x90",
    'gnomon_tap_dropped_total{stream="s", kind="labels", reason="queue_full"}': "0+500x90",
    'gnomon_tap_offered_total{stream="s", kind="captures"}': "0+1000x90",
    'gnomon_tap_offered_total{stream="s", kind="labels"}': "0+1000x90",
    # Few captures: a minute without one says nothing about a deployment.
    'gnomon_join_seen_total{stream="quiet", deployment="new"}': "0+1x90",
    'gnomon_join_seen_total{stream="quiet", deployment="old"}': "0+0x10 10+1x80",
}


def firing(name: str, rule: dict[str, Any]) -> dict[str, Any]:
    series, at, labels = CASES[name]
    of = {} if name == "GnomonServiceDown" else {"stream": "s"}  # Prometheus' own series knows no stream
    shown = {"alertname": name, "alertstate": "firing", **rule["labels"], **of, **labels}
    sample = "ALERTS{" + ", ".join(f"{key}={json.dumps(value)}" for key, value in shown.items()) + "}"
    return {
        "interval": "1m",
        "input_series": [{"series": key, "values": values} for key, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f'ALERTS{{alertname="{name}", alertstate="firing"}}',
                "eval_time": at,
                "exp_samples": [{"labels": sample, "value": 1}],
            }
        ],
    }


def test_prometheus_itself_takes_the_rules_and_fires_each(promtool: str, tmp_path: Path) -> None:
    assert list(CASES) == list(rules())
    quiet = {
        "interval": "1m",
        "input_series": [{"series": key, "values": values} for key, values in QUIET.items()],
        "promql_expr_test": [{"expr": "count(ALERTS)", "eval_time": "80m", "exp_samples": []}],
    }
    file = tmp_path / "alerts_test.yml"
    tests = [*(firing(name, rule) for name, rule in rules().items()), quiet]
    file.write_text(yaml.safe_dump({"rule_files": [str(ALERTS)], "tests": tests}))
    for command in (("check", "rules", str(ALERTS)), ("test", "rules", str(file))):
        ended = subprocess.run([promtool, *command], capture_output=True, text=True, check=False, timeout=60)
        assert ended.returncode == 0, ended.stdout + ended.stderr


def test_prometheus_itself_takes_the_textfile(promtool: str) -> None:
    text = generate_latest(
        metrics(
            "s", [BoundResult(bound='b "x"', deployment=None, role=None, value=None, state=UNKNOWN, reason="")], 5.0
        )
    )
    linted = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, check=False, timeout=60)
    assert linted.returncode == 0, linted.stdout + linted.stderr


SCRAPE = ROOT / "deploy" / "prometheus" / "prometheus.yml"


def asked(port: int, path: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/{path}", timeout=10) as answer:
        return json.load(answer)["data"]


def test_a_prometheus_with_our_files_scrapes_and_watches(promtool: str, tmp_path: Path) -> None:
    """The shipped configuration, except for the targets: a scorer's page, and a port without a listener."""
    checked = subprocess.run([promtool, "check", "config", str(SCRAPE)], capture_output=True, check=False, timeout=60)
    assert checked.returncode == 0, checked.stdout
    metrics = ScorerMetrics("s", "new")
    metrics.breaker.set(1)
    server, thread = start_http_server(0, "127.0.0.1", metrics.registry)
    port, nobody = free_port(), free_port()
    shipped = yaml.safe_load(SCRAPE.read_text(encoding="utf-8"))
    shipped["global"] |= {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
    shipped["rule_files"] = [str(ALERTS)]
    (job,) = shipped["scrape_configs"]
    job["static_configs"] = [{"targets": [f"127.0.0.1:{server.server_port}", f"127.0.0.1:{nobody}"]}]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(shipped))
    command = [
        tool("prometheus", package="prometheus"), f"--config.file={tmp_path / 'prometheus.yml'}",
        f"--storage.tsdb.path={tmp_path / 'data'}", f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with (tmp_path / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as prometheus:
        try:
            deadline = time.monotonic() + 120
            found: dict[str, str] = {}
            while found.keys() < {"GnomonServiceDown", "GnomonBreakerOpen"}:
                assert time.monotonic() < deadline, (tmp_path / "log").read_text()
                time.sleep(0.5)
                with contextlib.suppress(OSError):
                    found = {one["labels"]["alertname"]: one["state"] for one in asked(port, "alerts")["alerts"]}
            assert set(found.values()) == {"pending"}, "both have a time to wait"
            watched = [rule for group in asked(port, "rules")["groups"] for rule in group["rules"]]
            assert sorted(rule["name"] for rule in watched) == sorted(rules())
            assert {rule["health"] for rule in watched} == {"ok"}
            up = {one["metric"]["instance"]: one["value"][1] for one in asked(port, "query?query=up")["result"]}
            assert up == {f"127.0.0.1:{server.server_port}": "1", f"127.0.0.1:{nobody}": "0"}
        finally:
            prometheus.terminate()
            server.shutdown()
            server.server_close()
            thread.join()
