"""Load a module of `docs/`, which is no package."""

import importlib.util
from types import ModuleType

from tests.support.servers.shared import ROOT

DOCS = ROOT / "docs"


def docs_module(name: str) -> ModuleType:
    """Return `docs/<name>.py`, newly loaded."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
