"""The generated pages of the documentation agree with the current commands and settings."""

import re

import pytest
from tests.support.docs_module import DOCS, docs_module


@pytest.mark.parametrize(
    "page", ["cli.md", "configuration.md", "metrics.md", "report-columns.md", "verdict-codes.md", "adr/README.md"]
)
def test_the_page_is_in_step(page: str) -> None:
    written = (DOCS / page).read_text(encoding="utf-8")
    assert written == docs_module("reference").PAGES[page](), "run `make reference`"


def test_every_link_between_the_pages_leads_somewhere() -> None:
    pages = [*DOCS.rglob("*.md"), *DOCS.parent.glob("*.md")]
    broken = [
        f"{page.name}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert not broken


def test_each_adr_has_a_number_of_its_own() -> None:
    numbers = [path.name[:4] for path in (DOCS / "adr").glob("[0-9]*.md")]
    assert len(set(numbers)) == len(numbers) > 10
