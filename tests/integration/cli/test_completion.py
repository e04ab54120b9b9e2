"""Shell completion as in docs/operations.md: commands, options and their choices."""

import os
import subprocess

import pytest
from tests.support.servers.process import COMMAND
from tests.support.servers.shared import ROOT


def gnomon(**environment: str) -> str:
    done = subprocess.run(
        [str(COMMAND)], env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script_and_the_page_says_how(shell: str) -> None:
    assert "_gnomon_completion" in gnomon(_GNOMON_COMPLETE=f"{shell}_source")
    assert f"_GNOMON_COMPLETE={shell}_source gnomon" in (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("gnomon rep", {"report", "replay"}),
        ("gnomon report agr", {"agreement"}),
        ("gnomon score --ro", {"--role"}),
        ("gnomon score --role c", {"challenger", "control"}),
    ],
)
def test_words_are_completed(words: str, completed: set[str]) -> None:
    last = str(len(words.split()) - 1)
    said = gnomon(_GNOMON_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=last)
    assert {line.partition(",")[2] for line in said.splitlines()} == completed
