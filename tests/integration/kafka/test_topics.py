"""`gnomon topics create` on the mock and on real Kafka."""

import json

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource
from tests.support.command import Command
from tests.support.joined_database import wait_until
from tests.support.servers.ports import free_port

from gnomon_consumer.kafka.topics import _create_one, plan
from gnomon_consumer.settings import load_settings
from gnomon_schemas.topics import Topics


def create(command: Command, bootstrap: str, stream: str, *arguments: str) -> dict[str, tuple[int, str]]:
    done = command(
        "topics",
        "create",
        "--json",
        "--stream",
        stream,
        "--bootstrap-servers",
        bootstrap,
        "--deployment",
        "boost",
        *arguments,
    )
    assert done.returncode == 0, done.stderr
    made = {row["topic"]: (row["partitions"], row["outcome"]) for row in json.loads(done.stdout)}
    admin = AdminClient({"bootstrap.servers": bootstrap})

    def shown() -> bool:
        """Return whether the broker shows what its controller has confirmed, which may take a moment."""
        found = admin.list_topics(timeout=10).topics
        return all(name in found and len(found[name].partitions) == count for name, (count, _) in made.items())

    wait_until(shown)
    return made


def test_create_then_grow_on_kafka(command: Command, kafka_bootstrap: str, stream_name: str) -> None:
    def name(kind: str) -> str:
        return f"gnomon.{stream_name}.{kind}"

    assert create(command, kafka_bootstrap, stream_name, "--partitions", "3") == {
        name("live"): (3, "created"),
        name("shadow.boost"): (3, "created"),
        name("labels"): (3, "created"),
        name("schemas"): (1, "created"),
        name("producers"): (1, "created"),
        name("dlq"): (3, "created"),
    }
    admin = AdminClient({"bootstrap.servers": kafka_bootstrap})
    wanted = {"live": "delete", "shadow.boost": "delete", "labels": "delete", "schemas": "compact", "dlq": "delete"}
    resources = {kind: ConfigResource(ConfigResource.Type.TOPIC, name(kind)) for kind in wanted}
    described = admin.describe_configs(list(resources.values()))
    policies = {kind: described[item].result()["cleanup.policy"].value for kind, item in resources.items()}
    assert policies == wanted
    grown = create(command, kafka_bootstrap, stream_name, "--partitions", "6")
    assert grown[name("live")] == (6, "grown")
    assert grown[name("shadow.boost")] == (6, "grown")
    assert {kind: grown[name(kind)] for kind in ("labels", "schemas", "producers", "dlq")} == {
        "labels": (3, "exists"),
        "schemas": (1, "exists"),
        "producers": (1, "exists"),
        "dlq": (3, "exists"),
    }
    shrunk = create(command, kafka_bootstrap, stream_name, "--partitions", "2")
    assert shrunk[name("live")] == (6, "exists")


@pytest.mark.parametrize("partitions", [2, 6])
def test_another_deployment_never_grows_the_live_topic(
    command: Command, kafka_bootstrap: str, stream_name: str, partitions: int
) -> None:
    create(command, kafka_bootstrap, stream_name, "--partitions", str(partitions))
    outcome = create(command, kafka_bootstrap, stream_name, "--deployment", "new")
    live = f"gnomon.{stream_name}.live"
    assert outcome.pop(f"gnomon.{stream_name}.shadow.new") == (partitions, "created")
    assert outcome[live] == (partitions, "exists")
    assert {result for _, result in outcome.values()} == {"exists"}
    fewer = create(command, kafka_bootstrap, stream_name, "--partitions", "1", "--deployment", "third")
    assert fewer[f"gnomon.{stream_name}.shadow.third"] == (partitions, "created"), "one for each live partition"
    assert fewer[live] == (partitions, "exists")


def test_the_mock_only_gets_its_topics_touched(command: Command, mock_bootstrap: str, stream_name: str) -> None:
    created = create(command, mock_bootstrap, stream_name)
    assert set(created.values()) == {(4, "touched")}
    assert f"gnomon.{stream_name}.shadow.boost" in created


def test_a_missing_broker_is_status_3_and_one_line(command: Command) -> None:
    address = f"127.0.0.1:{free_port()}"
    environment = {"GNOMON_KAFKA__TIMEOUT_SECONDS": "1"}
    done = command("topics", "create", "--stream", "s", "--bootstrap-servers", address, env=environment)
    assert done.returncode == 3
    assert address in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "GNOMON_STREAM"),
        (("--stream", "a.b"), "GNOMON_STREAM (file key stream): 'a.b'"),
        (("--stream", "s", "--deployment", "a/b"), "deployment 'a/b'"),
        (("--stream", "s", "-X", "no.such.property=1"), "no.such.property"),
    ],
)
def test_bad_usage_is_status_2_and_one_line(command: Command, arguments: tuple[str, ...], expected: str) -> None:
    done = command("topics", "create", *arguments)
    assert done.returncode == 2
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_topic_that_another_process_made_in_the_meantime_exists(
    command: Command, kafka_bootstrap: str, stream_name: str
) -> None:
    create(command, kafka_bootstrap, stream_name, "--partitions", "6")
    settings = load_settings({"bootstrap_servers": kafka_bootstrap})
    planned = plan(Topics(stream_name), 6)[0]
    for seen_before in (0, 3):  # what this process had read: no topic, or one with fewer partitions
        assert _create_one(settings, planned, seen_before, 1).outcome == "exists"
