"""Each tutorial is run unchanged: its files are written, its commands run in one shell, its output compared."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.servers.shared import ROOT

PAGES = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def script_and_output(page: str) -> tuple[str, list[str]]:
    """Return the shell script of a page, and the lines of its documented output; `…` represents anything."""
    script, expected = ["set -euo pipefail"], []
    for kind, title, text in BLOCK.findall(page):
        if title:
            script.append(f"cat > {shlex.quote(title)} <<'END_OF_FILE'\n{text}END_OF_FILE")
        elif kind == "console":
            script.append(text)
        else:
            assert kind == "text", f"a block of kind {kind} is neither a file, nor a command, nor output"
            expected += text.splitlines()
    return "\n".join(script), expected


def missing(expected: list[str], output: str) -> list[str]:
    """Return the lines that are missing, in this order."""
    place, lost = 0, []
    for line in expected:
        pattern = ".*".join(map(re.escape, line.split("…")))
        found = re.compile(pattern).search(output, place)
        if found is None:
            lost.append(line)
        else:
            place = found.end()
    return lost


def test_there_is_one_for_each_user_and_the_site_has_them() -> None:
    assert [page.stem for page in PAGES] == ["data-scientist", "platform-engineer", "service-owner"]
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert all(f"tutorials/{page.name}" in navigation for page in PAGES)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_tutorial_runs_as_it_stands(page: Path, tmp_path: Path) -> None:
    script, expected = script_and_output(page.read_text(encoding="utf-8"))
    assert script.count("gnomon up") == script.count("gnomon down") == 1
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GNOMON_")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    try:
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=800,
        )
    finally:
        # Also after a failure in the middle.
        down = ["gnomon", "down", "--folder", "tutorial-data"]
        subprocess.run(down, cwd=tmp_path, env=environment, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert missing(expected, done.stdout) == [], done.stdout
