"""What a role that can only read may ask of verdicts, what verification compares, and two who ask at once."""

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb
from tests.support.report_database import Database
from tests.support.servers.process import Gnomon
from tests.support.verdict_database import lenient, made

from gnomon_consumer.verdict.database import deployment_row
from gnomon_consumer.verdict.service import decide_now
from gnomon_consumer.verdict.verification import digest


@pytest.fixture
def reader(db: Database, command: Any, database_url: str) -> Iterator[str]:
    """Yield the database's URL for a role that has gnomon_reader and nothing else."""
    assert command("db", "roles", "--database-url", database_url).returncode == 0
    # Roles belong to the server, which other tests use at the same time.
    role = f"reader_of_{db.connection.info.dbname}"
    db.connection.execute(f"create role {role} login in role gnomon_reader".encode())
    yield re.sub(r"//[^@]*@", f"//{role}@", database_url)
    db.connection.execute(f"drop role {role}".encode())


def test_a_reader_verifies_exports_looks_back_and_plans(db: Database, ask: Any, reader: str) -> None:
    made(db, 14)
    assert ask("--format", "json").returncode == 0
    after = db.value("select now()").isoformat()
    assert ask("--verify", "1", url=reader).stdout == "verdict 1, PROMOTE: equal\n"
    assert json.loads(ask("export", "1", url=reader).stdout) == json.loads(ask("export", "1").stdout)
    for arguments in (("--as-of", after), ("--plan",)):
        own = ask(*arguments, "--format", "json")
        theirs = ask(*arguments, "--format", "json", url=reader)
        assert (theirs.returncode, theirs.stderr) == (own.returncode, ""), arguments
        assert json.loads(theirs.stdout) == json.loads(own.stdout)


def test_a_reader_decides_without_storing(db: Database, ask: Any, reader: str) -> None:
    made(db, 14)
    refused = ask(url=reader)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert re.search("grant gnomon_writer to .*; or decide without storing the verdict: --dry-run$", refused.stderr)
    assert refused.stderr.count("\n") == 1
    dry = json.loads(ask("--dry-run", "--format", "json", url=reader).stdout)
    assert (dry["verdict_id"], db.value("select count(*) from gnomon.verdicts")) == (None, 0)
    assert db.value("select count(*) from gnomon.events") == 0
    said = json.loads(ask("--format", "json").stdout)
    volatile = dict.fromkeys(("verdict_id", "as_of"))
    assert dry | volatile == said | volatile


def test_a_dry_run_of_a_changed_plan_says_what_would_be_said(db: Database, ask: Any, tmp_path: Any) -> None:
    made(db, 14)
    (tmp_path / "gnomon.toml").write_text("[verdict]\ndays = 21\n", encoding="utf-8")
    dry = json.loads(ask("--dry-run", "--format", "json").stdout)
    assert (dry["decision"], dry["days"]) == ("INSUFFICIENT_DATA", 0)
    assert db.value("select count(*) from gnomon.plans") == 1
    said = json.loads(ask("--format", "json").stdout)
    assert (said["decision"], said["sentence"]) == (dry["decision"], dry["sentence"])
    assert db.value("select count(*) from gnomon.plans") == 2


def test_a_reader_serves_what_it_does_not_store(db: Database, gnomon: Gnomon, reader: str) -> None:
    import urllib.request

    made(db, 14)
    serve = ("verdict", "--database-url", reader, "--stream", "s", "--dry-run", "--serve", "127.0.0.1:0")
    port = gnomon.start(*serve).wait_for(r"port=\d+").partition("port=")[2].split()[0]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/verdict", timeout=60) as answer:
        said = json.loads(answer.read())
    assert (said["decision"], said["verdict_id"]) == ("PROMOTE", None)
    assert db.value("select count(*) from gnomon.verdicts") == 0


def stored_otherwise(db: Database, **changes: Any) -> None:
    """Store the newest verdict once more, with other evidence."""
    (evidence,) = db.connection.execute("select evidence from gnomon.verdicts order by 1 limit 1").fetchone() or ({},)
    evidence = {key: value for key, value in (evidence | changes).items() if value is not None}
    db.connection.execute(
        "insert into gnomon.verdicts (deployment_id, plan_id, cohort_id, as_of, decision, sentence, days, look,"
        " verdict, evidence, evidence_sha256, decided_by) select deployment_id, plan_id, cohort_id, as_of, decision,"
        " sentence, days, look, verdict, %s, %s, decided_by from gnomon.verdicts order by verdict_id limit 1",
        [Jsonb(evidence), digest(evidence)],
    )


def test_an_older_version_with_its_cells_in_another_order_is_equal(db: Database, ask: Any) -> None:
    made(db, 14)
    row = deployment_row(db.connection, "s", "new")
    evidence = decide_now(db.connection, row, lenient(), given=False).evidence.as_json()
    older = {key: value for key, value in evidence["manifest"].items() if key != "tables"}
    older |= {"software": "0.0.9", "sql": {"report_v1": "older"}}
    assert len(evidence["cells"]) > 1
    stored_otherwise(
        db, cells=evidence["cells"][::-1], series=evidence["series"][::-1], silent=None, compared=None, manifest=older
    )
    checked = ask("--verify", "2")
    assert checked.returncode == 0, checked.stdout
    assert checked.stdout.startswith("verdict 2, PROMOTE: equal (decided by Gnomon 0.0.9, computed again by Gnomon ")


def test_other_cells_are_not_equal(db: Database, ask: Any) -> None:
    made(db, 14)
    row = deployment_row(db.connection, "s", "new")
    evidence = decide_now(db.connection, row, lenient(), given=False).evidence.as_json()
    first, *others = evidence["cells"]
    stored_otherwise(db, cells=[*others, first | {"share": first["share"] + 0.125}])
    checked = ask("--verify", "2")
    assert checked.returncode == 1
    assert re.search(
        r"^evidence\.cells\[\d\]\.share: .* \(-0\.125\)\nverdict 2, PROMOTE: not equal$", checked.stdout, re.MULTILINE
    )


def test_two_processes_that_ask_at_once_store_one_verdict(db: Database, gnomon: Gnomon, database_url: str) -> None:
    made(db, 14)
    # Both wait for the same moment: the lock on which verdicts are stored.
    with psycopg.connect(database_url) as holder:
        holder.execute("select pg_advisory_xact_lock(hashtextextended('gnomon.verdicts', %s))", [db.deployments["new"]])
        running = [gnomon.start("verdict", "--database-url", database_url, "--stream", "s") for _ in range(3)]
        waiting = (
            "select count(*) from pg_locks l join pg_database d on d.oid = l.database"
            " where d.datname = current_database() and l.locktype = 'advisory' and not l.granted"
        )
        deadline = time.monotonic() + 120
        while db.value(waiting) < 3:
            assert time.monotonic() < deadline, [one.output for one in running]
            time.sleep(0.05)
    assert [one.wait() for one in running] == [0, 0, 0], running[0].output
    assert (db.value("select count(*) from gnomon.verdicts"), db.value("select count(*) from gnomon.events")) == (1, 1)
