"""The hook's page says what the code says: every variable, drop reason and keyword."""

import re
from dataclasses import fields
from pathlib import Path

from gnomon_producer import DROP_REASONS, TapConfig
from gnomon_producer.config import _VARIABLES

PAGE = (Path(__file__).parents[2] / "docs" / "hook.md").read_text()


def test_every_variable_is_documented_and_none_is_invented() -> None:
    known = {variable for variable, _ in _VARIABLES.values()} | {"GNOMON_DISABLED"}
    assert set(re.findall(r"GNOMON_[A-Z_]+[A-Z]", PAGE)) == known


def test_every_drop_reason_is_documented() -> None:
    section = PAGE.partition("### Why something was dropped")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(DROP_REASONS)


def test_the_variables_name_settings() -> None:
    assert set(_VARIABLES) <= {field.name for field in fields(TapConfig)}
