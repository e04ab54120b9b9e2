"""`gnomon streams`: the settings of a stream, before its first join and after, from flags and from the file."""

import json
from typing import Any

import numpy as np
import psycopg
import pytest
from tests.support.command import Command
from tests.support.report_database import START, Database, roll_up


def shown(command: Command, url: str) -> dict[str, Any]:
    done = command("streams", "show", "--stream", "s", "--database-url", url, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_before_the_first_join(command: Command, database_url: str) -> None:
    where = ("--stream", "s", "--database-url", database_url)
    missing = command("streams", "show", *where)
    assert (missing.returncode, missing.stderr) == (2, "gnomon: no stream s; there is none yet\n")
    done = command(
        "streams", "set", *where, "--task", "binary", "--positive", "late", "--negative", "on_time",
        "--horizon", "1 hour", "--horizon", "1 day", "--grace", "5 minutes", "--label-kind", "absence_is_negative",
        "--label-choice", "first", "--retention", "30 days", "--time-zone", "America/New_York", "--tolerance", "0.5",
        "--granularity", "day",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = shown(command, database_url)
    assert (found["task"], found["positive_class"], found["negative_class"]) == ("binary", "late", "on_time")
    assert found["horizons"] == ["1 hour", "1 day"]
    assert (found["label_grace"], found["label_kind"], found["label_choice"]) == (
        "0:05:00", "absence_is_negative", "first",
    )  # fmt: skip
    assert (found["retention"], found["time_zone"], found["granularity"]) == (
        "30 days", "America/New_York", "day",
    )  # fmt: skip
    assert (found["value_tolerance"], found["relative_tolerance"]) == (0.5, 1e-5)
    again = command("streams", "set", *where, "--task", "binary")
    assert again.stdout == "s: nothing changed\n"
    back = command("streams", "set", *where, "--positive", "", "--negative", "", "--label-kind", "explicit",
                      "--task", "")  # fmt: skip
    assert back.returncode == 0, back.stderr
    assert shown(command, database_url)["task"] is None


def test_the_file_declares_too_and_label_commands_store_it(command: Command, database_url: str) -> None:
    (command.cwd / "gnomon.toml").write_text(
        f'stream = "s"\ndatabase_url = "{database_url}"\n[stream_settings]\ntask = "multiclass"\n'
        'classes = ["a", "b"]\nhorizons = ["2 hours"]\n'
    )
    (command.cwd / "labels.csv").write_text("request_id,observed_at,label\nr,2020-01-01,a\n")
    loaded = command("labels", "load", "labels.csv")
    assert loaded.returncode == 0, loaded.stderr
    found = shown(command, database_url)
    assert (found["task"], found["classes"], found["horizons"]) == ("multiclass", ["a", "b"], ["2 hours"])


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ((), "nothing to set"),
        (("--task", "guessing"), "GNOMON_STREAM_SETTINGS__TASK"),
        (("--positive", "late"), "positive_class and negative_class belong together"),
        (("--positive", "late", "--negative", "late"), "both 'late'"),
        (("--task", "regression", "--positive", "a", "--negative", "b"), "task is regression"),
        (("--task", "binary", "--class", "a"), "classes are for a multi-class stream"),
        (("--class", "a", "--class", "a"), "name one twice"),
        (("--task", "regression", "--label-kind", "absence_is_negative"), "absence_is_negative is for a binary stream"),
        (("--horizon", "soon"), "GNOMON_STREAM_SETTINGS__HORIZONS (file key stream_settings.horizons): ['soon']: "),
        (("--horizon", "-1 day"), "longer than 0"),
        (("--retention", "-5 days"), "(file key stream_settings.retention): '-5 days': must be longer than 0"),
        (("--retention", "infinity"), "(file key stream_settings.retention): 'infinity': "),
        (("--retention", "2000000000 days"), "(file key stream_settings.retention): '2000000000 days': is too long"),
        (("--horizon", "1 day", "--horizon", "9000000 years"), "['1 day', '9000000 years']: is too long"),
        (("--grace", "-1 day"), "(file key stream_settings.label_grace): '-1 days': must not be negative"),
        (("--time-zone", "Mars/Olympus"), "(file key stream_settings.time_zone): 'Mars/Olympus': "),
        (("--tolerance", "-1"), "greater than or equal to 0"),
        (("--relative-tolerance", "1"), "less than 1"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(
    command: Command, database_url: str, options: tuple[str, ...], complaint: str
) -> None:
    done = command("streams", "set", "--stream", "s", "--database-url", database_url, *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert complaint in done.stderr
    assert done.stderr.count("\n") == 1
    with psycopg.connect(database_url) as connection:
        assert connection.execute("select count(*) from gnomon.streams where task is not null").fetchone() == (0,)


def test_a_new_tolerance_holds_for_the_rollups_too(command: Command, db: Database, database_url: str) -> None:
    rng = np.random.default_rng(3)
    rows: list[dict[str, Any]] = [
        {"event_time": START, "live_value": 100.0, "shadow_value": 100.0 + float(x), "live_label": None,
         "shadow_label": None}
        for x in rng.normal(0, 1, 200)
    ]  # fmt: skip
    db.add_pairs(rows)
    roll_up(db, rows)
    ask = "select agreement from report_v1.agreement('s', exact => %s)"
    for tolerance in ("1", "0.25"):
        done = command("streams", "set", "--stream", "s", "--database-url", database_url, "--tolerance", tolerance)
        assert done.returncode == 0, done.stderr
        share = np.mean([abs(row["shadow_value"] - 100.0) <= float(tolerance) for row in rows])
        for exact in (True, False):
            assert db.value(ask, exact) == pytest.approx(share)


def test_float32_beside_float64_agrees_and_lists_are_ranked_by_their_scores(db: Database) -> None:
    values = np.random.default_rng(1).normal(0, 100, 50)
    rows: list[dict[str, Any]] = [
        {"live_value": float(x), "shadow_value": float(np.float32(x)), "live_label": None, "shadow_label": None}
        for x in values
    ]
    lists = [
        (["a", "b"], [0.1, 0.9], ["b", "a"], [0.9, 0.1], True),  # the same ranking in another order
        (["a", "b"], [0.1, 0.9], ["a", "b"], [0.9, 0.1], False),
        (["a", "b"], [0.5, 0.5], ["b", "a"], [0.5, 0.5], True),  # ties have no order
        (["a", "b"], None, ["b", "a"], None, False),  # without scores the order is the ranking
        (["a", "b"], [0.1, float("nan")], ["a", "b"], [0.1, 0.9], None),
        (["a", "b"], [0.1], ["a", "b"], [0.1, 0.9], None),
    ]
    rows += [
        {"live_items": a, "live_scores": x, "shadow_items": b, "shadow_scores": y, "live_label": None,
         "shadow_label": None}
        for a, x, b, y, _ in lists
    ]  # fmt: skip
    db.add_pairs(rows)
    roll_up(db, [{"event_time": START, **row} for row in rows])
    found = [row[0] for row in db.connection.execute("select agrees from report_v1.pairs order by source_offset")]
    assert found == [True] * len(values) + [agrees for *_, agrees in lists]
    for exact in (True, False):
        row = db.connection.execute(
            "select n, agreement from report_v1.agreement('s', exact => %s)", [exact]
        ).fetchone()
        assert row == (54, pytest.approx(52 / 54))


def test_reports_take_the_hours_and_days_of_the_stream(db: Database, command: Command, database_url: str) -> None:
    """23:30 UTC is 18:30 in New York: the hour of a slice is the stream's, unless the command names a zone."""
    db.add_pairs([{"request_id": "r", "event_time": START.replace(hour=23, minute=30)}])
    where = ("--stream", "s", "--database-url", database_url)
    assert command("streams", "set", *where, "--time-zone", "America/New_York").returncode == 0

    def hours(*more: str) -> set[str]:
        done = command("report", "time-of-day", *where, "--format", "json", *more)
        assert done.returncode == 0, done.stderr
        return {row["value"] for row in json.loads(done.stdout)["rows"] if row["n"]}

    assert hours("--time-zone", "UTC") == {"23"}
    assert len(hours()) == 1
    assert hours() == hours("--time-zone", "America/New_York") != {"23"}
