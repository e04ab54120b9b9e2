"""The document names every report, and no other; its bounds can be parsed."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gnomon_consumer.reports import REPORTS
from gnomon_consumer.reports.bounds import BROKEN, MET, UNKNOWN, hold, parse
from gnomon_consumer.reports.catalogue import SKEW
from gnomon_schemas.errors import ConfigurationError

DOCS = Path(__file__).parents[3] / "docs"
DOCUMENT = DOCS / "reports.md"


def test_every_report_is_documented() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    firsts = re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE)
    named = {name for first in firsts for name in re.findall(r"`([a-z-]+)(?: FILE)?`", first)}
    assert named == {name.replace("_", "-") for name in REPORTS} | {"skew"}


def test_every_report_has_an_example_with_its_columns() -> None:
    """Run `make report-examples` after a report, its summary, its note or a column has changed its name."""
    text = (DOCS / "report-examples.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## `([a-z-]+)`\n\n```console\n(.*?)```$", text, re.MULTILINE | re.DOTALL))
    assert set(sections) == {name.replace("_", "-") for name in REPORTS} | {"skew", "check"}
    for report in (*REPORTS.values(), SKEW):
        example = sections[report.name.replace("_", "-")]
        assert example.splitlines()[1] == report.summary
        tables = re.findall(r"^(.*)\n ─+\n((?: .*\n)+)", example, re.MULTILINE)
        assert tables or report.name == "error_kinds", report.name  # none failed
        assert max(map(len, re.findall(r"^ .*", example, re.MULTILINE)), default=0) <= 80
        if tables:
            assert report.note in " ".join(example.split("\n"))
        titles = sorted((column.title for column in report.columns), key=len, reverse=True)
        for head, body in tables:
            lines = [line.strip().split("  ")[0] for line in body.splitlines()] if report.upright else []
            assert set(lines) <= set(titles), report.name
            for title in [] if report.upright else titles:
                head = re.sub(rf"(?<!\S){re.escape(title)}(?!\S)" if title else " ", " ", head, count=1)
            assert report.upright or not head.strip(), (report.name, head)


def test_the_bounds_of_the_document_are_bounds() -> None:
    bounds = re.findall(r'^    "(.*)",$', DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(bounds) == 5
    assert all(parse(bound).report in REPORTS for bound in bounds)


@pytest.mark.parametrize(
    "text",
    [
        "agreement >= 1",
        "agreement.n > 1 if n",
        "agreement.n > 1 if n > x",
        "nothing.n > 1",
        "agreement.n > many",
        "agreement.n[x] > 1",
        "agreement.n > inf",
        "a.b = 1 2",
    ],
)
def test_what_is_no_bound_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(text)):
        parse(text)


def test_a_bound_is_met_in_every_row_broken_or_unknown() -> None:
    rows: list[dict[str, Any]] = [
        {"deployment": "a", "side": "live", "n": 5, "horizon": timedelta(days=7), "closes": True, "status": "ok"},
        {"deployment": "b", "side": "shadow", "n": None, "horizon": None, "closes": None, "status": "no pair"},
        {"deployment": "c", "side": None, "n": float("nan"), "horizon": None, "closes": False, "status": "ok"},
    ]

    def found(text: str) -> list[tuple[str, str]]:
        return [(finding.state, finding.reason) for finding in hold(parse(text), rows[0], rows)]

    assert found("errors.n >= 5") == [(MET, ""), (UNKNOWN, "no pair"), (UNKNOWN, "no number")]
    assert found("errors.n[side=live] < 5") == [(BROKEN, "")]
    assert found("errors.n[side=shadow] > 0") == [(UNKNOWN, "no pair")]
    assert hold(parse("errors.n[side=] = 1"), rows[0], rows)[0].deployment == "c"
    assert found("errors.n[side=none] > 0") == [(UNKNOWN, "no pair")]
    assert found("errors.n[horizon=7 d] = 5") == [(MET, "")]
    assert found("errors.closes = 1") == [(MET, ""), (UNKNOWN, "no pair"), (BROKEN, "")]
    assert found("errors.n[side=live] < 5 if n > 5") == [(UNKNOWN, "its n is 5")]
    assert found("errors.n[side=live] < 5 if n > 4") == [(BROKEN, "")]
    assert found("errors.closes[side=] = 0 if n > 4") == [(UNKNOWN, "its n is –")]
    for text in ("errors.m > 0", "errors.n[m=1] > 0", "errors.n > 0 if m > 0"):
        with pytest.raises(ConfigurationError, match="no column m"):
            hold(parse(text), rows[0], rows)
