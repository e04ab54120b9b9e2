"""The extra `report` is enough to read reports; any other command names in one line what it needs."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from tests.support.servers.shared import ROOT

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
# Import names of the packages that the extra `consumer` has and the extra `report` has not.
ABSENT = (
    "alembic",
    "avro",
    "matplotlib",
    "numpy",
    "onnx",
    "onnxruntime",
    "pgpq",
    "pyarrow",
    "pyruhvro",
    "scipy",
    "sqlalchemy",
    "xxhash",
    "yaml",
)
WITHOUT = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {ABSENT!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
from gnomon_consumer.__main__ import main
main()
"""


def run(tmp_path: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    env = {key: value for key, value in os.environ.items() if not key.startswith("GNOMON_")}
    command = [sys.executable, "-c", WITHOUT, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env, check=False)


def test_the_extra_is_a_part_of_the_consumers() -> None:
    consumer = {Requirement(text).name: Requirement(text) for text in EXTRAS["consumer"]}
    for text in EXTRAS["report"]:
        assert consumer[Requirement(text).name] == Requirement(text)
    left = {name.replace("-", "_") for name in consumer} - {
        Requirement(t).name.replace("-", "_") for t in EXTRAS["report"]
    }
    assert {"yaml" if name == "pyyaml" else name for name in left} == set(ABSENT)


@pytest.mark.parametrize("report", ["agreement", "quality", "latency", "coverage", "ledger", "drift"])
def test_reports_are_read_without_the_rest(report: str, tmp_path: Path, database_url: str) -> None:
    ended = run(tmp_path, "report", report, "--stream", "s", "--database-url", database_url, "--format", "json")
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("report", "html", "--output", "page.html"),
        ("report", "skew", "file.csv"),
        ("join", "--deployment", "d"),
        ("db", "upgrade"),
    ],
    ids=" ".join,
)
def test_any_other_command_says_what_it_needs(arguments: tuple[str, ...], tmp_path: Path, database_url: str) -> None:
    more = () if arguments[0] == "db" else ("--stream", "s")
    ended = run(tmp_path, *arguments, *more, "--database-url", database_url)
    assert ended.returncode == 2, ended.stderr
    assert "pip install 'gnomon[consumer]'" in ended.stderr
    assert "Traceback" not in ended.stderr
