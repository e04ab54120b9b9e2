"""`gnomon report html`: one file that needs nothing beside it, honest about what is missing, seen in a real browser."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from matplotlib.image import imread
from psycopg.types.json import Jsonb
from tests.report_rows import START, Database, sample
from tests.servers.process import Gnomon

from gnomon_consumer.reports import Question, ask

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        made = Database(connection)
        made.add_stream(horizons=["1 day"])
        yield made


def fill(db: Database) -> None:
    """A challenger and a control over the same requests, labels for all, a name that wants to be markup."""
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


class Outline(HTMLParser):
    """What a screen reader would lean on."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.headings: list[int] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        for name, value in attrs:
            if name == "id" and value:
                self.ids.append(value)
            if name in {"src", "href", "action", "srcset", "data", "aria-labelledby"} and value:
                self.references.append(value.removeprefix("#"))
            assert not name.startswith("on"), (tag, name)


def made(gnomon: Gnomon, url: str, *arguments: str) -> str:
    ended = gnomon.run("report", "html", "-o", "r.html", "--stream", "s", *arguments, env={"GNOMON_DATABASE_URL": url})
    assert ended.returncode == 0, ended.stderr
    return (gnomon.cwd / "r.html").read_text(encoding="utf-8")


def test_the_page_stands_alone_and_says_the_reports_numbers(gnomon: Gnomon, db: Database, database_url: str) -> None:
    fill(db)
    text = made(gnomon, database_url)
    outline = Outline(text)
    assert "script" not in outline.tags
    assert "link" not in outline.tags
    assert "http" not in text.lower()
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    assert len(outline.ids) == len(set(outline.ids))
    assert set(outline.references) <= set(outline.ids)
    assert outline.headings[0] == 1
    assert all(later <= earlier + 1 for earlier, later in zip(outline.headings, outline.headings[1:], strict=False))
    assert outline.tags.count("table") == outline.tags.count("caption") > 5
    assert outline.tags.count("svg") >= 4

    assert "No verdict yet" in text
    assert "&lt;script&gt;alert(1)" in text
    assert "J&amp;K" in text
    agreement = {row["deployment"]: row for row in ask(db.connection, "agreement", Question("s")).rows}
    assert f'<span class="value">{100 * agreement["new"]["agreement"]:.2f}%</span>' in text
    assert "control 100.00%" in text
    for caption in ("Quality against the labels", "The ledger", "Decisions of live"):
        assert caption in text


def test_one_challenger_and_a_period(gnomon: Gnomon, db: Database, database_url: str) -> None:
    fill(db)
    db.add_deployment("unasked")
    text = made(gnomon, database_url, "--deployment", "new", "--since", "2013-04-02", "--segment", "origin=J&K")
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
    gnomon: Gnomon, db: Database, database_url: str, arguments: tuple[str, ...], words: str
) -> None:
    db.add_deployment("control", "control")
    text = made(gnomon, database_url, *arguments)
    assert "No verdict yet" in text
    assert words in text
    assert "nan" not in text.lower().replace("dominant", "")


def test_a_challenger_without_pairs_or_labels(gnomon: Gnomon, db: Database, database_url: str) -> None:
    db.add_deployment("new")
    text = made(gnomon, database_url)
    assert "no pair in this period" in text
    assert "No label is old enough yet" in text
    assert "no control" in text


def test_an_unknown_stream_and_an_unwritable_file(gnomon: Gnomon, database_url: str) -> None:
    environment = {"GNOMON_DATABASE_URL": database_url, "GNOMON_STREAM": "nowhere"}
    ended = gnomon.run("report", "html", "-o", "r.html", env=environment)
    assert ended.returncode == 0
    assert "unknown stream" in (gnomon.cwd / "r.html").read_text()
    refused = gnomon.run("report", "html", "-o", "missing/r.html", env=environment)
    assert refused.returncode == 2
    assert refused.stderr.splitlines() == ["gnomon: --output missing/r.html: No such file or directory"]


def screenshot(page: Path, *options: str) -> Any:
    assert CHROMIUM is not None
    picture = page.with_suffix(".png")
    subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            f"--user-data-dir={page.parent / 'profile'}", "--window-size=1000,900", *options,
            f"--screenshot={picture}", page.as_uri(),
        ],
        check=True, capture_output=True, timeout=90,
    )  # fmt: skip
    return imread(picture)[:, :, :3]


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (Debian package chromium)")
def test_the_first_screen_in_a_browser(gnomon: Gnomon, db: Database, database_url: str) -> None:
    """Light and dark differ, the cards and both series' colours are there, nothing runs off to the right."""
    fill(db)
    made(gnomon, database_url)
    page = gnomon.cwd / "r.html"
    light = screenshot(page, "--blink-settings=preferredColorScheme=1")
    dark = screenshot(page, "--blink-settings=preferredColorScheme=0")
    assert light.shape[:2] == dark.shape[:2] == (900, 1000)
    assert light.mean() > 0.85
    assert dark.mean() < 0.3

    def has(picture: Any, colour: tuple[int, int, int]) -> bool:
        return bool((np.abs(picture - np.array(colour) / 255).max(axis=2) < 0.03).sum() > 200)

    assert has(light, (0x00, 0x66, 0xA6))
    assert has(light, (0xF5, 0xF6, 0xF8))  # the cards
    assert has(dark, (0x56, 0xB4, 0xE9))
    # The margin right of the column is empty paper.
    assert (light[:, -8:] > 0.99).all()
