"""The HTML report as a reader sees it: headings, cards and tables as text; and the attributes for screen readers."""

import re
from html.parser import HTMLParser
from typing import Any

VOID = {"br", "meta", "link", "img", "input", "hr"}
DRAWN = {"path", "use", "rect", "circle", "line", "polygon", "stop"}


class PageReader(HTMLParser):
    """Parsed when it is created; tables by caption, as lists of rows of cell texts, the header first."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.headings: list[tuple[int, str]] = []
        self.cards: list[dict[str, str]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.parents: list[tuple[str, str]] = []
        self._open: list[tuple[str, dict[str, str], list[str]]] = []
        self._rows: list[list[str]] = []
        self.feed(text)
        self.close()
        assert not self._open, [tag for tag, _, _ in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.tags.append((tag, attributes))
        self.parents.append((tag, self._open[-1][0] if self._open else ""))
        if tag == "table":
            self._rows = []
        if tag == "tr":
            self._rows.append([])
        if tag == "li":
            self.cards.append({})
        if tag not in VOID:
            self._open.append((tag, attributes, []))
        else:
            self.handle_data(" ")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        for _, _, texts in self._open:
            texts.append(data)

    def handle_endtag(self, tag: str) -> None:
        opened, attributes, texts = self._open.pop()
        assert opened == tag, (opened, tag)
        text = " ".join("".join(texts).split())
        if tag == "small" and self._open:  # an interval is on a separate line
            self._open[-1][2].append(" ")
        if re.fullmatch("h[1-6]", tag):
            self.headings.append((int(tag[1]), text))
        if tag in {"th", "td"}:
            self._rows[-1].append(text)
        if tag == "caption":
            self.tables[text] = self._rows
        if tag == "span" and self.cards:
            self.cards[-1].setdefault(attributes.get("class", ""), text)

    def table(self, words: str) -> list[list[str]]:
        """Return the one table whose caption has these words."""
        (found,) = (rows for caption, rows in self.tables.items() if words in caption)
        return found

    def all(self, tag: str) -> list[dict[str, Any]]:
        """Return the attributes of every element of a kind."""
        return [attributes for name, attributes in self.tags if name == tag]


def said(text: str) -> tuple[float, float]:
    """Return a number as the page shows it, and half a unit of its last digit, the maximum rounding error."""
    match = re.match(r"[+−-]?[\d,]+(?:\.(\d+))?", text)
    assert match, text
    value = float(match[0].replace("−", "-").replace(",", ""))
    half = 0.5 * 10.0 ** -len(match[1] or "")
    scale = 0.01 if "%" in text or "points" in text else 1.0
    return value * scale, half * scale * 1.0001
