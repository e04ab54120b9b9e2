"""The pinned requirements agree with pyproject.toml, and no committed file refers to one machine."""

import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tests.support.servers.shared import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
# The required content of each file: extras and dependency groups of pyproject.toml.
CONTENTS = {
    "demo": (["quickstart"], []),
    "all": (["consumer", "registry", "quickstart", "otel"], ["dev"]),
}


def pins(name: str) -> dict[str, list[tuple[str, Marker | None]]]:
    """Return the pinned versions of a requirements file, each with its environment marker, if it has one."""
    found: dict[str, list[tuple[str, Marker | None]]] = {}
    for line in (ROOT / "requirements" / f"{name}.txt").read_text().splitlines():
        if line and not line.startswith((" ", "#")):
            requirement = Requirement(line.removesuffix("\\"))
            (specifier,) = requirement.specifier
            assert specifier.operator == "==", line
            found.setdefault(canonicalize_name(requirement.name), []).append((specifier.version, requirement.marker))
    return found


def wanted(extras: list[str], groups: list[str]) -> Iterator[Requirement]:
    """Return the direct dependencies that pyproject.toml declares for these extras and groups."""
    project = PROJECT["project"]
    for text in project["dependencies"] + [
        line for extra in extras for line in project["optional-dependencies"][extra]
    ]:
        requirement = Requirement(text)
        if requirement.name == project["name"]:
            yield from wanted(sorted(requirement.extras), [])
        else:
            yield requirement
    for group in groups:
        for entry in PROJECT["dependency-groups"][group]:
            if isinstance(entry, str):
                yield Requirement(entry)
            else:
                yield from wanted([], [entry["include-group"]])


@pytest.mark.parametrize("name", CONTENTS)
def test_every_dependency_is_pinned_within_its_range(name: str) -> None:
    pinned = pins(name)
    stale = [
        f"{requirement} but pinned {pinned.get(canonicalize_name(requirement.name))}"
        for requirement in wanted(*CONTENTS[name])
        if not all(
            requirement.specifier.contains(version)
            for version, _ in pinned.get(canonicalize_name(requirement.name), [("0.dev0", None)])
        )
    ]
    assert not stale, f"run `make lock`: {stale}"


def test_the_demo_runs_with_the_versions_that_are_tested() -> None:
    everything = pins("all")
    assert {
        name: versions
        for name, versions in pins("demo").items()
        if [version for version, _ in versions] != [version for version, _ in everything[name]]
    } == {}


@pytest.mark.parametrize("name", [*CONTENTS, "build", "peers"])
def test_every_pin_has_a_hash(name: str) -> None:
    entries = re.split(r"\n(?=\S)", (ROOT / "requirements" / f"{name}.txt").read_text().strip())
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []


def committed_files() -> list[Path]:
    """Return the files in the repository, or, in an unpacked source tree, those that would be."""
    git = ["git", "-c", "safe.directory=*", "-C", str(ROOT), "ls-files", "-z"]
    try:
        listed = subprocess.run(git, capture_output=True, text=True, check=True).stdout.split("\0")
    except (subprocess.CalledProcessError, FileNotFoundError):
        hidden = {
            ".venv",
            ".cache",
            ".git",
            ".mypy_cache",
            ".ruff_cache",
            ".pytest_cache",
            ".hypothesis",
            "__pycache__",
        }
        return [
            path for path in ROOT.rglob("*") if path.is_file() and not hidden.intersection(path.relative_to(ROOT).parts)
        ]
    return [ROOT / name for name in listed if name and (ROOT / name).is_file()]


def test_nothing_committed_names_a_package_index_or_a_machine() -> None:
    """An index address would break installs elsewhere; a path of one machine is a leftover."""
    index = re.compile(
        r"(--(extra-)?index-url|--find-links|index-url *=|/simple/|https?://[^ ]*/(pypi|artifactory|nexus)/)"
    )
    machine = re.compile(r"(?<![\w.])/(root|home/\w+|Users/\w+|work)/")
    allowed = {Path("Makefile"), Path("tests/packaging/test_requirements.py")}
    hits: list[str] = []
    files = committed_files()
    assert len(files) > 20
    for path in files:
        if path.relative_to(ROOT) in allowed:
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        hits += [
            f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}"
            for number, line in enumerate(text.splitlines(), 1)
            if index.search(line) or machine.search(line)
        ]
    assert hits == []
