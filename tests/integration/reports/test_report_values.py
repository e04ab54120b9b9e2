"""Streams whose answers are numbers: the difference comes first; many deployments fit a terminal of 80 columns."""

import io
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg.types.json import Jsonb
from rich.console import Console
from tests.support.command import Command
from tests.support.page_reader import PageReader
from tests.support.report_database import START, Database, roll_up

from gnomon_consumer.reports import Question, ask
from gnomon_consumer.reports.tail import Look
from gnomon_consumer.reports.tail import table as live_table
from gnomon_consumer.reports.terminal import table

DAYS, PER_DAY = 6, 40
NAMES = ("forest", "candidate-model-2026-11-a", "candidate-model-2026-11-b", "xgboost-depth-12", "mlp", "ridge")


def fill(db: Database, challengers: int = 2) -> dict[str, Any]:
    """Insert challengers' numbers that are 0.7 too low, and a control's in single precision; live, shadow and truth."""
    rng = np.random.default_rng(11)
    n = DAYS * PER_DAY
    live = rng.gamma(4, 5, n)
    shadows = {name: live - 0.7 + rng.normal(0, 0.5, n) for name in NAMES[:challengers]}
    shadows["control"] = live.astype(np.float32).astype(float)
    for name, shadow in shadows.items():
        db.add_deployment(name, "control" if name == "control" else "challenger")
        rows = [{
            "request_id": "trip\x1b[31m" if at == 3 else f"trip{at}", "source_offset": at, "cluster": f"c{at}",
            "event_time": START + timedelta(days=at // PER_DAY, minutes=at), "segments": Jsonb({"zone": "NS"[at % 2]}),
            "live_value": float(live[at]), "shadow_value": float(shadow[at]),
            "live_latency_us": 1000, "shadow_latency_us": 1200,
        } for at in range(n)]  # fmt: skip
        db.add_pairs(rows, name)
        roll_up(db, rows, deployment=name)
    return {"live": live, **shadows}


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    """A stream without a deployment."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        made = Database(connection)
        made.add_stream(horizons=["1 day"])
        yield made


def printed(shown: Any, width: int = 80) -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(shown)
    return console.export_text()


def test_the_terminal_begins_with_the_difference_and_its_interval(db: Database) -> None:
    made = fill(db)
    answer = ask(db.connection, "agreement", Question("s"))
    mean = float(np.mean(made["forest"] - made["live"]))
    row = next(row for row in answer.rows if row["deployment"] == "forest")
    assert row["compares"] == "values"
    assert row["mean_difference"] == pytest.approx(mean)
    assert row["mean_difference_low"] < mean < row["mean_difference_high"]
    text = printed(table(answer))
    assert text.startswith("How far the shadow's values are from the live values")
    header = next(line for line in text.splitlines() if "shadow - live" in line)
    assert header.index("shadow - live") < header.index("mean distance") < header.index("equal")
    (line,) = (line for line in text.splitlines() if line.strip().startswith("forest"))
    assert line.split()[3] == f"{mean:.3f}"
    for name, extra in (("segments", {}), ("time_of_day", {"slice": "weekday"})):
        text = printed(table(ask(db.connection, name, Question("s", extra=extra))))
        assert "shadow - live" in text
        assert "agreement" not in text


def test_the_live_view_shows_the_difference(db: Database) -> None:
    made = fill(db, 1)
    with db.connection.cursor() as cursor:
        rows = cursor.execute(
            "select deployment, mean_difference, mean_difference_se, compares from report_v1.tail('s')"
        )
        found = {row[0]: row[1:] for row in rows}
    gap = made["forest"] - made["live"]
    assert found["forest"][0] == pytest.approx(gap.mean())
    assert found["forest"][1] == pytest.approx(gap.std() / np.sqrt(len(gap)))
    assert found["forest"][2] == "values"
    rows_shown = [{
        "stream": "s", "deployment": "forest", "joined": 9, "lag_s": 0.1, "sampling_fraction": 1.0, "agreement": 0.0,
        "shadow_error_rate": 0.0, "event_time": START, "status": "ok", "mean_difference": -0.69321,
        "mean_difference_se": 0.0312, "compares": "values",
    }]  # fmt: skip
    text = printed(live_table(None, Look(0.0, rows_shown)))
    assert "shadow - live" in text
    assert "-0.693 ±0.061" in text


def test_the_page_begins_with_the_difference(command: Command, db: Database, database_url: str) -> None:
    fill(db)
    ended = command("report", "html", "-o", "r.html", "--stream", "s", env={"GNOMON_DATABASE_URL": database_url})
    assert ended.returncode == 0, ended.stderr
    text = (command.cwd / "r.html").read_text(encoding="utf-8")
    page = PageReader(text)
    cards = [card for card in page.cards if card["title"] == "Shadow minus live, on average"]
    assert len(cards) == 2
    assert all(card["value"].startswith("−0.6") or card["value"].startswith("−0.7") for card in cards)
    assert not any(card["title"] == "Agreement with live" for card in page.cards)
    assert "Shadow minus live, on average, with its 95% interval, by zone." in text
    assert "Shadow minus live, by day." in text
    # Two challengers have different colours and shapes, in the pictures and next to their names.
    assert text.count('class="key c1 m1"') > 2
    assert text.count('class="key c2 m2"') > 2
    for colour in ("--challenger", "--challenger-2", "--control"):
        assert f"var({colour})" in text.partition("<svg")[2]
    assert "\x1b" not in text


def test_many_deployments_keep_their_names_at_80_columns(db: Database) -> None:
    fill(db, len(NAMES))
    for name in ("errors", "ledger", "resources", "agreement", "quality", "coverage", "labels"):
        text = printed(table(ask(db.connection, name, Question("s"))))
        if "forest" in text:
            assert all(each in text for each in (*NAMES, "control")), (name, text)
        assert not any("…" in line and not any(c.isdigit() for c in line) for line in text.splitlines()), (name, text)
        assert max(map(len, text.splitlines())) <= 80, name


def test_a_control_within_the_tolerance_is_no_disagreement(db: Database) -> None:
    fill(db)
    rows = ask(db.connection, "disagreements", Question("s", extra={"top": "5"})).rows
    assert {row["deployment"] for row in rows if row["place"]} == {"forest", NAMES[1]}
    sizes = [abs(row["difference"]) for row in rows if row["deployment"] == "forest"]
    assert sizes == sorted(sizes, reverse=True)
    assert all(row["control_value"] == pytest.approx(row["live_value"]) for row in rows if row["place"])


def test_a_disagreement_shows_what_it_is_about(db: Database) -> None:
    """A decision without a value, a truth that is a number, a ranked list."""
    db.add_deployment("new")
    db.add_pairs([
        {"request_id": "a", "live_label": "cat", "shadow_label": "dog"},
        {"request_id": "b", "live_value": 12.25, "shadow_value": 14.5},
        {"request_id": "c", "live_items": ["x", "y"], "live_scores": [0.1, 0.9], "shadow_items": ["x", "y"],
         "shadow_scores": [0.8, 0.2]},
    ])  # fmt: skip
    db.add_labels([{"request_id": "b", "value": 13.125, "observed_at": START}], START + timedelta(days=9))
    lines = [" ".join(line.split()) for line in printed(table(ask(db.connection, "disagreements", Question("s"))), 100)
             .splitlines()]  # fmt: skip
    assert any("cat dog" in line for line in lines), lines
    assert any(line.endswith("2.2 12.2 14.5 13.1") for line in lines), lines
    assert any("y > x x > y" in line for line in lines), lines
