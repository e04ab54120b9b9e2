"""`gnomon demo` as a user runs it: the numbers it ends with, and what it leaves behind however it ends."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.servers.process import Gnomon, GnomonProcess
from tests.servers.shared import wait_for_exit

CAPTURES = 20_000
START_TIMEOUT_S = 240.0
STOP_TIMEOUT_S = 40.0


def start(gnomon: Gnomon, tmp_path: Path, captures: int) -> GnomonProcess:
    """Start the demo, as a program would."""
    return gnomon.start("demo", "--captures", captures, "--json", "--output", tmp_path / "demo")


@pytest.mark.timeout(600)
def test_every_flight_is_in_exactly_one_bucket(gnomon: Gnomon, tmp_path: Path) -> None:
    process = start(gnomon, tmp_path, CAPTURES)
    assert process.wait(500) == 0, process.output
    outcome: dict[str, Any] = json.loads(process.stdout)
    assert outcome["captured"] == CAPTURES
    # Of April's flights some 3% are cancelled, diverted or without a record of their arrival: they get no label.
    assert 0.95 * CAPTURES < outcome["labels"] < CAPTURES
    assert outcome["seconds"] > 0
    assert outcome["captures_per_second"] == pytest.approx(CAPTURES / outcome["seconds"], rel=0.05)
    assert {"report", *outcome} == {"captured", "labels", "seconds", "captures_per_second", "report", "deployments"}
    assert [one["role"] for one in outcome["deployments"]] == ["challenger", "control"]
    for one in outcome["deployments"]:
        assert one["seen"] == CAPTURES
        assert one["seen"] == one["sampled_out"] + one["paired"] + one["dead_lettered"] + one["orphaned"]
        assert one["paired"] == one["scored"] + one["failed"] + one["timed_out"]
        assert one["sampled"] == one["paired"] + one["dead_lettered"] + one["orphaned"]
        assert one["scored"] > 0
        assert (one["failed"], one["dead_lettered"], one["orphaned"], one["gaps"]) == (0, 0, 0, 0)
        assert {"name", "agreement", "verdict"} < one.keys()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "sigkill"])
def test_no_process_is_left_however_it_ends(gnomon: Gnomon, tmp_path: Path, number: signal.Signals) -> None:
    """Broker, database, scorers, their workers, joiners, label consumer, live service: all go with the demo."""
    process = start(gnomon, tmp_path, 10 * CAPTURES)  # more than it can do before the signal comes
    process.wait_for(r"captured [1-9][\d,]* of", START_TIMEOUT_S)
    family = psutil.Process(process.pid).children(recursive=True)
    commands = " ".join(" ".join(member.cmdline()) for member in family)
    for part in ("postgres -D", " score ", " join ", " labels ", "quickstart.service", "keeper kafka"):
        assert part in commands, f"{part} does not run, so its end proves nothing"
    handles = {member.pid: os.pidfd_open(member.pid) for member in family}
    process.send(number)
    status = process.wait(STOP_TIMEOUT_S)
    assert status == (-signal.SIGKILL if number == signal.SIGKILL else 130), process.output
    left = [pid for pid, handle in handles.items() if not wait_for_exit(handle, STOP_TIMEOUT_S)]
    for handle in handles.values():
        os.close(handle)
    assert left == []
    assert "Traceback" not in process.output
