"""Prometheus' own tool takes the shipped alert rules; each fires when it should and has its runbook."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest
from tests.support.servers.shared import ROOT
from tests.support.servers.tools import tool

from gnomon_consumer.reports.bounds import MET, UNKNOWN, BoundResult, metrics, parse
from gnomon_consumer.runtime.metrics import JoinerMetrics, LabelMetrics, ScorerMetrics

ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
RUNBOOKS = ROOT / "docs" / "runbooks.md"


def rules() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def test_alerts_ask_for_what_is_written() -> None:
    """Every metric and label of an alert is one that a command serves; the bounds it names exist."""
    written = metrics("s", [BoundResult("b", "d", "r", 1.0, MET, "")], 0.0)
    known = {family.name: set(family.samples[0].labels) for family in written.collect()}
    for vocabulary in (ScorerMetrics("s", "d"), JoinerMetrics("s", "d"), LabelMetrics("s")):
        known |= {name: set(labels) for name, _, labels, _ in vocabulary.described()}
    for name, rule in rules().items():
        used = re.findall(r"gnomon_[a-z_]+", rule["expr"])
        assert used
        assert set(used) <= set(known), name
        labels = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        assert labels <= set.intersection(*(known[metric] for metric in used)), name
        for selector in re.findall(r"\{([^}]*)\}", rule["expr"]):
            assert set(re.findall(r"(\w+)(?:=|!)", selector)) <= known[used[0]]
    assert parse("ledger.balanced = 1").report == "ledger"  # the bound that GnomonLedgerOpen knows by its name


def test_each_alert_has_a_runbook_and_each_runbook_an_alert() -> None:
    entries = re.findall(r"(?m)^## (\w+)$", RUNBOOKS.read_text(encoding="utf-8"))
    assert entries == list(rules())
    for name, rule in rules().items():
        assert rule["annotations"]["runbook"] == f"docs/runbooks.md#{name.lower()}"


@pytest.fixture(scope="session")
def promtool() -> str:
    return tool("promtool", package="prometheus")


D = 'stream="s", deployment="new"'
BOUND = '{stream="s", deployment="new", role="challenger", bound="%s"}'
# Alert: the series that Prometheus is fed, minute by minute; when it is asked; the labels that the alert then has.
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
    "GnomonScorerBehind": ({f"gnomon_score_position_lag_seconds{{{D}}}": "30x10 300x80"}, "20m", {"deployment": "new"}),
    "GnomonBreakerOpen": ({f"gnomon_score_breaker_open{{{D}}}": "1x90"}, "20m", {"deployment": "new"}),
    "GnomonCapturesLost": ({f"gnomon_score_gap_offsets_total{{{D}}}": "0x10 40x80"}, "15m", {"deployment": "new"}),
    "GnomonOrphans": ({f"gnomon_join_orphans_total{{{D}}}": "0x10 40x80"}, "15m", {"deployment": "new"}),
    "GnomonDeadLetters": ({f"gnomon_join_dead_letters_total{{{D}}}": "0x10 4x80"}, "15m", {"deployment": "new"}),
    "GnomonPartitionStopped": ({f"gnomon_join_failed_partitions{{{D}}}": "1x90"}, "20m", {"deployment": "new"}),
    "GnomonDatabaseAway": ({f"gnomon_join_database_away{{{D}}}": "1x90"}, "20m", {"deployment": "new"}),
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
}
QUIET = {
    "gnomon_bound_state" + BOUND % "errors.n > 0": "1x90",
    'gnomon_bound_time_seconds{stream="s"}': "0+60x90",
    f"gnomon_score_position_lag_seconds{{{D}}}": "30x90",
    f"gnomon_score_breaker_open{{{D}}}": "0x90",
    f"gnomon_score_gap_offsets_total{{{D}}}": "7x90",
    f"gnomon_join_failed_partitions{{{D}}}": "0x90",
    f"gnomon_join_database_away{{{D}}}": "0x90",
    f'gnomon_score_partition_stalled_seconds{{{D}, partition="3"}}': "0 20 29 30 0x86",
    f"gnomon_join_seen_total{{{D}}}": "0+1000x90",
    # Few captures: a minute without one says nothing about a deployment.
    'gnomon_join_seen_total{stream="quiet", deployment="new"}': "0+1x90",
    'gnomon_join_seen_total{stream="quiet", deployment="old"}': "0+0x10 10+1x80",
}


def firing(name: str, rule: dict[str, Any]) -> dict[str, Any]:
    series, at, labels = CASES[name]
    shown = {"alertname": name, "alertstate": "firing", **rule["labels"], "stream": "s", **labels}
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
    text = generate_latest(metrics("s", [BoundResult('b "x"', None, None, None, UNKNOWN, "")], 5.0))
    linted = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, check=False, timeout=60)
    assert linted.returncode == 0, linted.stdout + linted.stderr
