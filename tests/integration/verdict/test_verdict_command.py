"""`gnomon verdict` as a user runs it: answers, statuses, formats, verification, export."""

import json
import math
import re
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.support.report_database import START, Database
from tests.support.servers.process import Gnomon
from tests.support.verdict_database import DAY, Traffic, fill, lenient, made, seal

from gnomon_consumer.verdict.database import deployment_row
from gnomon_consumer.verdict.plans import record_plan
from gnomon_consumer.verdict.service import decide_now

DOCS = Path(__file__).parents[3] / "docs"


def verdicts(db: Database) -> int:
    return int(db.value("select count(*) from gnomon.verdicts"))


def test_promote_in_every_format_is_one_verdict(db: Database, ask: Any, gnomon: Gnomon, database_url: str) -> None:
    made(db, 14)
    shown = gnomon.run("verdict", "--database-url", database_url, "--stream", "s")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert shown.stdout.startswith("PROMOTE  s · new")
    assert "Promote: right on" in " ".join(shown.stdout.split())
    said = json.loads(ask("--format", "json").stdout)
    assert (said["decision"], said["days"], said["look"], said["verdict_id"]) == ("PROMOTE", 14, 14, 1)
    markdown = ask("--format", "markdown", "--deployment", "new").stdout
    assert markdown.startswith("## PROMOTE: s · new\n\nPromote: right on")
    assert "| SHOWN | passes | accuracy is at least 0." in markdown
    assert verdicts(db) == 1
    assert db.value("select kind from gnomon.events") == "verdict.changed"
    assert ask("--verify", "1").stdout == "verdict 1, PROMOTE: equal\n"


def users(_day: int, row: dict[str, Any]) -> dict[str, Any]:
    return {"cluster": f"u{row['event_time'].minute}"}


def failing(day: int, row: dict[str, Any]) -> dict[str, Any]:
    failed = {"outcome": "failed", "shadow_error_kind": "exception"}
    return failed if row["request_id"][-1] in "123456" else {"outcome": "scored", "shadow_error_kind": None}


@pytest.mark.parametrize(
    ("days", "traffic", "plan", "answer"),
    [
        (14, Traffic(change=users), {}, "PROMOTE"),
        (35, Traffic(change=users), {"metric": "brier", "blocks": "week", "weeks": 4}, "PROMOTE"),
        (21, Traffic(change=users), {"goal": "not_worse", "metric": "agreement", "margin": 0.9}, "PROMOTE"),
        (21, Traffic(change=users), {"metric": "rmse", "margin": 0.01}, "PROMOTE"),
        (14, Traffic(shadow=0.7), {}, "HOLD"),
        (14, Traffic(), {"way_back": {"kind": "none"}}, "HOLD"),
        (10, Traffic(), {}, "INSUFFICIENT_DATA"),
        (14, Traffic(labelled=lambda _d, _r: False), {}, "INSUFFICIENT_DATA"),
        (10, Traffic(shadow=0.4, live=0.9), {}, "REJECT"),
        (17, Traffic(shadow=0.4, live=0.9), {}, "REJECT"),
        (5, Traffic(change=failing), {}, "REJECT"),
    ],
)
def test_the_export_is_decided_again_by_the_script_of_the_docs(
    db: Database, ask: Any, tmp_path: Path, days: int, traffic: Traffic, plan: dict[str, Any], answer: str
) -> None:
    made(db, days, replace(traffic, made=[]), lenient(**plan))
    decided = json.loads(ask("--format", "json").stdout)
    assert decided["decision"] == answer
    file = tmp_path / "verdict.json"
    assert ask("export", "1", "-o", str(file)).returncode == 0
    script = re.search(r"```python\n(import json.*?)```", (DOCS / "verdict.md").read_text(encoding="utf-8"), re.DOTALL)
    assert script is not None
    (tmp_path / "again.py").write_text(script.group(1), encoding="utf-8")
    run = [sys.executable, "-I", str(tmp_path / "again.py"), str(file)]
    low, again = subprocess.run(run, capture_output=True, text=True, check=True).stdout.split()
    assert again == answer
    look = [judged for judged in decided["metrics"] if decided["look"]]
    assert float(low) == (pytest.approx(look[0]["low"], abs=1e-5) if look else -math.inf)


def test_a_rejection_stands_until_the_plan_changes(db: Database, ask: Any, tmp_path: Path) -> None:
    """Bad days, then good ones that would be promoted alone."""
    db.add_stream(horizons=[DAY])
    identity = db.add_deployment("new", "challenger")
    record_plan(db.connection, identity, lenient(), given=True)

    def turn(day: int, row: dict[str, Any]) -> dict[str, Any]:
        wrong = "late" if row["live_label"] == "on_time" else "on_time"
        bad = row["request_id"][-1] in ("123" if day % 2 else "1234")
        return {"shadow_label": wrong} if bad and day < 8 else {}

    fill(db, 63, Traffic(live=1.0, shadow=1.0, change=turn))
    seal(db, 8)
    first = json.loads(ask("--format", "json").stdout)
    assert (first["decision"], first["verdict_id"]) == ("REJECT", 1)
    before = db.value("select now()").isoformat()
    assert json.loads(ask("--format", "json").stdout)["verdict_id"] == 1
    seal(db, 63)
    later = json.loads(ask("--format", "json").stdout)
    assert (later["decision"], later["verdict_id"]) == ("REJECT", 2)
    (why,) = [reason for reason in later["reasons"] if reason["state"] == "harm"]
    assert why["code"] == "REJECTED_BEFORE"
    assert why["text"] == "verdict 1 rejected it after 8 whole days (WORSE, SEGMENT_HARM); another plan starts again"
    assert "verdict 1 rejected it" in later["sentence"]
    assert json.loads(ask("--format", "json").stdout)["verdict_id"] == 2
    for number in ("1", "2"):
        assert ask("--verify", number).stdout == f"verdict {number}, REJECT: equal\n"
    assert ask("--as-of", before).returncode == 11
    assert db.value("select count(*) from gnomon.events") == 1
    (tmp_path / "gnomon.toml").write_text("[verdict]\ndays = 21\n", encoding="utf-8")
    assert ask().returncode == 12


def test_two_who_ask_at_once_get_one_verdict(db: Database, database_url: str) -> None:
    made(db, 14)
    together, said = threading.Barrier(4), []

    def call() -> None:
        with psycopg.connect(database_url, autocommit=True) as connection:
            row = deployment_row(connection, "s", "new")
            together.wait()
            said.append(decide_now(connection, row, lenient(), given=False).verdict_id)

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert said == [1] * 4
    assert (verdicts(db), db.value("select count(*) from gnomon.events")) == (1, 1)


@pytest.mark.parametrize(
    ("days", "traffic", "plan", "status", "said"),
    [
        (13, Traffic(), {}, 12, "after 13 whole days; it takes 14"),
        (14, Traffic(shadow=0.7, live=0.9), {}, 11, "Reject: right on"),
        (14, Traffic(shadow=0.7), {}, 10, "accuracy is at least"),
        (
            14,
            Traffic(labelled=lambda _d, _r: False),
            {},
            12,
            "no answered request has a label in time, so there is no accuracy",
        ),
        (14, Traffic(labelled=lambda _d, row: row["request_id"][-1] in "01"), {}, 12, "requests with a label"),
        (14, Traffic(version=lambda day: "1" if day < 9 else "2"), {}, 12, "live model changed to live 2"),
        (14, Traffic(), {"way_back": {"kind": "none"}}, 10, "the plan names no way back"),
    ],
)
def test_answers(
    db: Database, ask: Any, days: int, traffic: Traffic, plan: dict[str, Any], status: int, said: str
) -> None:
    made(db, days, traffic, lenient(**plan))
    shown = ask("--format", "markdown")
    assert shown.returncode == status, shown.stdout + shown.stderr
    assert said in shown.stdout


def test_removing_coverage_volume_or_the_ledger_is_never_good_news(db: Database, ask: Any) -> None:
    made(db, 14)
    db.connection.execute("update gnomon.windows set gap_lost = 500, gap_reason = 'expired'")
    shown = ask("--format", "markdown")
    assert shown.returncode == 12
    assert "offered captures that were judged (needed: 99.00%)" in shown.stdout
    db.connection.execute("delete from gnomon.pairs where event_time > %s", [START + 2 * DAY])
    shown = ask("--format", "markdown")
    assert shown.returncode == 12
    assert "the ledger does not close" in shown.stdout
    assert "0 rows on the poorest day" in shown.stdout


def test_what_would_have_been_said_then(db: Database, ask: Any) -> None:
    db.add_stream(horizons=[DAY])
    record_plan(db.connection, db.add_deployment("new", "challenger"), lenient(), given=True)
    fill(db, 21)
    seal(db, 7)
    early = db.value("select now()").isoformat()
    seal(db, 21)
    assert ask("--as-of", early).returncode == 12
    assert ask().returncode == 0
    assert ask("--as-of", "2001-01-01").stderr.endswith("deployment new had no plan by then\n")
    assert verdicts(db) == 1


def test_verify_says_what_differs_after_an_erasure(db: Database, ask: Any) -> None:
    made(db, 14)
    assert ask().returncode == 0
    db.connection.execute("delete from gnomon.pairs where request_id = 'new-3-7'")
    checked = ask("--verify", "1")
    assert checked.returncode == 1
    assert "evidence.rows: 560 was stored, the database says 559 (-1)" in checked.stdout
    assert checked.stdout.endswith("verdict 1, PROMOTE: not equal\n")


def test_verdicts_are_never_changed(db: Database, ask: Any) -> None:
    made(db, 14)
    ask()
    for change in ("update gnomon.verdicts set decision = 'HOLD'", "delete from gnomon.verdicts"):
        with pytest.raises(psycopg.errors.RaiseException, match="verdicts is append-only"):
            db.connection.execute(change)


def test_a_plan_edited_after_the_start(db: Database, ask: Any, tmp_path: Path) -> None:
    made(db, 14)
    assert ask().returncode == 0
    (tmp_path / "gnomon.toml").write_text("[verdict]\ndays = 21\n", encoding="utf-8")
    shown = ask("--format", "json")
    assert shown.returncode == 12
    changed = next(r for r in json.loads(shown.stdout)["reasons"] if r["code"] == "PLAN_CHANGED")
    assert changed["numbers"]["plans"][0]["sha256"] == lenient().sha256
    assert len(changed["numbers"]["plans"]) == 2


def test_a_database_that_goes_away_leaves_no_verdict(db: Database, ask: Any, database_url: str) -> None:
    made(db, 14)
    db.connection.execute(
        "create function gnomon.die() returns trigger language plpgsql as $$ begin"
        " perform pg_terminate_backend(pg_backend_pid()); return new; end $$;"
        "create trigger die after insert on gnomon.verdicts for each row execute function gnomon.die()"
    )
    shown = ask()
    assert shown.returncode == 3
    assert shown.stderr.startswith("gnomon: PostgreSQL at")
    assert verdicts(db) == 0
    assert db.value("select count(*) from gnomon.events") == 0


def test_names_that_do_not_exist(db: Database, ask: Any, command: Any, database_url: str, tmp_path: Path) -> None:
    made(db, 14)
    shown = ask("--deployment", "mew")
    assert (shown.returncode, shown.stderr) == (2, "gnomon: stream s has no deployment mew; there are new\n")
    other = command("verdict", "--database-url", database_url, "--stream", "t")
    assert other.returncode == 2
    assert "streams with data: there are s" in other.stderr
    (tmp_path / "gnomon.toml").write_text('[verdict]\nmetric = "acuracy"\n', encoding="utf-8")
    shown = ask()
    assert shown.returncode == 2
    assert "there is no metric acuracy; there are accuracy, precision" in shown.stderr
    (tmp_path / "gnomon.toml").unlink()
    assert ask("--verify", "9").stderr == "gnomon: there is no verdict 9; there is none yet\n"
    assert ask("export", "9").returncode == 2


def test_an_older_database(empty_database_url: str, command: Any) -> None:
    shown = command("verdict", "--database-url", empty_database_url, "--stream", "s")
    assert shown.returncode == 2
    assert "run `gnomon db upgrade`" in shown.stderr


def test_a_database_with_older_views(db: Database, ask: Any) -> None:
    made(db, 14)
    db.connection.execute("update gnomon.view_versions set sha256 = 'older' where name = 'gnomon_estimators'")
    shown = ask()
    assert (shown.returncode, shown.stdout) == (2, "")
    assert "run `gnomon db upgrade`" in shown.stderr
    assert shown.stderr.count("\n") == 1
    assert verdicts(db) == 0


def test_a_deployment_without_captures(db: Database, ask: Any) -> None:
    db.add_stream(horizons=[DAY])
    record_plan(db.connection, db.add_deployment("new", "challenger"), lenient(), given=True)
    assert ask().returncode == 12


def test_what_to_expect_of_a_plan(db: Database, ask: Any, command: Any, tmp_path: Path) -> None:
    made(db, 7)
    said = json.loads(ask("--plan", "--format", "json").stdout)
    assert said["source"] == "7 days of new"
    assert said["days_if_it_stays"] == 14
    assert said["days_if_none"] is None
    assert said["rows"] == 14 * 40
    assert said["cpu_hours"] == pytest.approx(14 * 40 * 1000 / 3.6e9)
    assert said["shown_margins"]["28"] < said["shown_margins"]["14"]
    (tmp_path / "gnomon.toml").write_text('[verdict]\ngoal = "not_worse"\nmargin = 0.001\n', encoding="utf-8")
    before = command("verdict", "--plan", "--day-sd", "0.1")
    assert before.returncode == 1
    assert "This plan cannot be met: a year of days shows a margin of 0.0" in " ".join(before.stdout.split())
    (tmp_path / "gnomon.toml").write_text('[verdict]\ngoal = "not_worse"\nmargin = 0.05\n', encoding="utf-8")
    before = command("verdict", "--plan", "--day-sd", "0.05", "--rows-a-day", "100")
    assert before.returncode == 0
    assert "1,400" in before.stdout


def test_what_to_expect_before_anything_runs(command: Any, tmp_path: Path) -> None:
    nothing = command("verdict", "--plan")
    assert (nothing.returncode, nothing.stdout) == (2, "")
    assert "before anything runs, --plan needs --day-sd, or --differ with --rows-a-day" in nothing.stderr
    (tmp_path / "gnomon.toml").write_text('[verdict]\ngoal = "not_worse"\nmargin = 0.01\n', encoding="utf-8")
    shown = command("verdict", "--plan", "--differ", "0.04", "--rows-a-day", "5000")
    assert shown.returncode == 0
    assert "0.002828 (at least: 0.04 of 5,000 requests a day differ)" in " ".join(shown.stdout.split())
    assert re.search(r"days until PROMOTE if it stays +not known *\n", shown.stdout)
    assert re.search(r"days until PROMOTE if it is 0 +14 *\n", shown.stdout)
    for arguments, said in (
        (("--differ", "0.04"), "needs --rows-a-day"),
        (("--differ", "0.04", "--rows-a-day", "10", "--day-sd", "1"), "replaces --day-sd"),
        (("--differ", "1.5", "--rows-a-day", "10"), "is not in the range"),
    ):
        refused = command("verdict", "--plan", *arguments)
        assert refused.returncode == 2
        assert said in refused.stderr
    (tmp_path / "gnomon.toml").write_text('[verdict]\nmetric = "brier"\n', encoding="utf-8")
    refused = command("verdict", "--plan", "--differ", "0.04", "--rows-a-day", "5000")
    assert refused.returncode == 2
    assert "give --day-sd" in refused.stderr


def test_nothing_ran_yet(db: Database, ask: Any) -> None:
    db.add_stream(horizons=[DAY])
    db.add_deployment("new", "challenger")
    shown = ask("--plan")
    assert shown.returncode == 2
    assert "give --day-sd" in shown.stderr


@pytest.mark.parametrize(
    "arguments", [("--day-sd", "nan"), ("--day-sd", "inf"), ("--day-sd", "1", "--rows-a-day", "nan")]
)
def test_what_is_no_number_plans_nothing(ask: Any, arguments: tuple[str, ...]) -> None:
    done = ask("--plan", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.search("must be a finite number above 0|is not in the range 0<x<=", done.stderr)
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:99999", "127.0.0.1:", ":http"])
def test_an_address_that_cannot_be_listened_on(ask: Any, address: str) -> None:
    done = ask("--serve", address)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"--serve {address}: write HOST:PORT, such as 127.0.0.1:9000" in done.stderr
    assert done.stderr.count("\n") == 1
