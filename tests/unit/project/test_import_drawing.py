"""docs/images/imports.svg agrees with the source, and folders form no circle."""

import importlib.util
from pathlib import Path
from types import ModuleType

DOCS = Path(__file__).parents[3] / "docs"


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("import_drawing", DOCS / "import_drawing.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_drawing_is_of_todays_imports() -> None:
    drawn = (DOCS / "images" / "imports.svg").read_text(encoding="utf-8")
    assert generator().drawing() == drawn, "run `make reference`"


def test_folders_form_no_circle() -> None:
    edges = generator().edges()
    assert [(one, other) for one in edges for other in edges[one] if one in edges.get(other, {})] == []
