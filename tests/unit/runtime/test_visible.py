"""External text reaches a terminal, a log and a spreadsheet as text and nothing else."""

import csv
import io
import logging
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from gnomon_consumer.reports.catalogue import REPORTS
from gnomon_consumer.reports.query import Answer
from gnomon_consumer.reports.terminal import as_csv, table
from gnomon_consumer.runtime import logging as logs
from gnomon_consumer.runtime.visible import unformula, visible
from gnomon_consumer.settings import LogSettings

HOSTILE = "a\x1b[2Jb\rc\x9b1md\u202ee\u2066f\u200bg\u2028h\x07i\x00j\x7fk"


def test_escapes_are_shown() -> None:
    assert visible(HOSTILE) == r"a\x1b[2Jb\x0dc\x9b1md\u202ee\u2066f\u200bg\u2028h\x07i\x00j\x7fk"
    assert visible("one\ntwo", keep="\n") == "one\ntwo"
    assert visible("naïve 日本語 👩\u200d🔬 ü") == "naïve 日本語 👩\u200d🔬 ü", "what people write stays as it is"


@given(st.text())
def test_whatever_the_text_nothing_steers_the_terminal(text: str) -> None:
    shown = visible(text)
    assert not set(shown) & set(map(chr, (*range(0x20), *range(0x7F, 0xA0), 0x202E, 0x2028)))
    assert visible(shown) == shown


@pytest.mark.parametrize("format_", ["console", "logfmt"])
def test_a_log_line_is_one_line_without_escapes(format_: str, capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = root.handlers[:]
    try:
        logs.configure(LogSettings.model_validate({"format": format_}))
        root.handlers[0].setStream(sys.stderr)  # type: ignore[attr-defined]
        logs.get_logger("test").warning("said", reason=HOSTILE)
        logging.getLogger("librdkafka").warning("a broker says %s", HOSTILE)
    finally:
        root.handlers[:] = before
    said = capsys.readouterr().err
    assert r"\x1b[2J" in said
    for raw in ("\x1b[2J", "\r", "\x9b", "\u202e", "\u2028", "\x07"):
        assert raw not in said


@pytest.mark.parametrize("cell", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "＝1"])
def test_a_formula_becomes_a_text(cell: str) -> None:
    assert unformula(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", [-1.5, 3, None, True, "a=1", "", "1-2", "'=1"])
def test_numbers_and_other_texts_stay(cell: object) -> None:
    assert unformula(cell) is cell


def answer(text: str) -> Answer:
    report = REPORTS["disagreements"]
    row = {column.source: text for column in report.columns if column.kind == "text"}
    return Answer(report, tuple(row), [row])


def test_a_report_quotes_formulas_and_shows_escapes() -> None:
    told = csv.DictReader(io.StringIO(as_csv(answer("=HYPERLINK(1)"))))
    assert {value for row in told for value in row.values()} == {"'=HYPERLINK(1)"}
    kept = csv.DictReader(io.StringIO(as_csv(answer("=1"), quote_formulas=False)))
    assert {value for row in kept for value in row.values()} == {"=1"}
    console = Console(file=io.StringIO(), width=200)
    console.print(table(answer(HOSTILE)))
    assert "\x1b[2J" not in console.file.getvalue()  # type: ignore[attr-defined]
