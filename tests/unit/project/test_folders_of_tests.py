"""The tests of a folder of the product are in the folder of its name, whichever kind of test they are."""

from pathlib import Path

import pytest
from tests.support.servers.shared import ROOT

KINDS = ("unit", "property", "integration", "faults")
CONSUMER = "consumer/gnomon_consumer"
# A folder of tests, and what of the product its modules test.
FOLDERS = {
    "cli": (f"{CONSUMER}/cli", f"{CONSUMER}/settings", f"{CONSUMER}/doctor"),
    "database": (f"{CONSUMER}/database", "migrations"),
    "hook": ("producer", "examples"),
    "joiner": (f"{CONSUMER}/joiner",),
    "kafka": (f"{CONSUMER}/kafka",),
    "labels": (f"{CONSUMER}/labels",),
    "project": ("docs", "benchmarks", "tests"),
    "quickstart": (f"{CONSUMER}/quickstart",),
    "reports": (f"{CONSUMER}/reports", f"{CONSUMER}/reference", "deploy/grafana"),
    "runtime": (f"{CONSUMER}/runtime", "deploy/prometheus"),
    "schemas": ("schemas",),
    "scorer": (f"{CONSUMER}/scorer",),
    "verdict": (f"{CONSUMER}/verdict", "deploy/rollouts"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_module_is_in_a_known_folder(kind: str) -> None:
    modules = [path.relative_to(ROOT / "tests" / kind) for path in (ROOT / "tests" / kind).rglob("test_*.py")]
    assert modules
    known = {Path(folder) for folder in FOLDERS}
    assert [str(module) for module in modules if module.parent not in known] == []


def test_every_folder_of_the_product_has_a_folder_of_tests() -> None:
    tested = {path for paths in FOLDERS.values() for path in paths}
    assert [path for path in tested if not (ROOT / path).is_dir()] == []
    folders = {str(path.parent.relative_to(ROOT)) for path in (ROOT / CONSUMER).glob("*/__init__.py")}
    assert folders - tested == set()
    for folder in FOLDERS:
        assert any((ROOT / "tests" / kind / folder).is_dir() for kind in KINDS), folder
