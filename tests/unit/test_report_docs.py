"""The document names every report, and no other; bounds are understood as it says."""

import re
from pathlib import Path
from typing import Any

import pytest

from gnomon_consumer.reports import REPORTS
from gnomon_consumer.reports.bounds import hold, parse
from gnomon_schemas.errors import ConfigurationError

DOCUMENT = Path(__file__).parents[2] / "docs" / "reports.md"


def test_every_report_is_documented() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    firsts = re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE)
    named = {name for first in firsts for name in re.findall(r"`([a-z-]+)(?: FILE)?`", first)}
    assert named == {name.replace("_", "-") for name in REPORTS} | {"skew"}


def test_the_bounds_of_the_document_are_bounds() -> None:
    bounds = re.findall(r'^    "(.*)",$', DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(bounds) == 5
    assert all(parse(bound).report in REPORTS for bound in bounds)


@pytest.mark.parametrize(
    "text",
    ["agreement >= 1", "nothing.n > 1", "agreement.n > many", "agreement.n[x] > 1", "agreement.n > inf", "a.b = 1 2"],
)
def test_what_is_no_bound_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(text)):
        parse(text)


def test_a_bound_holds_in_every_row_or_is_broken() -> None:
    rows: list[dict[str, Any]] = [
        {"deployment": "a", "side": "live", "n": 5, "status": "ok"},
        {"deployment": "b", "side": "shadow", "n": None, "status": "no pair in this period"},
        {"deployment": "c", "side": None, "n": float("nan"), "status": "ok"},
    ]
    columns = ("deployment", "side", "n", "status")
    assert [finding.met for finding in hold(parse("errors.n >= 5"), columns, rows)] == [True, False, False]
    assert [finding.met for finding in hold(parse("errors.n[side=live] < 5"), columns, rows)] == [False]
    (empty,) = hold(parse("errors.n[side=shadow] > 0"), columns, rows)
    assert (empty.value, empty.reason) == (None, "no pair in this period")
    assert hold(parse("errors.n[side=] = 1"), columns, rows)[0].deployment == "c"
    (none,) = hold(parse("errors.n[side=none] > 0"), columns, rows)
    assert (none.met, none.reason) == (False, "no row fits it")
    with pytest.raises(ConfigurationError, match="no column m"):
        hold(parse("errors.m > 0"), columns, rows)
