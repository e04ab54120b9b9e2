"""One broker with Kafka's own defaults, by which groups and transactions need three: every wait has a reason."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.live_stream import Stream, sum_model
from tests.support.servers.kafka_node import KafkaNode, single_node
from tests.support.servers.ports import free_port
from tests.support.servers.process import Gnomon
from tests.support.servers.shared import ServerUnavailableError
from tests.support.servers.tools import no_kafka


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap servers of that broker."""
    port = free_port()
    try:
        node = KafkaNode(tmp_path_factory.mktemp("bare"), "node", single_node(port))
    except ServerUnavailableError as reason:
        no_kafka(reason)
    try:
        node.wait_until_started()
        yield f"127.0.0.1:{port}"
    finally:
        node.kill()


def test_what_waits_for_a_coordinator_says_so(
    gnomon: Gnomon, bare: str, stream_name: str, database_url: str, tmp_path: Path
) -> None:
    where = ("--stream", stream_name, "--bootstrap-servers", bare)
    created = gnomon.enter("topics", "create", *where, "--deployment", "boost")
    assert created.returncode == 0, created.stderr
    Stream(bare, stream_name).publish_schema()
    stored = ("--database-url", database_url)
    waiting = [
        gnomon.start("join", *where, "--deployment", "boost", *stored),
        gnomon.start("labels", "consume", *where, *stored),
    ]

    found = gnomon.enter("doctor", *where)
    assert found.returncode == 1, found.stdout
    groups = (
        "failed       groups: __consumer_offsets needs 3 brokers, and there are 1: `gnomon join` and `gnomon labels"
        " consume` get no partitions\n             -> set offsets.topic.replication.factor=1 on every broker"
    )
    transactions = (
        "failed       transactions: __transaction_state needs 3 brokers, and there are 1: `gnomon score` cannot begin a"
        " transaction\n             -> set transaction.state.log.replication.factor=1 and"
        " transaction.state.log.min.isr=1 on every broker"
    )
    assert groups in found.stdout
    assert transactions in found.stdout

    model = sum_model(tmp_path / "sum.onnx", "amount")
    scored = gnomon.enter(
        "score", *where, "--deployment", "boost", "--model", model, env={"GNOMON_KAFKA__TIMEOUT_SECONDS": "3"}
    )
    assert scored.returncode == 3
    assert f"gnomon: Kafka at {bare} answers, but begins no transaction (" in scored.stderr
    assert "`gnomon doctor` checks" in scored.stderr

    for process in waiting:
        assert "`gnomon doctor` checks what brokers need for groups" in process.wait_for("no partitions")
        assert process.terminate() == 0
