"""`gnomon promote` killed by SIGKILL before or after it acted, with each of its three switches:

`--resume` settles it.
"""

import json
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from tests.support.command import Command
from tests.support.report_database import Database
from tests.support.servers.process import Gnomon
from tests.support.verdict_database import lenient, made

from gnomon_consumer.verdict.database import deployment_row
from gnomon_consumer.verdict.service import decide_now

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")
MOMENTS = {
    # The switch moves after the record is written and before it is committed.
    "before it acts": "create trigger wait after insert on gnomon.promotions"
    " for each row execute function gnomon.wait()",
    "after it acted": "create constraint trigger wait after insert on gnomon.promotions deferrable initially deferred"
    " for each row execute function gnomon.wait()",
}


@dataclass
class Switch:
    """A switch, and whether the challenger is live by it."""

    way_back: dict[str, Any]
    challenger_is_live: Callable[[], bool]


def flag(folder: Path) -> Switch:
    file = folder / "flags.json"
    flags = {"model": {"state": "ENABLED", "variants": {"live": 1, "challenger": 2}, "defaultVariant": "live"}}
    file.write_text(json.dumps({"flags": flags}), encoding="utf-8")
    way = {"kind": "flag", "flag_file": str(file), "flag": "model", "flag_variant": "challenger"}
    return Switch(way, lambda: json.loads(file.read_text())["flags"]["model"]["defaultVariant"] == "challenger")


def mlflow(folder: Path) -> Switch:
    uri = f"sqlite:///{folder}/mlflow.db"
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    client.create_registered_model("delay")
    for _ in range(2):
        client.create_model_version("delay", "file:///nowhere")
    client.set_registered_model_alias("delay", "champion", "1")
    way = {"kind": "mlflow", "mlflow_uri": uri, "mlflow_model": "delay", "mlflow_version": "2"}
    return Switch(way, lambda: str(client.get_model_version_by_alias("delay", "champion").version) == "2")


def script(folder: Path) -> Switch:
    live = folder / "live"
    live.write_text("former\n", encoding="utf-8")
    way = {
        "kind": "command",
        "promote_command": ["sh", "-c", f"echo challenger > {live}"],
        "rollback_command": ["sh", "-c", f"echo former > {live}"],
    }
    return Switch(way, lambda: live.read_text() == "challenger\n")


def settled(db: Database) -> dict[int, str | None]:
    return dict(db.connection.execute("select promotion_id, outcome from gnomon.promotion_intents").fetchall())


def recorded(db: Database) -> list[tuple[int, int | None]]:
    return db.connection.execute("select promotion_id, undoes from gnomon.promotions order by 1").fetchall()


def cut_off(db: Database, gnomon: Gnomon, where: tuple[str, ...], moment: str, begun: str = "promote") -> None:
    """Start the command, kill it at the moment, and end its session, as a server does when it notices the death."""
    db.connection.execute(
        "create or replace function gnomon.wait() returns trigger language plpgsql as $$ begin"
        " perform pg_advisory_lock(4711); perform pg_sleep(600); return null; end $$"
    )
    db.connection.execute(MOMENTS[moment].encode())
    running = gnomon.start(begun, *where)
    deadline = time.monotonic() + 120
    session = (
        "select l.pid from pg_locks l join pg_database d on d.oid = l.database"
        " where d.datname = current_database() and l.locktype = 'advisory' and l.objid = 4711"
    )
    while (found := db.connection.execute(session).fetchone()) is None:
        assert time.monotonic() < deadline, running.output
        time.sleep(0.05)
    assert running.kill() == -signal.SIGKILL
    db.connection.execute("select pg_terminate_backend(%s, 30000)", found)
    db.connection.execute("drop trigger wait on gnomon.promotions")


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("way", [flag, mlflow, script], ids=["flag", "mlflow", "command"])
def test_a_promotion_that_is_killed_is_settled(
    db: Database,
    gnomon: Gnomon,
    command: Command,
    database_url: str,
    tmp_path: Path,
    way: Callable[[Path], Switch],
    moment: str,
) -> None:
    switch = way(tmp_path)
    made(db, 14, plan=lenient(way_back=switch.way_back))
    row = deployment_row(db.connection, "s", "new")
    assert decide_now(db.connection, row, lenient(), given=False).verdict.decision == "PROMOTE"
    where = ("--database-url", database_url, "--stream", "s")
    cut_off(db, gnomon, where, moment)
    assert switch.challenger_is_live() is (moment == "after it acted")
    assert (recorded(db), settled(db)) == ([], {1: None})
    for either in ("promote", "rollback"):
        refused = command(either, *where)
        assert refused.returncode == 1
        assert "promotion 1 of new was started by " in refused.stderr
        assert refused.stderr.endswith("if it was interrupted, run `gnomon promote --resume`\n")
    resumed = command("promote", *where, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    # The progress of a command cannot be read, so it is reverted.
    done = moment == "after it acted" and way is not script
    assert switch.challenger_is_live() is done
    if done:
        assert resumed.stdout == "promotion 1 of new was done, and is recorded now.\n"
        assert (recorded(db), settled(db)) == ([(1, None)], {1: "done"})
        assert db.value("select count(*) from gnomon.events where kind = 'promoted'") == 1
        assert command("rollback", *where).returncode == 0
        assert (recorded(db), switch.challenger_is_live()) == ([(1, None), (2, 1)], False)
    else:
        assert resumed.stdout == "promotion 1 of new was not done; the former model is live.\n"
        assert (recorded(db), settled(db)) == ([], {1: "undone"})
        assert command("promote", *where).returncode == 0
        assert (recorded(db), switch.challenger_is_live()) == ([(2, None)], True)
    none = command("promote", *where, "--resume")
    assert (none.returncode, none.stderr) == (2, "gnomon: no promotion or rollback of stream s was interrupted\n")


@pytest.mark.parametrize("way", [flag, script], ids=["flag", "command"])
def test_a_rollback_that_is_killed_is_settled(
    db: Database, gnomon: Gnomon, command: Command, database_url: str, tmp_path: Path, way: Callable[[Path], Switch]
) -> None:
    switch = way(tmp_path)
    made(db, 14, plan=lenient(way_back=switch.way_back))
    where = ("--database-url", database_url, "--stream", "s")
    assert command("promote", *where, "--override", "a test").returncode == 0
    cut_off(db, gnomon, where, "after it acted", "rollback")
    assert command("promote", *where, "--resume").stdout == "rollback 2 of new was done, and is recorded now.\n"
    assert (recorded(db), settled(db)) == ([(1, None), (2, 1)], {1: "done", 2: "done"})
    assert not switch.challenger_is_live()


def test_a_command_that_kills_its_parent(
    db: Database, gnomon: Gnomon, command: Command, database_url: str, tmp_path: Path
) -> None:
    live = tmp_path / "live"
    way = {
        "kind": "command",
        "promote_command": ["sh", "-c", f"echo challenger > {live}; kill -9 $PPID; sleep 60; echo late > {live}"],
        "rollback_command": ["sh", "-c", f"echo former > {live}"],
    }
    made(db, 14, plan=lenient(way_back=way))
    where = ("--database-url", database_url, "--stream", "s")
    assert gnomon.run("promote", *where, "--override", "a test").returncode == -signal.SIGKILL
    assert command("promote", *where, "--resume").returncode == 0
    assert (live.read_text(), recorded(db)) == ("former\n", [])


def test_a_switch_that_stands_elsewhere_is_settled_by_hand(
    db: Database, gnomon: Gnomon, command: Command, database_url: str, tmp_path: Path
) -> None:
    switch = flag(tmp_path)
    made(db, 14, plan=lenient(way_back=switch.way_back))
    where = ("--database-url", database_url, "--stream", "s")
    command("verdict", *where)
    cut_off(db, gnomon, where, "before it acts")
    file = Path(switch.way_back["flag_file"])
    file.write_text(file.read_text().replace('"defaultVariant": "live"', '"defaultVariant": "third"'))
    refused = command("promote", *where, "--resume")
    assert refused.returncode == 1
    assert "the switch is at " in refused.stderr
    assert refused.stderr.count("\n") == 1
    alone = command("promote", *where, "--outcome", "undone")
    assert (alone.returncode, alone.stdout) == (2, "")
    assert command("promote", *where, "--resume", "--outcome", "undone").returncode == 0
    assert settled(db) == {1: "undone"}
