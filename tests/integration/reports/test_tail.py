"""`gnomon tail`: the current state of a stream, on a terminal and for a program."""

import io
import json
import os
import pty
import signal
import subprocess
import uuid
from datetime import timedelta

import pytest
from rich.console import Console
from tests.support.report_database import START, Database
from tests.support.servers.process import COMMAND, Gnomon

from gnomon_consumer.reports.tail import Z_95, Look, rates, table


def put(db: Database, windows: int, lag: float) -> None:
    """Insert windows of 10 captures, 5 sampled, in partition 0, and the progress after them."""
    key = {"deployment_id": db.deployments["new"], "source_partition": 0}
    for number in range(windows):
        start = number * 10
        db.add("windows", [{
            **key, "start_offset": start, "end_offset": start + 10, "window_id": uuid.uuid4(), "tick_id": uuid.uuid4(),
            "opened_at": START, "sealed_at": START, "close_reason": "time", "lag_s": lag + number, "seed": 0,
            "policy": "p", "seen": 10, "joined_seen": 10, "shadow_offset": start,
        }])  # fmt: skip
        db.add("cells", [{
            **key, "start_offset": start, "stratum": "", "seen": 10, "sampled": 5, "draw_probability": 1.0, "scored": 5,
            "failed": 0, "timed_out": 0, "dead_lettered": 0, "joined_seen": 10, "joined_scored": 5,
        }])  # fmt: skip
    db.add("join_progress", [{
        **key, "cluster_id": "c", "start_offset": 0, "model_name": "m", "model_version": "1", "model_sha256": "",
        "seed": 0, "policy": "p", "next_source_offset": windows * 10, "next_shadow_offset": 1, "started_at": START,
        "event_time_reached": START + timedelta(hours=1),
    }])  # fmt: skip


def test_the_present_is_the_last_windows_and_pairs(gnomon: Gnomon, db: Database, database_url: str) -> None:
    put(db, 30, 0.5)
    agree = {"live_label": "a", "shadow_label": "a", "inclusion_probability": 0.25}
    db.add_pairs([agree, {**agree, "shadow_label": "b", "inclusion_probability": 0.5}])
    db.add_pairs([{"outcome": "failed", "shadow_error_kind": "model_error", "inclusion_probability": 0.5}])
    ended = gnomon.run(
        "tail", "--count", "2", "--every", "0.1", env={"GNOMON_DATABASE_URL": database_url, "GNOMON_STREAM": "s"}
    )
    assert ended.returncode == 0, ended.stderr
    first, second = (json.loads(line) for line in ended.stdout.splitlines())
    assert first["joined_per_second"] is None
    assert second["joined_per_second"] == 0
    assert (second["joined"], second["lag_s"], second["sampling_fraction"]) == (300, 29.5, 0.5)
    assert second["agreement"] == pytest.approx(4 / 6)
    assert second["shadow_error_rate"] == pytest.approx(2 / 8)
    assert second["live_error_rate"] == 0
    assert second["event_time"] == "2013-04-01T01:00:00+00:00"


def test_an_interval_reaches_as_far_as_those_of_the_reports(db: Database) -> None:
    assert db.value("select gnomon_estimators.reach(null)") == pytest.approx(Z_95, rel=1e-15)


def test_pairs_of_the_past_are_not_the_present(gnomon: Gnomon, db: Database, database_url: str) -> None:
    put(db, 1, 0.5)
    db.add_pairs([{"live_label": "a", "shadow_label": "a"}])
    db.connection.execute("update gnomon.pairs set joined_at = now() - interval '1 hour'")
    environment = {"GNOMON_DATABASE_URL": database_url, "GNOMON_STREAM": "s"}
    row = json.loads(gnomon.run("tail", "--count", "1", env=environment).stdout)
    assert (row["agreement"], row["status"]) == (None, "no pair joined lately")
    row = json.loads(gnomon.run("tail", "--count", "1", "--stream", "nowhere", env=environment).stdout)
    assert row["status"] == "unknown stream"


def test_it_draws_on_a_terminal_and_ends_with_ctrl_c(db: Database, database_url: str) -> None:
    put(db, 3, 0.5)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [COMMAND, "tail", "--every", "0.1"], stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.PIPE,
        env={**os.environ, "GNOMON_DATABASE_URL": database_url, "GNOMON_STREAM": "s", "TERM": "xterm"},
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    while b"new" not in seen:
        seen += os.read(ours, 4096)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    os.close(ours)
    assert (process.returncode, errors) == (0, b"")
    assert b"joined/s" in seen


def test_a_rate_needs_two_looks_and_the_same_deployment() -> None:
    before = Look(10.0, [{"deployment": "a", "joined": 100}, {"deployment": "b", "joined": None}])
    now = Look(
        12.0, [{"deployment": "a", "joined": 150}, {"deployment": "b", "joined": 5}, {"deployment": "c", "joined": 1}]
    )
    assert rates(None, now) == {}
    assert rates(before, now) == {"a": 25.0}


def test_a_name_as_long_as_the_demos_fits_80_columns() -> None:
    row = {
        "stream": "s", "deployment": "gradient-boosting", "role": "challenger", "joined": 1_000_000, "lag_s": 12.5,
        "sampling_fraction": 0.12, "agreement": 0.83, "shadow_error_rate": 0.0, "event_time": START, "status": "ok",
    }  # fmt: skip
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(table(Look(0.0, [{**row, "joined": 0}]), Look(10.0, [row])))
    (line,) = (line for line in console.export_text().splitlines() if "boosting" in line)
    assert " ".join(line.split()) == "gradient-boosting 100,000 12.5 s 12.00% 83.00% 0.00% 04-01 00:00"
