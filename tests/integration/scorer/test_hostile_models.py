"""A hundred attacks from a worker: as root, as an ordinary user, and within a container's filter of system calls.

`python -m tests.integration.scorer.test_hostile_models` runs them and writes the table of docs/security.md.
"""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tests.support import hostile_models, ordinary_user
from tests.support.servers.shared import ROOT

PAGE = ROOT / "docs/security.md"
BEGIN, END = "<!-- attacks: made by tests/integration/scorer/test_hostile_models.py -->\n", "<!-- end of attacks -->\n"
RUNS = {
    "root": ("root", "plain"),
    "user": ("user", "plain"),
    "container": ("user", "container"),
    "root in a container": ("root", "container"),
    "old container": ("user", "bare"),
}
# Without Landlock and namespaces two attacks succeed, which is why the scorer refuses to start there.
KNOWN_OPEN = {"old container": {"read_configuration", "read_configuration_by_another_way", "read_environments"}}


@cache
def found(run: str) -> dict[str, Any]:
    """Run every attack once."""
    who, mode = RUNS[run]
    if who == "root" and os.geteuid() != 0:
        pytest.skip("these tests do not run as root")
    python = sys.executable if who == "root" else ordinary_user.interpreter()
    if python is None:
        pytest.skip("the only Python of this version is one that an ordinary user may not run")
    with ordinary_user.folder() as folder:
        out = folder / "found.json"
        attacked = folder / "attacked"
        environment = ordinary_user.environment() | {"HOME": str(folder)}
        environment["PYTHONPATH"] = f"{ROOT}:{environment['PYTHONPATH']}"
        arguments = {} if who == "root" else ordinary_user.popen_arguments()
        make = [python, "-c", f"import os; os.mkdir({str(attacked)!r})"]
        subprocess.run(make, check=True, cwd=folder, **arguments)
        command = [python, "-m", "tests.support.hostile_world", str(attacked), mode, str(out)]
        ran = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False, **arguments
        )
        assert ran.returncode == 0, ran.stderr[-2000:]
        loaded: dict[str, Any] = json.loads(out.read_text())
        return loaded


# A hundred attacks, each in a separate worker, take minutes, so they are in the long suite.
@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("run", RUNS)
def test_no_attack_changes_anything_outside_of_the_worker(run: str) -> None:
    done = found(run)
    assert len(done["attacks"]) == len(hostile_models.ATTACKS) >= 30
    changed = {name: changes for name, (_, changes) in done["attacks"].items() if changes}
    assert changed.keys() <= KNOWN_OPEN.get(run, set()), changed
    assert done["left over"] == []


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("run", RUNS)
def test_a_scorer_refuses_to_start_only_where_the_sandbox_does_not_hold(run: str) -> None:
    required = found(run)["required"]
    if run in KNOWN_OPEN:
        assert "the sandbox is incomplete here (" in required
        assert "secrets: open" in required
        assert "score.sandbox = preferred" in required
    else:
        assert required == "starts"


def table(runs: dict[str, dict[str, Any]]) -> str:
    """Return the attacks and their results, in Markdown."""
    lines = [f"| attack | {' | '.join(runs)} |", f"|---|{'---|' * len(runs)}"]
    for attack in hostile_models.ATTACKS:
        cells = []
        for done in runs.values():
            said, changes = done["attacks"][attack.__name__]
            text = said.replace("|", "/").replace("\n", " ")[:60].strip()
            cells.append(f"**{', '.join(changes)}**" if changes else text)
        lines.append(f"| {attack.__name__.replace('_', ' ')} | {' | '.join(cells)} |")
    refused = {run: done["required"] for run, done in runs.items() if done["required"] != "starts"}
    lines += [""] + [f"*{run}*: with `score.sandbox = required` the scorer refuses to start." for run in refused]
    return "\n".join(lines) + "\n"


def write(page: Path) -> None:
    """Run everything and write the table into the page."""
    text = page.read_text()
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    page.write_text(head + BEGIN + table({run: found(run) for run in RUNS}) + END + tail)


if __name__ == "__main__":
    write(PAGE)
