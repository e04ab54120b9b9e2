"""docs/images/imports.svg agrees with the source, and folders form no circle."""

from tests.support.docs_module import DOCS, docs_module


def test_the_drawing_is_of_todays_imports() -> None:
    drawn = (DOCS / "images" / "imports.svg").read_text(encoding="utf-8")
    assert docs_module("import_drawing").drawing() == drawn, "run `make reference`"


def test_folders_form_no_circle() -> None:
    edges = docs_module("import_drawing").edges()
    assert [(one, other) for one in edges for other in edges[one] if one in edges.get(other, {})] == []
