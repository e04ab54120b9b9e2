"""Every setting for PostgreSQL's planner in the SQL cites its note in docs/sql-planner-notes.md, and no other."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "migrations" / "gnomon_migrations" / "sql"
PAGE = ROOT / "docs" / "sql-planner-notes.md"
NOTES = {
    r"\bset jit\b": 2,
    r"\boffset '?0\b": 3,
    r"\bset enable_(?:sort|incremental_sort)\b": 4,
    r"\bset work_mem\b": 5,
    r"\bset enable_nestloop\b": 6,
    r"\bnot materialized\b": 7,
    r"\{stored\} \(": 7,
    r"\bunnest\((?:array\(select|$)": 8,
    r"\brows \d+\b": 9,
    r"\bset enable_seqscan\b": 10,
    r"\bset plan_cache_mode\b": 11,
}
"""A clause and the number of its note. A clause `set enable_…` that is not here is refused below."""
PLANNING = r"\bset ((?:enable|cpu|seq|random|parallel|join|from|geqo|jit|max_parallel|min_parallel|work_mem|plan)\w*)"
CITED = re.compile(r"planner notes? ((?:\d+(?: \([^)]*\))?(?:, )?)+)", re.IGNORECASE)
_PLANNED = 1
"""A function with settings plans its own statement: any clause `set` may cite it."""


def cited(comment: str) -> set[int]:
    """Return the numbers of the notes that a line's comment cites."""
    return {int(number) for found in CITED.findall(comment) for number in re.findall(r"\d+", found)}


def groups(text: str) -> Iterator[tuple[int, str, set[int]]]:
    """Yield first line, clauses and cited notes of adjoining lines with a clause, and of a comment above them."""
    number, clauses, notes = 0, "", set[int]()
    above = set[int]()
    for at, line in enumerate([*text.splitlines(), ""], 1):
        code, _, comment = line.partition("--")
        if any(re.search(clause, code.rstrip()) for clause in NOTES) or re.search(PLANNING, code):
            number = number or at
            clauses += code.rstrip() + "\n"
            notes |= cited(comment) | above
            above = set()
            continue
        if clauses:
            yield number, clauses, notes
        number, clauses, notes = 0, "", set()
        if above:
            yield at - 1, "", above
        above = cited(comment) if not code.strip() else set()


def faults(text: str) -> list[str]:
    """Return what is wrong with the citations of a file, by line."""
    found = []
    for number, clauses, notes in groups(text):
        needed = {note for clause, note in NOTES.items() if re.search(clause, clauses, re.MULTILINE)}
        unknown = [
            name for name in re.findall(PLANNING, clauses) if not any(re.search(c, f"set {name}") for c in NOTES)
        ]
        found += [f"line {number}: {name} has no note" for name in unknown]
        if re.search(r"\boffset 0\b", clauses):
            found.append(f"line {number}: offset 0 is a number, see note 3")
        found += [f"line {number}: note {note} is not cited" for note in sorted(needed - notes)]
        allowed = needed | ({_PLANNED} if re.search(r"\bset \w+ =", clauses) else set())
        found += [f"line {number}: note {note} is cited without its clause" for note in sorted(notes - allowed)]
    return found


@pytest.mark.parametrize("file", sorted(FOLDER.rglob("*.sql")), ids=lambda file: f"{file.parent.name}/{file.name}")
def test_each_clause_cites_its_note(file: Path) -> None:
    # The header of 900_settings.sql explains a loop that sets `jit` on many functions.
    text = file.read_text(encoding="utf-8").replace("-- Planner notes 1 and 2.", "--")
    assert faults(text.replace("'alter function %s set jit = off'", "")) == []


def test_the_page_explains_each_note_once() -> None:
    numbers = [int(n) for n in re.findall(r"^\| (\d+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)]
    assert numbers == sorted({*NOTES.values(), _PLANNED})


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("    language sql set work_mem = '1MB' as", "note 5 is not cited"),
        ("    language sql set enable_nestloop = off as -- planner note 5", "note 6 is not cited"),
        ("    language sql set enable_nestloop = off as -- planner notes 5, 6", "note 5 is cited without its clause"),
        ("    language sql set enable_hashagg = off as -- planner note 4", "enable_hashagg has no note"),
        ("    language sql set random_page_cost = 1 as", "random_page_cost has no note"),
        ("    from p offset '0'", "note 3 is not cited"),
        ("    from p offset 0 -- planner note 3", "offset 0 is a number"),
        ("    x as not materialized (", "note 7 is not cited"),
        ("    -- planner note 4\n    select 1", "note 4 is cited without its clause"),
    ],
)
def test_a_wrong_citation_is_found(text: str, fault: str) -> None:
    assert any(fault in found for found in faults(text))


def test_a_comment_above_or_on_the_next_line_counts() -> None:
    above = (
        "    -- planner notes 4 (here for a reason), 5\n    language sql set work_mem = '1MB' set enable_sort = off as"
    )
    after = "    language sql set work_mem = '1MB' -- planner note 5\n    set enable_sort = off as -- planner note 4"
    assert faults(above) == faults(after) == []
