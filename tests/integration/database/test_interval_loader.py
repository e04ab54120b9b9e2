"""Intervals are read as psycopg reads them, whatever style the connection reports."""

from datetime import timedelta
from typing import Any

import psycopg
import pytest

from gnomon_consumer.database.connections import OurIntervalLoader


@pytest.mark.parametrize(
    "text",
    ["0", "1 day", "7 days", "1 hour", "90 minutes", "-1 hour", "1 day -2 hours", "1 year 2 mons 3 days 04:05:06.789",
     "-3 days 04:05:06", "-1 year 1 mon", "400 days", "1 microsecond", "100 hours"],
)  # fmt: skip
def test_the_same_as_psycopg(database_url: str, text: str) -> None:
    with psycopg.connect(database_url) as own, psycopg.connect(database_url) as theirs:
        own.adapters.register_loader("interval", OurIntervalLoader)
        question = "select %s::interval, array[%s::interval]"
        wanted: Any = theirs.execute(question, [text, text]).fetchone()
        assert own.execute(question, [text, text]).fetchone() == wanted
        assert isinstance(wanted[0], timedelta)
