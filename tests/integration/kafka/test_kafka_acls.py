"""The rights of docs/kafka-acls.md, granted line by line, suffice for a stream from capture to pairs."""

import json
import uuid
from pathlib import Path

import psycopg
import pytest
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from tests.support.acls import documented, grant
from tests.support.live_stream import Stream, sum_model
from tests.support.servers.process import Gnomon
from tests.support.servers.secured import ADMIN, Secured


def test_a_stream_runs_under_the_documented_rights_and_no_others(
    secured: Secured, gnomon: Gnomon, database_url: str, stream_name: str, tmp_path: Path
) -> None:
    rules = documented(stream_name, "boost")
    users = {component: f"{component}-{uuid.uuid4().hex[:6]}" for component, *_ in rules}
    assert set(users) == {"hook", "score", "join", "labels"}
    where = ("--stream", stream_name, "--bootstrap-servers", secured.plain)

    def run(component: str, *arguments: str) -> str:
        properties = secured.properties(users.get(component, ADMIN))
        done = gnomon.run(*arguments, *where, env={"GNOMON_KAFKA__PROPERTIES": json.dumps(properties)}, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stderr

    run("operator", "topics", "create", "--partitions", "2", "--deployment", "boost")
    grant(secured, users, rules)
    hook = Producer(
        {"bootstrap.servers": secured.plain, **secured.properties(users["hook"]), "enable.idempotence": True}
    )
    live = Stream(secured.plain, stream_name)
    live.producer = hook
    live.publish_schema()
    live.send(40, values={7: b"no capture at all"})
    hook.produce(f"gnomon.{stream_name}.labels", b"no label", b"r")
    assert hook.flush(60) == 0
    model = str(sum_model(tmp_path / "sum.onnx", "amount"))
    score = ("score", "--deployment", "boost", "--model", model, "--no-sampling", "--exit-when-idle=1")
    assert "DescribeConfigs" not in run("score", *score)
    run("operator", "topics", "create", "--partitions", "3")
    hook.list_topics(live.live)
    live.send(20, partition=lambda _: 2)
    run("score", *score)  # the scorer adds a partition to its shadow topic
    run("join", "join", "--deployment", "boost", "--database-url", database_url, "--drain")
    run("labels", "labels", "consume", "--database-url", database_url, "--drain")
    with psycopg.connect(database_url) as connection:
        pairs = connection.execute(
            "select (select count(*) from gnomon.pairs), (select count(*) from gnomon.dead_letters)"
        ).fetchone()
    assert pairs == (59, 1)
    for component in ("score", "join", "labels"):
        with pytest.raises(KafkaException) as denied:
            write(secured, users[component], f"gnomon.{stream_name}.live")
        assert denied.value.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED, "the shadow only observes"


def write(cluster: Secured, user: str, topic: str) -> None:
    """Write a message; raise the broker's error."""
    refused: list[KafkaError] = []
    producer = Producer({"bootstrap.servers": cluster.plain, **cluster.properties(user)})

    def note(error: KafkaError | None, _: Message) -> None:
        refused.extend([error] if error else [])

    producer.produce(topic, b"x", on_delivery=note)
    producer.flush(60)
    if refused:
        raise KafkaException(refused[0])
