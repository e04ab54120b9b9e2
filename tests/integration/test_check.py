"""`gnomon check`: bounds on predictions and reports, and the alerts that watch them."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import yaml
from tests.report_rows import START, Database
from tests.servers.process import Gnomon
from tests.servers.shared import ROOT

from gnomon_consumer.reports.checks import NUMBERS, Bound, hold, read_bounds

PROMETHEUS = ROOT / "deploy" / "prometheus"
BOUNDS = """
window_seconds = 100
[[check]]
name = "traffic"
number = "captures_per_second"
low = 0.06
[[check]]
name = "agreement"
number = "agreement"
low = 0.7
[[check]]
name = "range"
number = "shadow_value_max"
high = 1
[[check]]
name = "late"
number = "shadow_class_share"
part = "late"
high = 0.5
[[check]]
name = "many"
number = "agreement"
low = 0
at_least = 100
[[check]]
name = "ghost"
number = "agreement"
deployment = "ghost"
low = 0
"""


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        made = Database(connection)
        made.add_stream()
        made.add_deployment()
        rows = [
            ("late", "late", 0.6, 0.9, 1.0),
            ("late", "ok", 0.6, 1.5, 0.2),
            (None, None, 0.5, math.nan, 1.0),
        ]
        columns = ("live_label", "shadow_label", "live_value", "shadow_value", "inclusion_probability")
        made.add_pairs([{**dict(zip(columns, row, strict=True)), "event_time": START} for row in rows])
        yield made


def test_bounds_hold_break_or_lack_evidence(gnomon: Gnomon, db: Database, database_url: str) -> None:
    (gnomon.cwd / "b.toml").write_text(BOUNDS)
    environment = {"GNOMON_DATABASE_URL": database_url, "GNOMON_STREAM": "s"}
    arguments = ("check", "b.toml", "--until", "2013-04-01T00:01:00", "--textfile", "out.prom")
    ended = gnomon.run(*arguments, "--json", env=environment)
    assert ended.returncode == 1, ended.stderr
    found = {row["check"]: row for row in json.loads(ended.stdout)}
    assert {name: row["holds"] for name, row in found.items()} == {
        "traffic": True, "agreement": False, "range": False, "late": True, "many": None, "ghost": None
    }  # fmt: skip
    assert found["traffic"]["value"] == pytest.approx(7 / 100)
    assert found["agreement"]["value"] == pytest.approx(1 / 6)
    assert found["range"]["value"] == 1.5
    assert found["late"]["value"] == pytest.approx(1 / 6)
    assert found["many"]["remark"] == "from 2 only, 100 are needed"
    written = (gnomon.cwd / "out.prom").read_text()
    assert 'gnomon_check_state{check="agreement",deployment="new",role="challenger",stream="s"} 0.0' in written
    assert 'gnomon_check_state{check="many",deployment="new",role="challenger",stream="s"} -1.0' in written
    assert "gnomon_check_time_seconds" in written
    nan = next(line for line in written.splitlines() if 'number="shadow_nan_share"' in line)
    assert float(nan.rsplit(" ", 1)[1]) == pytest.approx(1 / 7)
    table = gnomon.run(*arguments, env=environment)
    assert (table.returncode, "BROKEN" in table.stdout, "below 0.7" in table.stdout) == (1, True, True)
    (gnomon.cwd / "one.toml").write_text('[[check]]\nname = "r"\nnumber = "shadow_value_min"\nlow = 0\n')
    assert gnomon.run("check", "one.toml", "--until", "2013-04-01T00:01:00", env=environment).returncode == 0
    unknown = gnomon.run("check", "one.toml", "--stream", "nowhere", env=environment)
    assert (unknown.returncode, "unknown stream" in unknown.stdout) == (1, True)
    quiet = gnomon.run("check", "one.toml", env=environment)
    assert (quiet.returncode, "unknown" in quiet.stdout) == (1, True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "check: Field required"),
        ("[[check]]\nname = 'x'\nnumber = 'luck'\nlow = 1", "number luck is none of captures_per_second"),
        ("[[check]]\nname = 'x'\nnumber = 'agreement'", "needs low or high"),
        ("[[check]]\nname = 'x'\nnumber = 'agreement'\nlow = 2\nhigh = 1", "low at most high"),
        ("[[check]]\nname = 'x'\nnumber = 'live_class_share'\nlow = 0", "live_class_share needs a part"),
        ("[[check]]\nname = 'x'\nnumber = 'agreement'\nlow = 0\nwide = 1", "check.0.wide"),
        ("[[check", "is not TOML"),
        (None, "No such file"),
    ],
)
def test_bad_bounds_are_one_line(gnomon: Gnomon, text: str | None, words: str) -> None:
    if text is not None:
        (gnomon.cwd / "b.toml").write_text(text)
    ended = gnomon.run("check", "b.toml", "--stream", "s")
    assert ended.returncode == 2
    assert words in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_the_shipped_bounds_are_read_and_say_unknown_of_nothing(tmp_path: Path) -> None:
    bounds = read_bounds(PROMETHEUS / "bounds.example.toml")
    row = {"stream": "s", "deployment": None, "role": None, "number": None, "part": None, "value": None, "n": 0}
    results = hold(bounds.check, [{**row, "status": "unknown stream"}])
    assert [result.holds for result in results] == [None] * len(bounds.check)
    assert {result.remark for result in results} == {"unknown stream"}


def test_a_bound_includes_its_ends() -> None:
    bound = Bound(name="x", number="agreement", low=0.5, high=0.5)
    row = {"deployment": "d", "role": None, "number": "agreement", "part": "", "n": 3, "status": "ok"}
    assert [hold([bound], [{**row, "value": value}])[0].holds for value in (0.49, 0.5, 0.51)] == [False, True, False]


def test_alerts_ask_for_what_the_check_writes(db: Database) -> None:
    signs = db.connection.execute(
        "select number from report_v1.signs('s', null, %s, %s)", [START, START.replace(month=5)]
    ).fetchall()
    assert {name for (name,) in signs} == set(NUMBERS)
    (group,) = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]:
        used = set(re.findall(r"gnomon_[a-z_]+", rule["expr"]))
        assert used
        assert used <= {"gnomon_check_state", "gnomon_check_time_seconds", "gnomon_report_number"}
        assert set(re.findall(r'number="([a-z_]+)"', rule["expr"])) <= set(NUMBERS)
        assert rule["annotations"]["summary"]
