"""`gnomon doctor` finds every fault, and each finding names the way out."""

import json
from collections import defaultdict
from datetime import UTC, datetime

import psycopg
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from tests.support.command import Command
from tests.support.join_processes import arguments
from tests.support.joined_database import drain
from tests.support.logs import make_logs

from gnomon_consumer.doctor import broker as examined
from gnomon_consumer.kafka import clients
from gnomon_schemas.codec import Codec
from gnomon_schemas.features import FeatureSchema

EARLY_LABELS = """
with load as (insert into gnomon.label_loads (stream_id, file, sha256, complete_until)
              select stream_id, 'f', '', now() from gnomon.streams returning load_id, stream_id)
insert into gnomon.labels (stream_id, load_id, request_id, observed_at, value)
select stream_id, load_id, request_id, event_time + (source_offset - 3.5) * interval '1 hour', 1
from gnomon.pairs cross join load where source_partition = 1 and source_offset in (1, 2, 3, 4)
"""


def findings(command: Command, *options: str, **environment: str) -> tuple[int, dict[str, list[str]]]:
    ended = command("doctor", *options, "--json", env=environment)
    by_check: dict[str, list[str]] = {}
    for finding in json.loads(ended.stdout):
        by_check.setdefault(finding["check"], []).append(finding["status"])
        assert finding["status"] in ("ok", "note") or finding["remedy"]
    return ended.returncode, by_check


def test_the_doctor_finds_what_is_wrong(command: Command, broker: str, stream_name: str, database_url: str) -> None:
    options = arguments(broker, stream_name, database_url)
    checked = [*options[:4], *options[6:]]
    logs = make_logs(broker, stream_name)
    logs.capture(40)
    logs.score()
    drain(logs, database_url)
    status, found = findings(command, *checked)
    assert status == 0, found
    assert (found["ledger"], found["labels"]) == (["ok"], ["ok"])
    with psycopg.connect(database_url) as connection:
        connection.execute("delete from gnomon.pairs where source_partition = 2 and source_offset = 3")
        connection.execute(EARLY_LABELS)
    status, found = findings(command, *checked)
    assert status == 1
    assert (found["ledger"], found["labels"]) == (["failed"], ["note"])
    assert "3 requests have a label observed before their capture" in command("doctor", *checked).stdout


def test_the_doctor_says_what_is_missing(command: Command, mock_bootstrap: str, empty_database_url: str) -> None:
    options = ("--stream", "nosuch", "--database-url", empty_database_url)
    status, found = findings(command, *options, "--bootstrap-servers", mock_bootstrap)
    assert status == 1
    assert found["migrations"] == ["failed"]
    assert len(found["sandbox"]) == 8
    assert set(found["sandbox"]) <= {"ok", "note"}
    assert set(found["topics"]) == {"failed"}
    status, found = findings(command, *options, "--bootstrap-servers", "127.0.0.1:1", GNOMON_KAFKA__TIMEOUT_SECONDS="1")
    assert status == 3
    assert found["broker"] == ["unreachable"]


def test_a_remedy_stands_on_a_line_of_its_own(command: Command) -> None:
    asked = command("doctor", "--bootstrap-servers", "127.0.0.1:1", env={"GNOMON_KAFKA__TIMEOUT_SECONDS": "1"})
    assert asked.returncode == 3
    assert "no database_url is configured\n             -> give --database-url to check it\n" in asked.stdout
    assert "\\x0a" not in asked.stdout


@pytest.fixture
def stream(command: Command, kafka_bootstrap: str, stream_name: str, database_url: str) -> "Stream":
    """A stream on real Kafka, joined to its end."""
    return Stream(command, kafka_bootstrap, stream_name, database_url)


class Stream:
    """A joined stream, ways to damage it, and the doctor's findings."""

    def __init__(self, command: Command, bootstrap: str, name: str, url: str) -> None:
        self.command = command
        self.options = arguments(bootstrap, name, url)
        self.url = url
        self.logs = make_logs(bootstrap, name)
        self.logs.capture(40, captured_at=int(datetime.now(UTC).timestamp() * 1e6))
        self.logs.score()
        self.admin = AdminClient({"bootstrap.servers": bootstrap})
        drain(self.logs, url)

    def configure(self, topic: str, name: str, value: str) -> None:
        entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
        for future in self.admin.incremental_alter_configs([resource]).values():
            future.result()

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.url) as connection:
            connection.execute(statement)

    def doctor(self, *more: str) -> tuple[int, set[tuple[str, str, str]]]:
        """Return the exit status, and (check, status, text) of all findings that are not ok."""
        ended = self.command("doctor", *self.options[:4], *self.options[6:], *more, "--json")
        found = json.loads(ended.stdout)
        assert all(finding["remedy"] for finding in found if finding["status"] != "ok")
        return ended.returncode, {(f["check"], f["status"], f["text"]) for f in found if f["status"] != "ok"}


def test_every_fault_is_found(stream: Stream) -> None:
    topics = stream.logs.topics
    shadow = topics.shadow("challenger")
    status, before = stream.doctor()
    assert status == 0
    assert {(check, kind) for check, kind, _ in before} <= {
        ("roles", "note"), ("producers", "note"), ("partitions", "note"),
    }  # fmt: skip
    stream.configure(topics.labels, "cleanup.policy", "compact")
    stream.configure(topics.schemas, "cleanup.policy", "delete")
    stream.configure(shadow, "retention.ms", "1000000")
    stream.configure(topics.dead_letters, "retention.ms", "-1")
    unknown = FeatureSchema.of({"nobody": "double"}).live
    known, stream.logs.live_codec = stream.logs.live_codec, Codec(unknown)
    stream.logs.capture(1, partition=1, features={"nobody": 1.0})
    stream.logs.live_codec = known
    cut = [TopicPartition(topics.live, 3, -1)]
    stream.logs.capture(5, partition=3)
    for future in stream.admin.delete_records(cut).values():
        future.result()
    stream.execute("update gnomon.cells set joined_orphaned = 2 where source_partition = 0")
    stream.execute("update gnomon.join_progress set topic_id = 'of old' where source_partition = 1")
    status, after = stream.doctor("-X", "schema.registry.url=http://127.0.0.1:1")
    assert status == 3
    texts: dict[tuple[str, str], list[str]] = defaultdict(list)
    for check, kind, text in sorted(after - before):
        texts[check, kind].append(text)
    assert texts["topics", "failed"] == sorted(
        [
            f"{topics.labels} has cleanup.policy=compact",
            f"{topics.schemas} has cleanup.policy=delete",
            f"{shadow} has retention.ms=1000000, less than the live topic",
            f"{topics.dead_letters} has a longer retention.ms than the live topic, whose captures it holds",
        ]
    )
    (text,) = texts["retention", "failed"]
    assert text.endswith("5 captures expired unread")
    assert texts["orphans", "note"] == ["challenger: 2 orphans, 0 captures expired before the joiner counted them"]
    assert texts["identity", "failed"] == [f"challenger: read from another {topics.live}, which was re-created"]
    assert len(texts["ledger", "failed"]) == 1
    assert len(texts["registry", "unreachable"]) == 1
    status, after = stream.doctor()
    (text,) = [text for check, kind, text in after if (check, kind) == ("schemas", "failed")]
    assert text.startswith(f"{topics.live} [1], offset 10, cannot be read")


def test_partitions_are_looked_at(stream: Stream) -> None:
    stream.execute(
        "select gnomon.ensure_partition(1, now() - interval '100 days');update gnomon.streams set retention = '10 days'"
    )
    _, found = stream.doctor()
    (text,) = [text for check, _, text in found if check == "partitions" and "past retention" in text]
    assert text.startswith("1 past retention: pairs_")
    assert stream.command("db", "maintain", "--database-url", stream.url).returncode == 0
    _, found = stream.doctor()
    assert not [text for check, _, text in found if check == "partitions"]


def test_a_broker_that_cannot_hold_our_transactions() -> None:
    short = {"transaction.max.timeout.ms": str(clients.TRANSACTION_TIMEOUT_MS - 1)}
    (finding,) = examined._transactions("1", short)
    assert (finding.status, "transaction.max.timeout.ms" in finding.remedy) == ("failed", True)
    (finding,) = examined._transactions("1", {"transaction.max.timeout.ms": "900000"})
    assert finding.status == "ok"
