"""`gnomon run --former`: after a promotion, the model that was live before runs in the shadow of the new one."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb
from tests.support.live_stream import Stream, sum_model
from tests.support.report_database import Database
from tests.support.servers.process import Gnomon

TIMEOUT_S = 240.0


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        made = Database(connection)
        made.add_stream()
        made.add_deployment("new", "challenger")
        yield made


def promoted(db: Database, name: str | None = "fraud", version: str | None = "7", undoes: int | None = None) -> int:
    """Record a promotion, or the rollback of one; return its number."""
    former: dict[str, Any] = {"model_name": name, "model_version": version, "state": {}}
    row = {"stream_id": db.stream_id, "deployment_id": db.deployments["new"], "way_back": Jsonb({"kind": "none"}),
           "former": Jsonb(former), "promoted": Jsonb({"state": {}}), "decided_by": "me", "undoes": undoes}  # fmt: skip
    db.add("promotions", [row])
    return int(db.value("select max(promotion_id) from gnomon.promotions"))


@pytest.mark.timeout(600)
def test_the_former_model_scores_what_comes_after_the_promotion(
    db: Database, gnomon: Gnomon, database_url: str, mock_bootstrap: str, tmp_path: Path
) -> None:
    stream = Stream(mock_bootstrap, "s")
    stream.publish_schema()
    stream.send(20)
    promoted(db)
    model = sum_model(tmp_path / "old.onnx", "amount")
    process = gnomon.start(
        "run", "--stream", "s", "--bootstrap-servers", mock_bootstrap, "--database-url", database_url,
        "--former", model, "--no-labels",
    )  # fmt: skip
    process.wait_for("event=assigned component=score", TIMEOUT_S)
    stream.send(30)
    deadline = time.monotonic() + TIMEOUT_S
    seen: list[tuple[object, ...]] = []
    wanted = [("former-live-1", "challenger", "fraud", "7", 30)]
    while seen != wanted and time.monotonic() < deadline and process.popen.poll() is None:
        time.sleep(0.2)
        seen = db.connection.execute(
            "select d.name, d.role, d.model_name, d.model_version, sum(w.joined_seen)::int from gnomon.deployments d"
            " join gnomon.windows w using (deployment_id) where d.name like 'former%' group by 1, 2, 3, 4"
        ).fetchall()
    assert seen == wanted, process.output
    assert process.terminate(60) == 0, process.output


def test_without_a_promotion_that_stands_there_is_no_former_model(
    db: Database, gnomon: Gnomon, database_url: str
) -> None:
    def refused(*more: str, stream: str = "s") -> str:
        done = gnomon.run("run", "--stream", stream, "--database-url", database_url, "--former", "gnomon.toml", *more)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.count("\n") == 1
        return done.stderr

    (gnomon.cwd / "gnomon.toml").write_text("")
    assert "no promotion of stream s is in effect" in refused()
    assert "no promotion of stream elsewhere is in effect" in refused(stream="elsewhere")
    first = promoted(db)
    promoted(db, undoes=first)
    assert "no promotion of stream s is in effect" in refused()
    promoted(db, None, None)
    assert "promotion 3 does not say which model was live before it" in refused()
    promoted(db)
    assert "a deployment is named twice: former-live-4" in refused("--challenger", "former-live-4=gnomon.toml")
    done = gnomon.run("run", "--stream", "s", "--database-url", database_url, "--former", "nowhere.onnx")
    assert (done.returncode, "former-live-4, nowhere.onnx: no such file" in done.stderr) == (2, True)
