"""Versions at the same time: the code of the first development version, and records of a later version."""

import io
import json
import os
import subprocess
import sys
import tarfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.support import logs
from tests.support.live_stream import read_all, sum_model
from tests.support.logs import Logs, make_logs
from tests.support.servers.process import Gnomon
from tests.support.servers.shared import ROOT
from tests.support.tap import GOOD, make_tap

from gnomon_consumer.database import maintenance
from gnomon_consumer.kafka import clients
from gnomon_consumer.scorer.intake import own_schemas
from gnomon_consumer.scorer.intake.shadow_tail import ShadowLog
from gnomon_consumer.settings import load_settings
from gnomon_schemas.codec import Codec, Record
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.schema import Schema, record_schema
from gnomon_schemas.store import TopicSchemas

FIRST_VERSION = "cca51af96a6c1caedeb2a2b6c42c319960f5c310"
PARTS = ("producer", "schemas", "consumer", "migrations")


class Version:
    """The command of another version of the code, in today's environment."""

    def __init__(self, code: Path, folder: Path, **settings: str) -> None:
        own = [str(code / part) for part in PARTS]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("GNOMON_")}
        self._environment = clean | {"PYTHONPATH": os.pathsep.join(own)} | settings
        self._folder = folder

    def __call__(self, *arguments: object) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "gnomon_consumer", *map(str, arguments)],
            env=self._environment, cwd=self._folder, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def code_of_first_version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the packages of the first development version, if this is a clone with its history."""
    kept = subprocess.run(
        ["git", "-C", str(ROOT), "archive", "--format=tar", FIRST_VERSION, *PARTS], capture_output=True, check=False
    )
    if kept.returncode != 0:
        pytest.skip("the history of the repository does not reach back to the first development version")
    folder = tmp_path_factory.mktemp("release")
    with tarfile.open(fileobj=io.BytesIO(kept.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture
def versions(
    code_of_first_version: Path, tmp_path: Path, mock_bootstrap: str, empty_database_url: str
) -> tuple[Version, Version, Path]:
    """Return the commands of both versions on one stream, and a model."""
    settings = {
        "GNOMON_BOOTSTRAP_SERVERS": mock_bootstrap,
        "GNOMON_STREAM": "side-by-side",
        "GNOMON_DATABASE_URL": empty_database_url,
    }
    then, now = (Version(code, tmp_path, **settings) for code in (code_of_first_version, ROOT))
    now("topics", "create", "--deployment", "new")
    return then, now, sum_model(tmp_path / "model.onnx", "amount")


def capture(bootstrap: str, first: int, count: int) -> None:
    with closing(make_tap(bootstrap, "side-by-side")) as tap:
        for number in range(first, first + count):
            tap.record(f"r{number}", GOOD, value=12.5)
        assert tap.flush(60)


def ledger(version: Version) -> dict[str, Any]:
    (row,) = json.loads(version("report", "ledger", "--format", "json"))["rows"]
    return {name: row[name] for name in ("seen", "paired", "scored", "orphaned", "balanced")}


def closed(captures: int) -> dict[str, Any]:
    return {"seen": captures, "paired": captures, "scored": captures, "orphaned": 0, "balanced": True}


@pytest.mark.timeout(900)
def test_in_the_order_of_the_guide_the_first_version_and_today_work_side_by_side(
    versions: tuple[Version, Version, Path], mock_bootstrap: str, empty_database_url: str
) -> None:
    then, now, model = versions
    score = ("score", "--deployment", "new", "--model", model, "--exit-when-idle", "0.5")
    join = ("join", "--deployment", "new", "--drain")
    capture(mock_bootstrap, 0, 40)
    then("db", "upgrade")
    then(*score)
    then(*join)
    # The database and the joiner, while the scorer is still the old one.
    now("db", "upgrade")
    capture(mock_bootstrap, 40, 40)
    then(*score)
    now(*join)
    assert ledger(now) == closed(80)
    # The scorer last.
    capture(mock_bootstrap, 80, 40)
    now(*score)
    now(*join)
    assert ledger(now) == closed(120)
    with psycopg.connect(empty_database_url) as connection:
        assert maintenance.ledger_differences(connection, "side-by-side") == []


@pytest.mark.timeout(900)
def test_a_scorer_of_today_before_its_joiner(versions: tuple[Version, Version, Path], mock_bootstrap: str) -> None:
    """The wrong order: the older joiner reads from the topic of schemas what it does not know."""
    then, now, model = versions
    capture(mock_bootstrap, 0, 40)
    then("db", "upgrade")
    now("score", "--deployment", "new", "--model", model, "--exit-when-idle", "0.5")
    then("join", "--deployment", "new", "--drain")
    assert ledger(then) == closed(40)


def later(name: str) -> Schema:
    """Return a record as a later version may write it: with fields that this version does not know."""
    known = json.loads(record_schema(name).text)
    known["fields"].insert(1, {"name": "invented", "type": "string", "default": ""})
    known["fields"].append({"name": "more", "type": ["null", {"type": "array", "items": "double"}], "default": None})
    return Schema.parse(json.dumps(known).encode())


class LaterCodec:
    """Encodes records with the additional fields."""

    def __init__(self, name: str) -> None:
        self.schema = later(name)
        self._codec = Codec(self.schema)

    def encode(self, record: Record) -> bytes:
        return self._codec.encode({**record, "invented": "tomorrow", "more": [0.5, 1.5]})


@pytest.fixture
def written_later(monkeypatch: pytest.MonkeyPatch, mock_bootstrap: str) -> Logs:
    """A shadow log whose records are of a later version."""
    for name in own_schemas.WRITTEN:
        monkeypatch.setitem(logs.CODECS, name, LaterCodec(name))
    made = make_logs(mock_bootstrap, "later")
    made.capture(60)
    made.score(0.5)
    return made


JOIN = ("join", "--deployment", "challenger", "--drain", "--stream", "later")


def test_todays_joiner_reads_what_a_later_scorer_published(
    gnomon: Gnomon, written_later: Logs, database_url: str
) -> None:
    publish_later(written_later)
    joined = gnomon.run(*JOIN, "--bootstrap-servers", written_later.bootstrap, "--database-url", database_url)
    assert joined.returncode == 0, joined.stderr
    with psycopg.connect(database_url) as connection:
        found = connection.execute("select count(*), count(shadow_value) from gnomon.pairs").fetchone()
        seen = connection.execute("select sum(seen)::int from gnomon.windows").fetchone()
        assert maintenance.ledger_differences(connection, "later") == []
    sampled = sum(map(len, written_later.sampled.values()))
    assert (found, seen) == ((sampled, sampled), (60,))
    assert sampled > 5


def test_what_a_later_scorer_did_not_publish_stops_the_joiner_with_the_fingerprint(
    gnomon: Gnomon, written_later: Logs, database_url: str
) -> None:
    joined = gnomon.run(*JOIN, "--bootstrap-servers", written_later.bootstrap, "--database-url", database_url)
    assert joined.returncode != 0
    assert str(later("DeploymentStart").fingerprint) in joined.stderr
    assert "Traceback" not in joined.stderr
    with psycopg.connect(database_url) as connection:
        assert connection.execute("select count(*) from gnomon.pairs").fetchone() == (0,)


def publish_later(made: Logs) -> None:
    for name in own_schemas.WRITTEN:
        schema = later(name)
        made.producer.produce(made.topics.schemas, schema.text, str(schema.fingerprint), 0)
    assert made.producer.flush(60) == 0


@pytest.mark.parametrize("published", [True, False])
def test_a_scorer_that_is_put_back_scores_nothing_twice(written_later: Logs, published: bool) -> None:
    """It knows how far its successor came, or refuses to guess."""
    if published:
        publish_later(written_later)
    settings = load_settings({"bootstrap_servers": written_later.bootstrap, "stream": "later"})
    shadow = ShadowLog(
        settings, written_later.topics.shadow("challenger"), written_later.topics.schemas, time.monotonic
    )
    with closing(shadow):
        if published:
            assert shadow.tail(0, lambda: False).end_offset == len(written_later.captured[0])
        else:
            with pytest.raises(ConfigurationError, match=r"\[0\], offset \d+: no schema .*a later version of Gnomon"):
                shadow.tail(0, lambda: False)


def names_published(bootstrap: str, topic: str) -> set[str]:
    store = TopicSchemas({"bootstrap.servers": bootstrap}, topic)
    try:
        store.refresh()
        return {name for name in own_schemas.WRITTEN if store.holds(record_schema(name).fingerprint)}
    finally:
        store.close()


def test_the_schemas_of_outcomes_are_published_once_and_are_none_of_captures(mock_bootstrap: str) -> None:
    settings = load_settings({"bootstrap_servers": mock_bootstrap, "stream": "later"})
    made = make_logs(mock_bootstrap, "later")
    topic = made.topics.schemas
    made.producer.list_topics(topic, timeout=10)  # on the mock, a metadata request creates the topic
    for _ in range(2):
        own_schemas.publish(settings, topic)
        assert names_published(mock_bootstrap, topic) == set(own_schemas.WRITTEN)
    assert len(read_all(mock_bootstrap, topic)[0]) == 1 + len(own_schemas.WRITTEN)
    store = TopicSchemas({"bootstrap.servers": mock_bootstrap}, topic)
    store.refresh()
    assert [schema.name for schema in store.live_schemas()] == ["gnomon.v1.LivePrediction"]
    store.close()


def test_a_topic_that_is_not_there_is_not_made(kafka_bootstrap: str, stream_name: str) -> None:
    settings = load_settings({"bootstrap_servers": kafka_bootstrap, "stream": stream_name})
    topic = f"gnomon.{stream_name}.schemas"
    own_schemas.publish(settings, topic)
    assert topic not in clients.list_topics(settings).topics
    nobody = load_settings({"bootstrap_servers": "127.0.0.1:1", "kafka": {"timeout_seconds": 1}})
    own_schemas.publish(nobody, topic)
