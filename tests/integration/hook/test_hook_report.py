"""`gnomon report producers` shows the captures that a live service lost before Kafka, also after its death."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg
from tests.support.command import Command
from tests.support.hook_processes import BUFFER_BYTES
from tests.support.live_stream import await_sealed, sum_model
from tests.support.score_command import prepare, start
from tests.support.servers.process import Gnomon
from tests.support.servers.shared import ROOT
from tests.support.tap import GOOD, captures, make_tap, raw_messages

DEPLOYMENT = "boost"


def killed_run(bootstrap: str, stream: str, ledger: Path) -> int:
    """Let a service capture, kill it once Kafka received messages; return how many captures it had offered."""
    topics = [f"gnomon.{stream}.{kind}" for kind in ("live", "producers")]
    before = [len(raw_messages(bootstrap, topic)) for topic in topics]
    ledger.write_bytes(bytes(16))
    command = [sys.executable, "-m", "tests.support.hook_processes", "until-killed", bootstrap, stream, str(ledger)]
    with subprocess.Popen(command, cwd=ROOT) as process:
        deadline = time.monotonic() + 60
        while any(len(raw_messages(bootstrap, topic)) == count for topic, count in zip(topics, before, strict=True)):
            assert process.poll() is None
            assert time.monotonic() < deadline, "nothing of it arrives"
        process.kill()
    return int.from_bytes(ledger.read_bytes()[:8], "little")


def report(command: Command, database_url: str, stream: str) -> dict[str, dict[str, Any]]:
    """Return the report's rows by service."""
    told = command("report", "producers", "--stream", stream, "--database-url", database_url, "--format", "json")
    assert told.returncode == 0, told.stderr
    return {row["service"]: row for row in json.loads(told.stdout)["rows"]}


def test_gaps_and_an_unclean_end_are_shown(
    gnomon: Gnomon, command: Command, mock_bootstrap: str, stream_name: str, database_url: str, tmp_path: Path
) -> None:
    prepare(gnomon, mock_bootstrap, stream_name)
    tap = make_tap(mock_bootstrap, stream_name, service="lossy")
    for number in range(50):
        tap.record(f"lossy-{number}", GOOD | {"visits": "many"} if number in (7, 8, 49) else GOOD, value=0.5)
    assert tap.close(60)
    offered = killed_run(mock_bootstrap, stream_name, tmp_path / "ledger")
    arrived = len(captures(mock_bootstrap, stream_name))
    scorer = start(
        gnomon, mock_bootstrap, stream_name, sum_model(tmp_path / "sum.onnx", "amount"), "--from", "earliest"
    )
    await_sealed(mock_bootstrap, stream_name, DEPLOYMENT, arrived)
    assert scorer.terminate(12) == 0
    where = ("--stream", stream_name, "--bootstrap-servers", mock_bootstrap, "--database-url", database_url, "--drain")
    for service in (("join", "--deployment", DEPLOYMENT), ("labels", "consume")):
        ended = gnomon.run(*service, *where, timeout=60)
        assert ended.returncode == 0, ended.stderr
    with psycopg.connect(database_url) as connection:  # a busy machine may need a minute for this
        connection.execute("update gnomon.producer_tallies set last_captured_at = now()")
    # It may still be running. A partition may have received the later part of its captures and another nothing.
    assert report(command, database_url, stream_name)["hook_processes.py"]["status"] in ("ok", "captures were lost")
    with psycopg.connect(database_url) as connection:
        connection.execute("update gnomon.producer_reports set reported_at = reported_at - interval '2 minutes'")
        connection.execute(
            "update gnomon.producer_tallies set last_captured_at = last_captured_at - interval '2 minutes'"
        )
    runs = report(command, database_url, stream_name)
    assert set(runs) == {"lossy", "hook_processes.py"}
    lossy, killed = runs["lossy"], runs["hook_processes.py"]
    # Two missing numbers, and a last one that only the closing report reveals.
    assert (lossy["offered"], lossy["received"], lossy["missing"], lossy["tail"]) == (50, 47, 2, 1)
    assert (lossy["closed"], lossy["status"]) == (True, "captures were lost")
    assert (killed["closed"], killed["status"]) == (False, "unclean: not closed, its tail is unknown")
    assert killed["received"] == arrived - 47
    assert 0 <= offered - killed["received"] - killed["missing"] <= BUFFER_BYTES // 2048 + 1
