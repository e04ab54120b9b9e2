"""The hook's page agrees with the code: every variable, drop reason and keyword."""

import inspect
import re
from dataclasses import fields
from pathlib import Path

from gnomon_producer import DROP_REASONS, Tap, TapConfig
from gnomon_producer.config import _VARIABLES
from gnomon_producer.shot import Shot
from gnomon_schemas.drawing import _TYPES
from gnomon_schemas.features import LOGICAL

PAGE = (Path(__file__).parents[3] / "docs" / "hook.md").read_text()


def test_every_variable_is_documented_and_none_is_invented() -> None:
    known = {variable for variable, _ in _VARIABLES.values()} | {"GNOMON_DISABLED"}
    assert set(re.findall(r"GNOMON_[A-Z_]+[A-Z]", PAGE)) == known


def test_every_drop_reason_is_documented() -> None:
    section = PAGE.partition("### Why something was dropped")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(DROP_REASONS)


def test_the_variables_name_settings() -> None:
    assert set(_VARIABLES) <= {field.name for field in fields(TapConfig)}


def test_every_logical_type_and_drawn_type_is_documented() -> None:
    page = (Path(__file__).parents[3] / "docs" / "inputs.md").read_text()
    types = page.partition("## Types of features")[2].partition("\n### ")[0]
    missing = [name for name in LOGICAL if f"`{name}`" not in types]
    missing += [kind.__name__ for kind in _TYPES if isinstance(kind, type) and f"`{kind.__name__}`" not in types]
    assert [name for name in missing if name not in ("NoneType", "int", "float", "str")] == []


def test_every_parameter_is_documented() -> None:
    section = PAGE.partition("## Every parameter")[2].partition("\n## ")[0]
    documented = {
        (method, name)
        for name, methods in re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section, re.MULTILINE)
        for method in re.findall(r"`(\w+)`", methods)
    }
    taken = {
        (function.__name__, name)
        for function in (Tap.capture, Tap.record, Tap.observe, Tap.label, Shot.predicted)
        for name in inspect.signature(function).parameters
        if name != "self"
    }
    assert documented == taken
