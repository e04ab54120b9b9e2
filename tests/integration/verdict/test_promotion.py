"""`gnomon promote` and `gnomon rollback`: refusals, the switches, the records, and concurrent callers."""

import json
import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest
from mlflow import MlflowClient
from tests.support.report_database import Database
from tests.support.verdict_database import DAY, Traffic, fill, lenient, made, seal
from typing_extensions import override

from gnomon_consumer.verdict.database import deployment_row
from gnomon_consumer.verdict.intents import RefusedError
from gnomon_consumer.verdict.plans import record_plan
from gnomon_consumer.verdict.promotion import promote, roll_back
from gnomon_consumer.verdict.rules.plan import WayBack
from gnomon_consumer.verdict.service import decide_now
from gnomon_consumer.verdict.ways import FlagFile, MlflowAlias, WayMovedError
from gnomon_schemas.errors import ConfigurationError, GnomonError

# Warnings from MLflow's own tables, under the SQLAlchemy that this project pins.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")
FLAGS = {
    "$schema": "https://flagd.dev/schema/v0/flags.json",
    "flags": {"model": {"state": "ENABLED", "variants": {"live": "a", "challenger": "b"}, "defaultVariant": "live"}},
}


@pytest.fixture
def flags(tmp_path: Path) -> Path:
    file = tmp_path / "flags.json"
    file.write_text(json.dumps(FLAGS), encoding="utf-8")
    return file


def flag_plan(flags: Path) -> Any:
    return lenient(way_back={"kind": "flag", "flag_file": str(flags), "flag": "model", "flag_variant": "challenger"})


def variant(flags: Path) -> str:
    return str(json.loads(flags.read_text(encoding="utf-8"))["flags"]["model"]["defaultVariant"])


def decided(db: Database) -> str:
    row = deployment_row(db.connection, "s", "new")
    return str(decide_now(db.connection, row, lenient(), given=False).verdict.decision)


def promotions(db: Database) -> int:
    return int(db.value("select count(*) from gnomon.promotions"))


def test_a_flag_is_moved_and_moved_back(db: Database, flags: Path, command: Any, database_url: str) -> None:
    made(db, 14, plan=flag_plan(flags))
    where = ("--database-url", database_url, "--stream", "s")
    refused = command("promote", *where)
    assert (refused.returncode, variant(flags)) == (1, "live")
    assert "new has no verdict yet" in refused.stderr
    assert decided(db) == "PROMOTE"
    tried = command("promote", *where, "--dry-run")
    assert (tried.returncode, variant(flags), promotions(db)) == (0, "live", 0)
    done = command("promote", *where)
    assert (done.returncode, variant(flags), promotions(db)) == (0, "challenger", 1)
    assert "Now run live 1 in the shadow" in done.stdout
    assert "gnomon run --stream s --former FILE" in done.stdout
    assert "gnomon verdict --stream s --deployment former-live-1 " in done.stdout
    again = command("promote", *where)
    assert again.returncode == 1
    assert "was promoted already" in again.stderr
    undone = command("rollback", *where)
    assert (undone.returncode, variant(flags), promotions(db)) == (0, "live", 2)
    none = command("rollback", *where)
    assert (none.returncode, none.stderr) == (2, "gnomon: there is no promotion of new to roll back\n")
    kinds = [row[0] for row in db.connection.execute("select kind from gnomon.events order by created_at").fetchall()]
    assert kinds == ["verdict.changed", "promoted", "rolled_back"]
    metadata = json.loads(flags.read_text(encoding="utf-8"))["flags"]["model"]["metadata"]
    assert metadata["gnomon.promotion"] == "2"


def test_refused_while_the_newest_verdict_says_hold(db: Database, flags: Path) -> None:
    made(db, 14, plan=flag_plan(flags))
    row = deployment_row(db.connection, "s", "new")
    assert decided(db) == "PROMOTE"
    record_plan(db.connection, row["deployment_id"], lenient(days=21), given=True)
    with pytest.raises(RefusedError, match="the plan of new changed after verdict 1"):
        promote(db.connection, row, None, dry_run=False)
    assert decided(db) == "INSUFFICIENT_DATA"
    record_plan(db.connection, row["deployment_id"], lenient(days=21, way_back={"kind": "none"}), given=True)
    with pytest.raises(ConfigurationError, match="names no way back"):
        promote(db.connection, row, None, dry_run=False)
    record_plan(db.connection, row["deployment_id"], flag_plan(flags), given=True)
    assert decided(db) == "INSUFFICIENT_DATA"
    with pytest.raises(RefusedError, match="says INSUFFICIENT_DATA"):
        promote(db.connection, row, None, dry_run=False)
    with pytest.raises(ConfigurationError, match="--override needs a reason"):
        promote(db.connection, row, " ", dry_run=False)
    done = promote(db.connection, row, "the board said so", dry_run=False)
    assert variant(flags) == "challenger"
    assert db.value("select override from gnomon.promotions where promotion_id = %s", done.promotion_id) == (
        "the board said so"
    )


def test_refused_while_the_verdict_is_older_than_the_newest_seal(db: Database, flags: Path) -> None:
    db.add_stream(horizons=[DAY])
    record_plan(db.connection, db.add_deployment("new", "challenger"), flag_plan(flags), given=True)
    fill(db, 15)
    seal(db, 14)
    assert decided(db) == "PROMOTE"
    seal(db, 15)
    with pytest.raises(RefusedError, match="older than the newest seal"):
        promote(db.connection, deployment_row(db.connection, "s", "new"), None, dry_run=False)
    assert variant(flags) == "live"


def test_of_two_at_once_one_succeeds(db: Database, flags: Path, database_url: str) -> None:
    made(db, 14, plan=flag_plan(flags))
    assert decided(db) == "PROMOTE"
    together, ended = threading.Barrier(2), []

    def call() -> None:
        with psycopg.connect(database_url, autocommit=True) as connection:
            row = deployment_row(connection, "s", "new")
            together.wait()
            try:
                promote(connection, row, None, dry_run=False)
                ended.append("promoted")
            except RefusedError:
                ended.append("refused")

    callers = [threading.Thread(target=call) for _ in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert sorted(ended) == ["promoted", "refused"]
    assert promotions(db) == 1


def test_a_switch_that_fails_leaves_no_record(db: Database, tmp_path: Path) -> None:
    failing = {"kind": "command", "promote_command": ["false"], "rollback_command": ["true"]}
    made(db, 14, plan=lenient(way_back=failing))
    assert decided(db) == "PROMOTE"
    row = deployment_row(db.connection, "s", "new")
    with pytest.raises(GnomonError, match="false ended with status 1"):
        promote(db.connection, row, None, dry_run=False)
    assert promotions(db) == 0
    no_way_back = {**failing, "promote_command": ["true"], "check_command": ["false"]}
    record_plan(db.connection, row["deployment_id"], lenient(way_back=no_way_back), given=True)
    assert decided(db) == "PROMOTE"
    with pytest.raises(GnomonError, match="false ended with status 1"):
        promote(db.connection, row, None, dry_run=False)
    said = tmp_path / "said"
    script = {**failing, "promote_command": ["sh", "-c", f'echo "$GNOMON_PROMOTION $GNOMON_VERDICT" > {said}']}
    record_plan(db.connection, row["deployment_id"], lenient(way_back=script), given=True)
    assert decided(db) == "PROMOTE"
    done = promote(db.connection, row, None, dry_run=False)
    assert said.read_text().split()[0] == str(done.promotion_id)
    assert roll_back(db.connection, row, dry_run=False).promotion_id is not None


class CutOff(FlagFile):
    """A flag file whose move ends the session of its caller before the commit; `times` of them."""

    times = 1
    url = ""

    @override
    def move(self, expected: dict[str, Any], target: dict[str, Any], note: dict[str, str]) -> None:
        super().move(expected, target, note)
        if type(self).times:
            type(self).times -= 1
            with psycopg.connect(self.url, autocommit=True) as connection:
                connection.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity"
                    " where datname = current_database() and pid <> pg_backend_pid() and state = 'idle in transaction'"
                )


@pytest.fixture
def cut_off(monkeypatch: pytest.MonkeyPatch, database_url: str) -> type[CutOff]:
    monkeypatch.setattr(CutOff, "url", database_url)
    monkeypatch.setattr(CutOff, "times", 1)
    monkeypatch.setattr("gnomon_consumer.verdict.promotion.way_of", CutOff)
    return CutOff


def test_a_switch_whose_record_is_cut_off_is_moved_back(
    db: Database, flags: Path, command: Any, database_url: str, cut_off: type[CutOff]
) -> None:
    made(db, 14, plan=flag_plan(flags))
    assert decided(db) == "PROMOTE"
    where = ("--database-url", database_url, "--stream", "s")
    done = command("promote", *where)
    assert (done.returncode, variant(flags), promotions(db)) == (3, "live", 0)
    assert "PostgreSQL did not confirm the record" in done.stderr
    assert "the switch was moved back" in done.stderr
    assert done.stderr.count("\n") == 1
    refused = command("promote", *where)
    assert refused.returncode == 1
    assert "run `gnomon promote --resume`" in refused.stderr
    assert command("promote", *where, "--resume").stdout == (
        "promotion 1 of new was not done; the former model is live.\n"
    )
    assert command("promote", *where).returncode == 0
    cut_off.times = 1
    done = command("rollback", *where)
    assert (done.returncode, variant(flags), promotions(db)) == (3, "challenger", 1)
    assert command("promote", *where, "--resume").returncode == 0
    assert command("rollback", *where).returncode == 0
    assert (variant(flags), promotions(db)) == ("live", 2)


def test_a_switch_that_cannot_be_moved_back_says_where_it_stands(
    db: Database, flags: Path, command: Any, database_url: str, cut_off: type[CutOff], monkeypatch: pytest.MonkeyPatch
) -> None:
    made(db, 14, plan=flag_plan(flags))
    assert decided(db) == "PROMOTE"
    forward = cut_off.move

    def once(way: CutOff, expected: dict[str, Any], target: dict[str, Any], note: dict[str, str]) -> None:
        if target["variant"] == "live":
            raise WayMovedError("the file is gone")
        forward(way, expected, target, note)

    monkeypatch.setattr(cut_off, "move", once)
    done = command("promote", "--database-url", database_url, "--stream", "s")
    assert (done.returncode, variant(flags), promotions(db)) == (1, "challenger", 0)
    assert "could not be moved back (the file is gone): move it by hand from" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_rollback_of_a_switch_that_stands_already_is_recorded(db: Database, flags: Path) -> None:
    made(db, 14, plan=flag_plan(flags))
    assert decided(db) == "PROMOTE"
    row = deployment_row(db.connection, "s", "new")
    promote(db.connection, row, None, dry_run=False)
    whole = json.loads(flags.read_text(encoding="utf-8"))
    whole["flags"]["model"]["defaultVariant"] = "live"
    flags.write_text(json.dumps(whole), encoding="utf-8")
    assert roll_back(db.connection, row, dry_run=False).promotion_id == 2
    assert (variant(flags), promotions(db)) == ("live", 2)


def test_a_plan_without_labels_is_promoted_on_its_newest_days_only(db: Database, flags: Path) -> None:
    plan = lenient(metric="agreement", goal="not_worse", margin=0.9, way_back=flag_plan(flags).way_back)
    made(db, 14, plan=plan)
    row = deployment_row(db.connection, "s", "new")
    assert decide_now(db.connection, row, plan, given=False).verdict.decision == "PROMOTE"
    db.connection.execute("update gnomon.windows set last_captured_at = last_captured_at + interval '2 days'")
    with pytest.raises(RefusedError, match="older than the newest seal"):
        promote(db.connection, row, None, dry_run=False)
    assert variant(flags) == "live"


def test_the_former_model_in_the_shadow_of_the_new_one_answers_rollback(db: Database, flags: Path) -> None:
    made(db, 14, plan=flag_plan(flags))
    assert decided(db) == "PROMOTE"
    promote(db.connection, deployment_row(db.connection, "s", "new"), None, dry_run=False)
    identity = db.add_deployment("former-live", "challenger")
    db.connection.execute(
        "update gnomon.deployments set model_name = 'live', model_version = '1' where deployment_id = %s", [identity]
    )
    record_plan(db.connection, identity, lenient(), given=True)
    fill(db, 14, Traffic(version=lambda _day: "2"), "former-live")
    seal(db, 14, "former-live")
    row = deployment_row(db.connection, "s", "former-live")
    found = decide_now(db.connection, row, lenient(), given=False).verdict
    assert found.decision == "ROLLBACK"
    assert found.sentence.startswith("Roll back to the former model: right on")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a real MLflow registry in SQLite with a model of two versions, the first of which is live."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    client.create_registered_model("delay")
    for _ in range(2):
        client.create_model_version("delay", "file:///nowhere")
    client.set_registered_model_alias("delay", "champion", "1")
    return uri


def test_an_mlflow_alias_is_moved_and_moved_back(db: Database, registry: str) -> None:
    way = {"kind": "mlflow", "mlflow_uri": registry, "mlflow_model": "delay", "mlflow_version": "2"}
    made(db, 14, plan=lenient(way_back=way))
    assert decided(db) == "PROMOTE"
    client = MlflowClient(tracking_uri=registry, registry_uri=registry)
    row = deployment_row(db.connection, "s", "new")
    done = promote(db.connection, row, None, dry_run=False)
    promoted = client.get_model_version_by_alias("delay", "champion")
    assert (str(promoted.version), promoted.tags["gnomon.promotion"]) == ("2", str(done.promotion_id))
    roll_back(db.connection, row, dry_run=False)
    assert str(client.get_model_version_by_alias("delay", "champion").version) == "1"


def test_an_mlflow_alias_that_somebody_else_moved(registry: str) -> None:
    way = MlflowAlias(WayBack(kind="mlflow", mlflow_uri=registry, mlflow_model="delay", mlflow_version="2"))
    before = way.state()
    client = MlflowClient(tracking_uri=registry, registry_uri=registry)
    client.set_registered_model_alias("delay", "champion", "2")
    with pytest.raises(WayMovedError, match="names version 2, not 1"):
        way.move(before, way.wanted(), {"test": "me"})
    client.set_registered_model_alias("delay", "champion", "1")
    assert "gnomon.test" not in client.get_model_version("delay", "2").tags


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mlflow_model": "dely"}, "MLflow has no registered model dely"),
        ({"mlflow_version": "9"}, "MLflow has no version 9 of delay"),
    ],
)
def test_an_mlflow_model_that_does_not_exist(registry: str, changes: dict[str, str], said: str) -> None:
    names = {"kind": "mlflow", "mlflow_uri": registry, "mlflow_model": "delay", "mlflow_version": "2"} | changes
    way = MlflowAlias(WayBack.model_validate(names))

    def look() -> None:
        way.state()
        way.check(way.wanted())

    with pytest.raises(ConfigurationError, match=said):
        look()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not a flag file"),
        ("{}", "is not a flag file"),
        ('{"flags": {}}', "has no flag model; there are none"),
        ('{"flags": {"model": {"variants": {"a": 1}, "defaultVariant": "a"}}}', "no variant challenger; there are a"),
    ],
)
def test_a_flag_file_that_is_not_one(flags: Path, text: str, said: str) -> None:
    flags.write_text(text, encoding="utf-8")
    way = FlagFile(flag_plan(flags).way_back)
    with pytest.raises(ConfigurationError, match=said):
        way.check(way.wanted())
