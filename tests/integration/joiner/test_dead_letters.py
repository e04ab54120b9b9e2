"""Dead letters with the real scorer: listed with their reasons, shown with their bytes, replayed exactly once."""

import hashlib
import json
import time
from pathlib import Path

import psycopg
import pytest
from tests.support import join_processes
from tests.support.join_processes import arguments
from tests.support.joined_database import drain
from tests.support.joined_windows import READER, one, sink_of, window
from tests.support.live_stream import sum_model
from tests.support.logs import Logs, identity, row
from tests.support.servers.process import Gnomon

from gnomon_consumer.database import maintenance
from gnomon_consumer.joiner.postgres.dead_letters import LetterSink
from gnomon_consumer.kafka import topics
from gnomon_consumer.settings import load_settings
from gnomon_schemas.codec import Codec
from gnomon_schemas.features import FeatureSchema
from gnomon_schemas.topics import Topics


def test_a_letter_is_replayed_once_its_schema_is_known(
    gnomon: Gnomon, kafka_bootstrap: str, stream_name: str, database_url: str, tmp_path: Path
) -> None:
    broker = kafka_bootstrap
    topics.create(load_settings({"bootstrap_servers": broker}), topics.plan(Topics(stream_name), 4, ["challenger"]))
    logs = Logs(broker, stream_name)
    logs.captured = {partition: [] for partition in range(4)}
    logs.capture(30)
    evolved = FeatureSchema.of({"amount": "double", "extra": "double"}).live
    known, logs.live_codec = logs.live_codec, Codec(evolved)
    logs.capture(2, partition=1, features={"amount": 40.0, "extra": 1.0})
    logs.live_codec = known
    logs.live(2, "garbage", b"no capture at all")
    logs.producer.flush(60)
    model = sum_model(tmp_path / "model.onnx", "amount")
    options = arguments(broker, stream_name, database_url)
    scored = gnomon.run("score", *options[:6], "--model", str(model), "--exit-when-idle", "1", timeout=120)
    assert scored.returncode == 0, scored.stderr
    drain(logs, database_url)
    base = (*options[:4], *options[6:])

    listed = json.loads(gnomon.enter("dlq", "list", *options[2:4], *options[6:], "--json").stdout)
    place = {(letter["source_partition"], letter["source_offset"]): letter["reason"] for letter in listed}
    unknown = [(1, len(logs.captured[1]) - 2), (1, len(logs.captured[1]) - 1)]
    garbage = (2, len(logs.captured[2]) - 1)
    assert place == {**dict.fromkeys(unknown, "unknown_schema"), garbage: "framing"}
    shown = json.loads(gnomon.enter("dlq", "show", *base, *map(str, garbage)).stdout)
    assert bytes.fromhex(shown["live"]["value"]) == b"no capture at all"

    logs.producer.produce(logs.topics.schemas, evolved.text.encode(), str(evolved.fingerprint), partition=0)
    logs.producer.flush(60)
    with psycopg.connect(database_url) as connection:
        connection.execute("update gnomon.dead_letters set request_id = 'x' || request_id where source_partition = 1")
    replay = ("dlq", "replay", *options, "--model", str(model), "--json")
    elsewhere = json.loads(gnomon.enter(*replay).stdout)
    assert [letter["outcome"][:22] for letter in elsewhere[:2]] == ["stays: another request"] * 2
    with psycopg.connect(database_url) as connection:
        connection.execute("update gnomon.dead_letters set request_id = ltrim(request_id, 'x')")
    first = gnomon.enter(*replay)
    assert (first.returncode, bool(first.stdout)) == (1, True), first.stderr  # the unreadable one stays
    assert sorted(letter["outcome"][:6] for letter in json.loads(first.stdout)) == ["paired", "paired", "stays:"]
    second = json.loads(gnomon.enter(*replay).stdout)
    assert [letter["outcome"][:6] for letter in second] == ["stays:"]
    with psycopg.connect(database_url) as connection:
        assert maintenance.ledger_differences(connection, stream_name) == []
        assert one(connection, "select count(*), count(*) filter (where replayed) from gnomon.pairs") == (32, 2)
        replayed = connection.execute("select shadow_value from gnomon.pairs where replayed").fetchall()
        assert replayed == [(40.0,), (40.0,)]
        assert one(
            connection, "select sum(joined_scored), sum(joined_dead_lettered), sum(dead_lettered) from gnomon.cells"
        ) == (32, 1, 3)
        rolled = "select sum(seen), sum(sampled), sum(scored), sum(dead_lettered) from gnomon.rollups"
        assert one(connection, rolled) == (33, 33, 32, 1)
    wrong = sum_model(tmp_path / "another.onnx", "amount", "extra")
    refused = gnomon.enter("dlq", "replay", *options, "--model", str(wrong))
    assert refused.returncode == 2
    assert "the deployment's own model" in refused.stderr


def test_two_replays_at_once_move_a_letter_once(database_url: str) -> None:
    with psycopg.connect(database_url) as mine, psycopg.connect(database_url) as theirs:
        first, _ = sink_of(mine), sink_of(theirs)
        second = LetterSink(theirs, "s", "challenger")
        joined = window(0, 3, changes={1: {"capture_probability": 0.0}})
        (value,) = [match.value for match in window(0, 3).matches if match.shadow["source_offset"] == 1]
        assert first.apply([joined], READER) == 2
        shadow = row(0, 1, "r1", joined.seal.window_id)
        outcomes: list[str] = []

        def meanwhile(point: str) -> None:
            if point == "taken":
                theirs.execute("set lock_timeout = '200ms'")
                try:
                    outcomes.append(second.replay(shadow, 0, "", value or b"", READER))
                except psycopg.errors.LockNotAvailable:
                    outcomes.append("waits")

        racing = LetterSink(mine, "s", "challenger", meanwhile)
        assert racing.replay(shadow, 0, "", value or b"", READER) == "paired"
        assert second.replay(shadow, 0, "", value or b"", READER) == "gone"
        assert outcomes == ["waits"]
        assert one(mine, "select count(*) from gnomon.pairs") == (3,)
        assert maintenance.ledger_differences(mine, "s") == []


@pytest.mark.parametrize(("point", "moved"), [("taken", 0), ("moved", 1)])
def test_a_replay_killed_around_its_commit(database_url: str, point: str, moved: int) -> None:
    """Before the commit the letter is unchanged, after it the pair exists; a second attempt moves it once."""
    with psycopg.connect(database_url) as connection:
        sink = sink_of(connection)
        joined = window(0, 3, changes={1: {"capture_probability": 0.0}})
        (value,) = [match.value for match in window(0, 3).matches if match.shadow["source_offset"] == 1]
        assert sink.apply([joined], READER) == 2
        shadow = row(0, 1, "r1", joined.seal.window_id)
        process = join_processes.replay_killed_at(database_url, point, shadow, value or b"")
        process.join(60)
        assert process.exitcode == -9
        stand = "select (select count(*) from gnomon.pairs), (select count(*) from gnomon.dead_letters)"
        assert one(connection, stand) == (2 + moved, 1 - moved)
        assert maintenance.ledger_differences(connection, "s") == []
        again = LetterSink(connection, "s", "challenger").replay(shadow, 0, "", value or b"", READER)
        assert again == ("gone" if moved else "paired")
        assert one(connection, stand) == (3, 0)
        assert maintenance.ledger_differences(connection, "s") == []


def test_a_replay_killed_at_any_moment_moves_each_letter_once(
    gnomon: Gnomon, kafka_bootstrap: str, stream_name: str, database_url: str, tmp_path: Path
) -> None:
    """The shipped command is killed three times with letters moved and letters left; in the end each moved once."""
    model = sum_model(tmp_path / "model.onnx", "amount")
    topics.create(
        load_settings({"bootstrap_servers": kafka_bootstrap}), topics.plan(Topics(stream_name), 4, ["challenger"])
    )
    logs = Logs(kafka_bootstrap, stream_name)
    sha256 = hashlib.sha256(model.read_bytes()).hexdigest()
    logs.begin(*identity(kafka_bootstrap, logs.topics.live), model={"name": "sum", "version": "1", "sha256": sha256})
    count = 300
    logs.capture(count)
    logs.score(prediction=None, error={"kind": "dead_letter", "message": "unknown_schema: not published yet"})
    options = arguments(kafka_bootstrap, stream_name, database_url)
    drain(logs, database_url)
    replay = ("dlq", "replay", *options, "--model", str(model), "--json")
    with psycopg.connect(database_url, autocommit=True) as connection, psycopg.connect(database_url) as holding:
        stand = "select (select count(*) from gnomon.pairs), (select count(*) from gnomon.dead_letters)"
        assert one(connection, stand) == (0, count)
        # The last letter cannot move during this transaction, so no run has finished when it is killed.
        holding.execute(
            "select from gnomon.dead_letters order by source_partition desc, source_offset desc limit 1 for update"
        )
        for _ in range(3):
            before = one(connection, stand)[0]
            process = gnomon.start(*replay)
            deadline = time.monotonic() + 120
            while one(connection, stand)[0] < before + 20:
                assert process.popen.poll() is None, process.output
                assert time.monotonic() < deadline, process.output
                time.sleep(0.01)
            assert process.kill() == -9
            pairs, letters = one(connection, stand)
            assert pairs + letters == count
            assert letters > 0
            assert maintenance.ledger_differences(connection, stream_name) == []
        holding.rollback()
        ended = gnomon.run(*replay)
        assert ended.returncode == 0, ended.stderr
        assert len(json.loads(ended.stdout)) <= letters  # a commit in progress at the last kill may arrive later
        names = "count(*), count(distinct (source_partition, source_offset)), count(*) filter (where replayed)"
        assert one(connection, f"select {names} from gnomon.pairs") == (count, count, count)
        assert one(connection, stand) == (count, 0)
        assert one(connection, "select sum(joined_scored), sum(joined_dead_lettered) from gnomon.cells") == (count, 0)
        assert one(connection, "select sum(scored), sum(dead_lettered) from gnomon.rollups") == (count, 0)
        assert maintenance.ledger_differences(connection, stream_name) == []
