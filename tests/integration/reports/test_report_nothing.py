"""Every report of the catalogue with little or no data: a row that reports it, and no number made of nothing."""

import math
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import psycopg
import pytest
from tests.support.report_database import START, Database, sample
from tests.support.servers import postgres

from gnomon_consumer.reports import REPORTS, Question, ask

DAY = timedelta(days=1)
LATER = START + 40 * DAY
# Estimates, and columns that must be null if there is no estimate.
INTERVALS = {
    "estimate": ("standard_error", "low", "high"),
    "agreement": ("standard_error", "low", "high", "agreement_low", "agreement_high"),
    "rate": ("standard_error", "low", "high"),
    "kappa": ("kappa_se", "kappa_low", "kappa_high"),
    "psi": ("psi_low", "js"),
    "observed": ("low", "high"),
}


@pytest.fixture(scope="module")
def connection(postgres_server: str, migrated_template: str) -> Iterator[psycopg.Connection[Any]]:
    """Return a database with a stream for each situation, named after it; `nowhere` does not exist."""
    with (
        postgres.database(postgres_server, migrated_template) as url,
        psycopg.connect(url, autocommit=True) as connection,
    ):
        streams = {
            name: Database(connection, name) for name in ("empty", "unlabelled", "one class", "all nan", "young")
        }
        for stream in streams.values():
            stream.add_stream()
            stream.add_deployment()
        rows = sample(np.random.default_rng(41), 40).rows()
        labels = sample(np.random.default_rng(41), 40).labels()
        streams["unlabelled"].add_pairs(rows)
        streams["unlabelled"].add_labels([], LATER)
        one = {"live_value": 0.2, "live_label": "on_time", "shadow_value": 0.2, "shadow_label": "on_time"}
        streams["one class"].add_pairs([{**row, **one} for row in rows])
        streams["one class"].add_labels([{**label, "value": 0.0, "label": "on_time"} for label in labels], LATER)
        nan = {"live_value": math.nan, "live_label": None, "shadow_value": math.nan, "shadow_label": None}
        streams["all nan"].add_pairs([{**row, **nan} for row in rows])
        streams["all nan"].add_labels([{**label, "value": math.nan, "label": None} for label in labels], LATER)
        streams["young"].add_pairs(rows)
        streams["young"].add_labels(labels, START - DAY)
        yield connection


def numbers(row: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in row.items() if isinstance(value, float)}


@pytest.mark.parametrize("report", REPORTS)
@pytest.mark.parametrize(
    ("stream", "narrowed"),
    [
        ("nowhere", {}),
        ("empty", {"deployment": "gone"}),
        ("empty", {}),
        ("one class", {"since": START - 2 * DAY, "until": START - DAY}),
    ],
    ids=["unknown stream", "unknown deployment", "no pair", "empty period"],
)
def test_nothing_at_all(
    connection: psycopg.Connection[Any], report: str, stream: str, narrowed: dict[str, Any]
) -> None:
    if "since" in narrowed and "since" not in REPORTS[report].arguments:
        pytest.skip("this report is not narrowed by a period")
    rows = ask(connection, report, Question(stream, **narrowed)).rows
    assert rows
    for row in rows:
        assert row["status"] not in (None, "", "ok"), row
        assert not numbers(row), row
        if stream == "nowhere":
            assert "unknown stream" in row["status"]
        if "deployment" in narrowed:
            assert "unknown deployment" in row["status"]


@pytest.mark.parametrize("report", REPORTS)
@pytest.mark.parametrize("stream", ["unlabelled", "one class", "all nan", "young"])
def test_little(connection: psycopg.Connection[Any], report: str, stream: str) -> None:
    rows = ask(connection, report, Question(stream)).rows
    assert rows
    for row in rows:
        assert row["status"], row
        given = numbers(row)
        # A value that never was a number is not shown as one.
        assert all(math.isfinite(value) for value in given.values()), row
        for name, interval in INTERVALS.items():
            if name in row and row[name] is None:
                assert not {*interval} & given.keys(), row
        if row.get("n") == 0:
            assert not {"estimate", "agreement", "rate", "low", "high", "psi"} & given.keys(), row


@pytest.mark.parametrize(
    ("stream", "report", "said"),
    [
        ("unlabelled", "quality", "no label has arrived for any of these pairs"),
        ("unlabelled", "labels", "no label has arrived for any of these pairs"),
        ("unlabelled", "calibration", "no labelled probability for this horizon"),
        ("young", "quality", "not mature yet: labels are complete until 2013-03-31 00:00 UTC, and the first request"),
        ("young", "labels", "not mature yet: labels are complete until 2013-03-31 00:00 UTC, and the first request"),
        ("one class", "agreement", "one class only, so no kappa"),
        ("one class", "quality", "one class only"),
        ("one class", "quality", "undefined: its denominator is 0"),
        ("all nan", "agreement", "no comparable pair in this period"),
        ("all nan", "disagreements", "no two answers differ in this period"),
    ],
)
def test_the_reason_is_said(connection: psycopg.Connection[Any], stream: str, report: str, said: str) -> None:
    statuses = {row["status"] for row in ask(connection, report, Question(stream)).rows}
    assert any(status.startswith(said) for status in statuses), statuses
