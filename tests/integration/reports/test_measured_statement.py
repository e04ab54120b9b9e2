"""The composed statement of the estimates: its committed copies are current, and PostgreSQL can explain them."""

import psycopg
import pytest
from tests.support.measured_statements import FOLDER, QUESTIONS, file_of, slots

WRITE = "run `python -m tests.support.measured_statements DATABASE_URL` on a database after `gnomon db upgrade`"
FAMILIES = "select array_agg(distinct family) from gnomon_estimators.metrics"


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_committed_statement_is_the_composed_one(name: str, database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        assert (FOLDER / f"{name}.sql").read_text(encoding="utf-8") == file_of(connection, name), WRITE


def test_every_committed_file_is_a_question() -> None:
    assert {file.stem for file in FOLDER.glob("*.sql")} == set(QUESTIONS)


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_committed_file_explains_its_statement(name: str, database_url: str) -> None:
    text = (FOLDER / f"{name}.sql").read_bytes()
    with psycopg.connect(database_url, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(text)
        plan = ""
        while cursor.nextset():
            if cursor.description:
                plan += "\n".join(row[0] for row in cursor.fetchall())
    assert "CTE crossed" in plan


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("slices", [["all"], ["all", "hour"]])
@pytest.mark.parametrize("drawn", [False, True])
def test_no_slot_is_left_whatever_is_asked(labelled: bool, slices: list[str], drawn: bool, database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        (families,) = connection.execute(FAMILIES).fetchone() or (None,)
        for metrics in (families, *([family] for family in families)):
            for named in (False, True):
                row = connection.execute(
                    "select gnomon_estimators.measured_statement(%s, %s, %s, %s, %s)",
                    [metrics, slices, labelled, drawn, named],
                ).fetchone()
                assert row is not None
                assert slots(row[0]) == []


def test_a_slot_that_nothing_fills_is_found() -> None:
    assert slots("select {live_k}, '{all}' {each rows}") == ["{live_k}", "{each rows}"]
