"""`gnomon demo` leaves no running process behind, however it ends."""

import os
import signal
from pathlib import Path

import psutil
import pytest
from tests.support.servers.process import Gnomon
from tests.support.servers.shared import wait_for_exit

# More captures than it can replay before the signal arrives.
CAPTURES = 200_000
START_TIMEOUT_S = 240.0
STOP_TIMEOUT_S = 40.0


@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "sigkill"])
def test_no_process_is_left_however_it_ends(gnomon: Gnomon, tmp_path: Path, number: signal.Signals) -> None:
    """Broker, database, scorers, workers, joiners, label consumer and live service end with the demo."""
    process = gnomon.start("demo", "--captures", CAPTURES, "--json", "--output", tmp_path / "demo")
    process.wait_for(r"captured [1-9][\d,]* of", START_TIMEOUT_S)
    family = psutil.Process(process.pid).children(recursive=True)
    commands = " ".join(" ".join(member.cmdline()) for member in family)
    for part in ("postgres -D", " score ", " join ", " labels ", "quickstart.demo.service", "embedded.server kafka"):
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
