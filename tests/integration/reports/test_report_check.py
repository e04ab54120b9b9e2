"""`gnomon report check`: bounds on predictions and reports, and the alerts that watch them."""

import json
import math
import os
import signal
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from tests.support.command import Command
from tests.support.report_database import START, Database
from tests.support.servers.process import COMMAND
from tests.support.servers.shared import ROOT

from gnomon_consumer.reports.bounds import BROKEN, MET, UNKNOWN, BoundResult, metrics
from gnomon_consumer.settings import load_settings

PROMETHEUS = ROOT / "deploy" / "prometheus"
HOUR = ("--until", "2013-04-01T01:00:00", "--last-seconds", "3600")


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    """Return a database with three pairs at one moment, of weights 1, 5 and 1, and an older one of another kind."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        made = Database(connection)
        made.add_stream()
        made.add_deployment()
        rows = [
            ("late", "late", 0.6, 0.9, 1.0),
            ("late", "ok", 0.6, 1.5, 0.2),
            (None, None, 0.5, math.nan, 1.0),
        ]
        columns = ("live_label", "shadow_label", "live_value", "shadow_value", "inclusion_probability")
        made.add_pairs([{**dict(zip(columns, row, strict=True)), "event_time": START} for row in rows])
        old = {"live_label": "old", "shadow_label": "old", "live_value": 0.0, "shadow_value": -9.0}
        made.add_pairs([{**old, "event_time": START - timedelta(days=1)}])
        yield made


def test_bounds_are_met_broken_or_unknown(command: Command, db: Database, database_url: str) -> None:
    bounds = {
        "predictions.per_hour[side=shadow,label=] > 0": (UNKNOWN, None, "ok"),
        "agreement.agreement >= 0.7": (BROKEN, 1 / 6, ""),
        "agreement.agreement >= 0.7 if n >= 100": (UNKNOWN, 1 / 6, "its n is 2"),
        "agreement.agreement <= 0.2 if n >= 2": (MET, 1 / 6, ""),
        "predictions.highest[side=shadow,label=] <= 1": (BROKEN, 1.5, ""),
        "predictions.lowest[side=shadow,label=] >= 0": (MET, 0.9, ""),  # the older pair is outside of the hour
        "predictions.not_finite[side=shadow,label=] = 0": (BROKEN, 1, ""),
        "predictions.share[side=shadow,label=late] < 0.2": (MET, 1 / 7, ""),
        "predictions.share[side=shadow,label=ghost] < 0.2": (UNKNOWN, None, "no row matches it"),
    }
    environment = {
        "GNOMON_DATABASE_URL": database_url, "GNOMON_STREAM": "s", "GNOMON_REPORT__BOUNDS": json.dumps(list(bounds)),
    }  # fmt: skip
    arguments = ("report", "check", *HOUR, "--textfile", "out.prom")
    ended = command(*arguments, "--json", env=environment)
    assert ended.returncode == 1, ended.stderr
    found = {row["bound"]: row for row in json.loads(ended.stdout)}
    bounds["predictions.per_hour[side=shadow,label=] > 0"] = (UNKNOWN, None, "no number")
    assert {text: (row["state"], row["reason"]) for text, row in found.items()} == {
        text: (state, reason) for text, (state, _, reason) in bounds.items()
    }
    for text, (_, value, _) in bounds.items():
        assert found[text]["value"] == (None if value is None else pytest.approx(value))

    written = (command.cwd / "out.prom").read_text()
    families = {family.name: family for family in text_string_to_metric_families(written)}
    states = {sample.labels["bound"]: sample for sample in families["gnomon_bound_state"].samples}
    expected = {text: {MET: 1.0, BROKEN: 0.0, UNKNOWN: -1.0}[state] for text, (state, _, _) in bounds.items()}
    assert {text: sample.value for text, sample in states.items()} == expected
    labels = states["agreement.agreement >= 0.7"].labels
    assert (labels["stream"], labels["deployment"], labels["role"]) == ("s", "new", "challenger")
    assert families["gnomon_bound_time_seconds"].samples[0].value > START.timestamp()

    table = command("report", "check", *HOUR, "--bound", "agreement.agreement >= 0.7", env=environment)
    assert (table.returncode, "broken" in table.stdout, "0.166667" in table.stdout) == (1, True, True)
    fine = ("--bound", "predictions.lowest[side=shadow,label=] >= 0")
    assert command("report", "check", *HOUR, *fine, env=environment).returncode == 0
    assert command("report", "check", *fine, env=environment).returncode == 1  # of all time: -9
    unknown = command("report", "check", *fine, "--stream", "nowhere", env=environment)
    assert (unknown.returncode, "unknown stream" in unknown.stdout) == (1, True)


def test_a_watch_says_what_changes_and_outlives_its_database(db: Database, database_url: str, tmp_path: Path) -> None:
    file = tmp_path / "out.prom"
    name = db.value("select current_database()")
    with subprocess.Popen(
        [COMMAND, "report", "check", "--bound", "agreement.n >= 3", "--every", "0.1", "--json", "--textfile", file],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "GNOMON_DATABASE_URL": database_url, "GNOMON_STREAM": "s"},
    ) as watch, psycopg.connect(database_url, dbname="postgres", autocommit=True) as other:  # fmt: skip
        assert watch.stdout is not None
        assert watch.stderr is not None
        assert [row["state"] for row in json.loads(watch.stdout.readline())] == [MET]
        db.connection.execute("delete from gnomon.pairs where live_label = 'old'")
        assert [row["state"] for row in json.loads(watch.stdout.readline())] == [BROKEN]
        other.execute(f'alter database "{name}" allow_connections false')
        assert "not currently accepting connections" in watch.stderr.readline()
        other.execute(f'alter database "{name}" allow_connections true')
        assert [row["state"] for row in json.loads(watch.stdout.readline())] == [BROKEN]
        watch.send_signal(signal.SIGTERM)
        assert watch.wait(30) == 0
    assert 'bound="agreement.n >= 3"' in file.read_text()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("agreement.luck > 1", "report agreement has no column luck, only stream, deployment, role, n,"),
        ("agreement.n > 1 if luck > 1", "no column luck"),
        ("luck.n > 1", "no report luck; there are agreement, matches, confusion"),
        ("agreement.n > 1 if n", "write REPORT.COLUMN[KEY=VALUE,…] >= NUMBER, or … if n >= NUMBER"),
        ("agreement.n > 1 if n > many", "'many' is not a number"),
    ],
)
def test_bad_bounds_are_one_line(command: Command, db: Database, database_url: str, text: str, words: str) -> None:
    ended = command("report", "check", "--stream", "s", "--bound", text, env={"GNOMON_DATABASE_URL": database_url})
    assert ended.returncode == 2
    assert words in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_the_shipped_bounds_are_held_and_no_evidence_is_no_good_news(
    command: Command, db: Database, database_url: str
) -> None:
    file = PROMETHEUS / "bounds.example.toml"
    environment = {"GNOMON_DATABASE_URL": database_url, "GNOMON_STREAM": "s"}
    ended = command("report", "check", "--config", file, "--json", env=environment)
    assert ended.returncode == 1, ended.stderr
    found = json.loads(ended.stdout)
    assert {row["bound"] for row in found} == set(load_settings(config=file).report.bounds)
    # The pairs are of 2013: for the last hour only the missing traffic is known.
    assert {row["state"] for row in found if not row["bound"].startswith("coverage.seen")} == {UNKNOWN}


def test_a_bound_on_many_rows_is_as_good_as_the_worst() -> None:
    def finding(state: str, value: float | None) -> BoundResult:
        return BoundResult(bound="b", deployment="new", role="challenger", value=value, state=state, reason="")

    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
        made = [finding(MET, 1.0), finding(UNKNOWN, None), finding(BROKEN, 7.0)]
        text = generate_latest(metrics("s", [made[place] for place in order], 5.0)).decode()
        labels = '{bound="b",deployment="new",role="challenger",stream="s"}'
        assert f"gnomon_bound_state{labels} 0.0" in text
        assert f"gnomon_bound_value{labels} 7.0" in text
    assert "gnomon_bound_state" + labels + " -1.0" in generate_latest(metrics("s", made[:2], 5.0)).decode()
