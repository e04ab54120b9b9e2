"""The end of a long-running command, in separate processes with real signals."""

import signal
import subprocess
import sys
import time

import pytest

# The main thread is inside one long call of a C library, for whose end Python's own handlers would wait.
DEAF = """
import hashlib
from gnomon_consumer.runtime.signals import stop_on_signals
with stop_on_signals({grace}):
    print("up", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
"""
POLITE = """
from gnomon_consumer.runtime.signals import stop_on_signals
with stop_on_signals({grace}) as stop:
    print("up", flush=True)
    stop.wait()
    print("asked", flush=True)
print("ended", flush=True)
"""

HOLDING = """
import os, signal
from gnomon_consumer.runtime.signals import stop_on_signals
with stop_on_signals({grace}) as stop:
    print("up", flush=True)
    with stop._cond:
        os.kill(os.getpid(), signal.SIGTERM)
    assert stop.wait(30)
    print("asked", flush=True)
"""


def started(program: str, grace: float) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program.format(grace=grace)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_asks(number: signal.Signals) -> None:
    with started(POLITE, 60) as process:
        process.send_signal(number)
        assert process.communicate(timeout=30) == ("asked\nended\n", "")
        assert process.returncode == 0


def test_the_second_one_ends_it_wherever_it_is() -> None:
    with started(DEAF, 600) as process:
        process.send_signal(signal.SIGTERM)
        # Two signals at once may arrive as one.
        while process.poll() is None:
            process.send_signal(signal.SIGTERM)
            time.sleep(0.05)
        assert process.returncode == 128 + signal.SIGTERM
        assert process.communicate(timeout=30)[1] == ""


def test_the_end_of_the_grace_time_does_too() -> None:
    with started(DEAF, 0.1) as process:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 128 + signal.SIGTERM
        assert errors == "gnomon: still busy, ended anyway; the next run repeats uncommitted work\n"


def test_what_has_left_the_block_is_left_alone() -> None:
    program = POLITE + "import time\ntime.sleep(0.5)\nprint('done', flush=True)\n"
    with started(program, 0.2) as process:
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=30) == ("asked\nended\ndone\n", "")
        assert process.returncode == 0


def test_a_signal_while_the_main_thread_holds_the_lock_of_the_event() -> None:
    """As at the beginning and the end of each wait: handlers run there, and one that took that lock would hang."""
    process = started(HOLDING, 60)
    with process:
        assert process.stdout is not None
        assert process.stdout.read() == "asked\n"
    assert process.returncode == 0
