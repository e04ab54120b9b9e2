"""`gnomon report html`: one self-contained file that shows what is missing, checked in a real browser."""

import json
import re
import subprocess
import unicodedata
from collections.abc import Iterator
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from matplotlib.image import imread
from numpy.typing import NDArray
from psycopg.types.json import Jsonb
from tests.support.command import Command
from tests.support.page_reader import PageReader, said
from tests.support.report_database import START, Database, sample
from tests.support.servers.tools import tool

from gnomon_consumer.reports import Question, ask


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        made = Database(connection)
        made.add_stream(horizons=["1 day"])
        yield made


def fill(db: Database) -> None:
    """Insert a challenger and a control over the same requests, labels for all, and a name that looks like markup."""
    drawn = sample(np.random.default_rng(1), n=300)
    rows = drawn.rows()
    db.add_deployment("new")
    db.add_deployment("control", "control")
    rows[0]["request_id"] = "<script>alert(1)</script>"
    rows[0] |= {"live_value": 0.01, "live_label": "on_time", "shadow_value": 0.99, "shadow_label": "late"}
    for row in rows:
        row["segments"] = Jsonb({"origin": "J&K" if row["live_value"] > 0.5 else "$LGA$"})
    db.add_pairs(rows)
    db.add_pairs(
        [{**row, "shadow_value": row["live_value"], "shadow_label": row["live_label"]} for row in rows], "control"
    )
    db.add_labels([label for label in drawn.labels() if label["request_id"] != "r0"], START.replace(month=6))


def made(command: Command, url: str, *arguments: str) -> str:
    ended = command("report", "html", "-o", "r.html", "--stream", "s", *arguments, env={"GNOMON_DATABASE_URL": url})
    assert ended.returncode == 0, ended.stderr
    return (command.cwd / "r.html").read_text(encoding="utf-8")


def test_the_page_stands_alone_and_says_the_reports_numbers(command: Command, db: Database, database_url: str) -> None:
    fill(db)
    text = made(command, database_url)
    page = PageReader(text)
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "link", "iframe", "object", "img"}
    assert "http" not in text.lower()
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    assert len(page.all("svg")) >= 4

    assert "No verdict yet" in text
    assert "&lt;script&gt;alert(1)" in text
    assert "J&amp;K" in text
    agreement = {row["deployment"]: row for row in ask(db.connection, "agreement", Question("s")).rows}
    card = page.cards[0]
    value, half = said(card["value"])
    assert card["title"] == "Agreement with live"
    assert value == pytest.approx(agreement["new"]["agreement"], abs=half)
    assert card["compared"].startswith("control 100% (")
    for caption in ("Quality against the truth, labels within 1 day", "The ledger", "Decisions of live"):
        assert page.table(caption) if caption != "Decisions of live" else text.count(caption) == 2
    # The control's answers are live's: no measure of it is drawn, and the caption states this.
    assert {line[1] for line in page.table("Quality against the truth")[1:]} == {"new"}
    assert "The control is equal to live in accuracy, precision, recall, F1, AUC, log loss, Brier score" in text


def luminance(colour: str) -> float:
    """Return the relative luminance of #rgb or #rrggbb, by WCAG 2."""
    return float(linear(colour) @ [0.2126, 0.7152, 0.0722])


def linear(colour: str) -> NDArray[np.float64]:
    digits = colour.strip().lstrip("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    values = np.array([int(digits[at : at + 2], 16) for at in (0, 2, 4)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


# The linear RGB that eyes without red, green or blue cones see (Machado, Oliveira and Fernandes 2009, severity 1).
CONES = (
    ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
)


def test_it_can_be_read_by_everybody(command: Command, db: Database, database_url: str) -> None:
    """Headings in order, tables with captions and scopes, pictures with names, colours that all can distinguish."""
    fill(db)
    text = made(command, database_url)
    page = PageReader(text)
    assert page.all("html")[0]["lang"] == "en"
    assert [level for level, _ in page.headings].count(1) == 1
    assert page.headings[0][0] == 1
    levels = [level for level, _ in page.headings]
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))
    assert all(words for _, words in page.headings)
    assert len(page.all("main")) == len(page.all("header")) == 1
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    named = [name for _, a in page.tags for name in a.get("aria-labelledby", "").split()]
    linked = [a[key].removeprefix("#") for _, a in page.tags for key in ("href", "xlink:href") if key in a]
    assert set(named) | set(linked) <= set(ids)
    assert {a.get("aria-labelledby") for a in page.all("section")} <= set(ids)

    assert len(page.all("table")) == len(page.all("caption")) > 5
    assert ("caption", "table") in page.parents
    assert {parent for tag, parent in page.parents if tag == "caption"} == {"table"}
    assert {a.get("scope") for a in page.all("th")} == {"col", "row"}
    for caption, rows in page.tables.items():
        assert caption.endswith("."), caption
        assert len(rows) > 1, caption
    for svg in page.all("svg"):
        assert (svg["role"], svg["aria-labelledby"].endswith("-title")) == ("img", True)
    assert page.parents.count(("figcaption", "figure")) == len(page.all("figure"))
    assert not any(name.startswith("on") or name == "tabindex" for _, a in page.tags for name in a)

    themes = [dict(re.findall(r"--([\w-]+): (#\w+)", block)) for block in re.findall(r":root \{([^}]*)\}", text)]
    assert len(themes) == 3  # light, dark, print
    for theme in themes:
        for ground in ("paper", "card"):
            assert contrast(theme["ink"], theme[ground]) >= 7
            assert contrast(theme["soft"], theme[ground]) >= 4.5
            assert contrast(theme["warn"], theme[ground]) >= 4.5
            for name in ("challenger", "challenger-2", "challenger-3", "challenger-4", "control"):
                assert contrast(theme[name], theme[ground]) >= 3
        series = [theme[name] for name in ("challenger", "challenger-2", "control")]
        for ours, theirs in combinations(map(linear, series), 2):
            for cones in CONES:
                # In this colour space black and white are 1.7 apart; the series also differ by marker and line.
                assert np.linalg.norm(np.array(cones) @ (ours - theirs)) > 0.2


def test_one_challenger_and_a_period(command: Command, db: Database, database_url: str) -> None:
    fill(db)
    db.add_deployment("unasked")
    text = made(command, database_url, "--deployment", "new", "--since", "2013-04-02", "--segment", "origin=J&K")
    assert "from 2013-04-02 00:00 UTC" in text
    assert "only origin = J&amp;K" in text
    assert "other" not in re.sub(r"<style>.*</style>", "", text, flags=re.DOTALL).replace("others", "").replace(
        "another", ""
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [((), "no challenger on this stream yet"), (("--deployment", "nope"), "unknown deployment")],
)
def test_a_bare_stream_says_so(
    command: Command, db: Database, database_url: str, arguments: tuple[str, ...], words: str
) -> None:
    db.add_deployment("control", "control")
    text = made(command, database_url, *arguments)
    assert "No verdict yet" in text
    assert words in text
    assert "nan" not in text.lower().replace("dominant", "")


def test_a_challenger_without_pairs_or_labels(command: Command, db: Database, database_url: str) -> None:
    db.add_deployment("new")
    text = made(command, database_url)
    assert "There is no evidence either." in text
    # The reason for a missing number: agreement and errors, latency, coverage.
    words = re.search(r'<ul class="cards[^"]*">(.*?)</ul>', text, re.DOTALL)
    assert words is not None
    for why, times in (("no pair in", 2), ("no live latency in", 1), ("nothing captured in", 1)):
        assert words[1].count(f"{why} this period") == times
    assert "<p>No pair in this period." in text
    assert "No label is old enough yet" in text
    assert "no control" in text


def test_of_several_classes_each_is_shown(command: Command, db: Database, database_url: str) -> None:
    """By class, the means first; no column of differences if no answer is a number; why a point has no line."""
    drawn, classes = sample(np.random.default_rng(2), n=300), ("bronze", "gold", "silver")
    bare_answer = {"live_value": None, "shadow_value": None}
    db.add_deployment("new")
    db.add_pairs([
        {**row, **bare_answer, "live_label": classes[i % 3], "shadow_label": classes[(i + (i % 5 == 0)) % 3]}
        for i, row in enumerate(drawn.rows())
    ])  # fmt: skip
    db.add_labels([{**label, "value": None, "label": classes[i % 3]} for i, label in enumerate(drawn.labels())],
                  START.replace(month=6))  # fmt: skip
    text = made(command, database_url)
    page = PageReader(text)
    lines = page.table("Each class against the truth, labels within 1 day")
    assert lines[0][:3] == ["class", "measure", "difference"]
    assert [line[0] for line in lines[1:]] == 3 * ["macro avg"] + 3 * ["weighted avg"] + [
        one for one in classes for _ in range(3)
    ]
    found = {
        (row["class"], row["metric"], row["side"]): row for row in ask(db.connection, "classes", Question("s")).rows
    }
    recall = next(line for line in lines if line[:2] == ["gold", "recall"])
    assert recall[4] == "100%" or float(recall[4].rstrip("%")) == pytest.approx(
        100 * found["gold", "recall", "live"]["estimate"], abs=0.06
    )
    assert page.table("Requests on which live and the shadow differ")[0][:3] == ["request", "live", "shadow"]
    assert "A point without a line: too little varies there for an interval" in text


def test_an_unknown_stream_and_an_unwritable_file(command: Command, database_url: str) -> None:
    environment = {"GNOMON_DATABASE_URL": database_url, "GNOMON_STREAM": "nowhere"}
    ended = command("report", "html", "-o", "r.html", env=environment)
    assert ended.returncode == 0
    assert "unknown stream" in (command.cwd / "r.html").read_text()
    refused = command("report", "html", "-o", "missing/r.html", env=environment)
    assert refused.returncode == 2
    assert refused.stderr.splitlines() == ["gnomon: --output missing/r.html: No such file or directory"]


def browse(browser: str, page: Path, *options: str) -> str:
    """Return the output of a headless browser with further options."""
    ended = subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            f"--user-data-dir={page.parent / 'profile'}", "--window-size=1000,900", *options, page.as_uri(),
        ],
        check=True, capture_output=True, timeout=90, text=True,
    )  # fmt: skip
    return ended.stdout


def screenshot(browser: str, page: Path, *options: str) -> Any:
    picture = page.with_suffix(".png")
    browse(browser, page, *options, f"--screenshot={picture}")
    return imread(picture)[:, :, :3]


@pytest.fixture
def browser() -> str:
    return tool("chromium", "chromium-browser", "google-chrome", package="chromium")


def test_the_first_screen_in_a_browser(command: Command, db: Database, database_url: str, browser: str) -> None:
    """Light and dark differ, the cards and both series' colours are there, nothing overflows to the right."""
    fill(db)
    made(command, database_url)
    page = command.cwd / "r.html"
    light = screenshot(browser, page, "--blink-settings=preferredColorScheme=1")
    dark = screenshot(browser, page, "--blink-settings=preferredColorScheme=0")
    assert light.shape[:2] == dark.shape[:2] == (900, 1000)
    assert light.mean() > 0.85
    assert dark.mean() < 0.3

    def has(picture: Any, colour: tuple[int, int, int]) -> bool:
        return bool((np.abs(picture - np.array(colour) / 255).max(axis=2) < 0.03).sum() > 200)

    assert has(light, (0x00, 0x66, 0xA6))
    assert has(light, (0xF5, 0xF6, 0xF8))  # the cards
    assert has(dark, (0x56, 0xB4, 0xE9))
    # The margin right of the column is empty, also on a phone, where tables and pictures scroll by themselves.
    assert (light[:, -8:] > 0.99).all()
    # Chromium's windows are at least 500 wide, so a phone is a narrow frame in one.
    frame = command.cwd / "phone.html"
    frame.write_text(f'<body style="margin:0;background:#fff"><iframe src="{page.name}" width="390" height="900"'
                     ' style="border:0"></iframe>')  # fmt: skip
    phone = screenshot(browser, frame, "--blink-settings=preferredColorScheme=1")
    assert (phone[:, 382:] > 0.99).all()
    assert has(phone, (0xF5, 0xF6, 0xF8))


def bare(text: str) -> str:
    """Return the text without white space, ligatures and the signs next to names, as it is extracted from paper."""
    return re.sub("[●■▲▼✚✖◆]", "", "".join(unicodedata.normalize("NFKC", text).split()))


def test_on_paper_it_is_light_and_no_table_is_cut(
    command: Command, db: Database, database_url: str, browser: str
) -> None:
    """Printed with a preference for dark: still light paper, folded parts open, tables and rows whole."""
    fill(db)
    reader = PageReader(made(command, database_url))
    pdf = command.cwd / "r.pdf"
    browse(browser, command.cwd / "r.html", "--blink-settings=preferredColorScheme=0", "--no-pdf-header-footer",
           f"--print-to-pdf={pdf}")  # fmt: skip
    to_picture, to_text = (tool(name, package="poppler-utils") for name in ("pdftoppm", "pdftotext"))
    subprocess.run([to_picture, "-r", "30", "-png", pdf, pdf.with_suffix("")], check=True)
    sheets = [imread(sheet)[:, :, :3] for sheet in sorted(pdf.parent.glob("r-*.png"))]
    assert len(sheets) > 2
    for sheet in sheets:
        assert sheet.mean() > 0.85
        assert all((edge > 0.99).all() for edge in (sheet[:4], sheet[-4:], sheet[:, :4], sheet[:, -4:]))
    printed = subprocess.run([to_text, "-raw", pdf, "-"], check=True, capture_output=True, text=True).stdout
    pages = [bare(page) for page in printed.split("\f") if page.strip()]
    assert len(pages) == len(sheets)
    cut = {}
    for caption, rows in reader.tables.items():
        lines = [bare("".join(row)) for row in rows]
        assert all(any(line in page for page in pages) for line in lines), caption  # no row is lost or cut
        if not any(all(words in page for words in (bare(caption), *lines)) for page in pages):
            cut[caption] = len(rows)
    # Two tables may be broken between rows, because they may be long: by hour and the largest differences.
    assert all(rows > 20 for rows in cut.values()), cut
    assert len(cut) <= 2 < len(reader.tables) - 2


# In the frame: measure the page and send the result to the outer window, which cannot read a file.
MEASURE = """<script>addEventListener("load", () => {
  const boxes = [...document.querySelectorAll(".scroll, figure")].map(box => ({
    right: box.getBoundingClientRect().right, inside: box.scrollWidth, width: box.clientWidth,
    overflow: getComputedStyle(box).overflowX}));
  parent.postMessage(JSON.stringify({page: document.documentElement.scrollWidth, boxes}), "*");
});</script>"""
RECEIVE = """<body><iframe src="measured.html" width="390" height="900" style="border:0"></iframe><pre id="said"></pre>
<script>addEventListener("message", event => { document.getElementById("said").textContent = event.data })</script>"""


def test_on_a_phone_wide_tables_scroll_in_their_own_box(
    command: Command, db: Database, database_url: str, browser: str
) -> None:
    fill(db)
    (command.cwd / "measured.html").write_text(made(command, database_url).replace("</body>", f"{MEASURE}</body>"))
    frame = command.cwd / "phone.html"
    frame.write_text(RECEIVE)
    document = browse(browser, frame, "--virtual-time-budget=5000", "--dump-dom")
    found = re.search(r'<pre id="said">(.+?)</pre>', document)
    assert found is not None, document
    measured = json.loads(found[1])
    assert measured["page"] == 390  # the page itself does not scroll sideways
    assert all(box["right"] <= 390 for box in measured["boxes"])
    wide = [box for box in measured["boxes"] if box["inside"] > box["width"] + 1]
    assert len(wide) >= 3
    assert {box["overflow"] for box in wide} == {"auto"}
