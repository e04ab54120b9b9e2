"""Children are watched while they run, and none is left when the block ends, even if they ignore signals."""

import signal
import sys
from pathlib import Path

import psutil
import pytest

from gnomon_consumer.runtime.supervisor import Child, ChildDiedError, Children

# It reports its start on the pipe, so that the test need not wait for a guessed time.
UP = "print('up', flush=True);"
STUBBORN = f"import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); {UP} time.sleep(600)"
POLITE = f"import time; {UP} time.sleep(600)"


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def started(children: Children, name: str, code: str) -> Child:
    child = children.start(name, python(code), piped=True)
    assert child.process.stdout is not None
    assert child.process.stdout.readline() == "up\n"
    return child


def test_a_death_is_told_with_name_status_and_last_words(tmp_path: Path) -> None:
    with Children(tmp_path) as children:
        polite = started(children, "polite", POLITE)
        children.check()
        broken = children.start("broken one", python("import sys; print('no model'); sys.exit(3)"))
        broken.process.wait(30)
        with pytest.raises(ChildDiedError, match=r"broken one ended with status 3:\nno model") as caught:
            children.check()
        assert caught.value.exit_status == 3
    assert polite.process.returncode == -signal.SIGTERM
    assert (tmp_path / "broken-one.log").read_text() == "no model\n"


def test_a_kill_is_told_by_its_signal_and_counts_as_a_failure(tmp_path: Path) -> None:
    with Children(tmp_path) as children:
        child = started(children, "victim", POLITE)
        child.process.kill()
        child.process.wait(30)
        with pytest.raises(ChildDiedError, match="victim was killed by signal 9") as caught:
            children.check()
        assert caught.value.exit_status == 1


def test_waiting_for_one_notices_the_death_of_another(tmp_path: Path) -> None:
    with Children(tmp_path) as children:
        awaited = started(children, "awaited", POLITE)
        children.start("other", python("raise SystemExit(2)"))
        with pytest.raises(ChildDiedError, match="other ended with status 2"):
            children.expect_end(awaited)


def test_an_awaited_end_may_be_in_good_order_only(tmp_path: Path) -> None:
    with Children(tmp_path) as children:
        children.expect_end(children.start("good", python("pass")))
        with pytest.raises(ChildDiedError, match="bad ended with status 1"):
            children.expect_end(children.start("bad", python("raise SystemExit(1)")))
        good = children.start("done", python("pass"))
        good.process.wait(30)
        children.check(but=good)
        with pytest.raises(ChildDiedError):
            children.check()


def test_the_stubborn_are_killed_after_the_grace_time(tmp_path: Path) -> None:
    with Children(tmp_path, grace_seconds=0.5) as children:
        stubborn = started(children, "stubborn", STUBBORN)
    assert stubborn.process.returncode == -signal.SIGKILL
    assert not psutil.pid_exists(stubborn.process.pid)


def test_children_see_no_setting_of_their_parents_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GNOMON_STREAM", "other")
    monkeypatch.setenv("ELSE", "kept")
    code = "import os; print([name for name in os.environ if name.startswith('GNOMON_')], os.environ['ELSE'])"
    with Children(tmp_path) as children:
        children.expect_end(children.start("environment", python(code)))
    assert (tmp_path / "environment.log").read_text() == "[] kept\n"
