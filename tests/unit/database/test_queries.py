"""Statements are in the `queries.sql` of their package: each is named once, used, and found by its users."""

import re
from pathlib import Path

import pytest

from gnomon_consumer.database.queries import Queries, queries_of

ROOT = Path(__file__).parents[3] / "consumer"
FILES = sorted(ROOT.rglob("queries.sql"))


def asked_for(package: Path) -> set[str]:
    """Return the names of the statements that the modules of a package use."""
    name = ".".join(package.relative_to(ROOT).parts)
    here = "".join(module.read_text(encoding="utf-8") for module in package.glob("*.py"))
    found = set(re.findall(r'SQL(?:\[|\.template\()"(\w+)"', here))
    for module in ROOT.rglob("*.py"):
        found |= set(re.findall(rf'queries_of\("{re.escape(name)}"\)\["(\w+)"\]', module.read_text(encoding="utf-8")))
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)
def test_each_statement_is_used_and_each_use_is_a_statement(file: Path) -> None:
    package = file.parent
    assert set(queries_of(".".join(package.relative_to(ROOT).parts))) == asked_for(package)


def test_comments_are_not_sent() -> None:
    queries = Queries(
        "-- the file\n\n-- name: one\n-- why\nselect 1\n  -- inside\n  from x\n\n-- name: two\nselect 2\n"
    )
    assert dict(queries) == {"one": b"select 1\n  from x", "two": b"select 2"}


def test_a_name_that_stands_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        Queries("-- name: one\nselect 1\n-- name: one\nselect 2\n")
