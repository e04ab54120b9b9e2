"""Every test that docs/guarantees.md names exists."""

import re

from tests.support.servers.shared import ROOT


def test_every_promise_names_tests_that_exist() -> None:
    promises = (ROOT / "docs/guarantees.md").read_text().partition("\n## ")[0]
    rows = [line for line in promises.splitlines() if line.startswith("| ")][1:]
    defined = {
        name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
    }
    assert len(rows) > 15
    for row in rows:
        named = re.findall(r"`(test_\w+)`", row)
        assert named, row
        assert set(named) <= defined, set(named) - defined
