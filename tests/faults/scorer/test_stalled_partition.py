"""One partition stalls while others progress: it is named within a minute, in the log and in the metrics."""

import re
import time
import uuid
from pathlib import Path

import pytest
from confluent_kafka import Producer
from tests.support.live_stream import sum_model
from tests.support.score_command import prepare, start
from tests.support.servers.process import Gnomon

NAMED_WITHIN_S = 60.0


@pytest.mark.kafka
@pytest.mark.timeout(600)
def test_a_partition_behind_a_hanging_transaction_is_named_within_a_minute(
    gnomon: Gnomon, kafka_bootstrap: str, tmp_path: Path
) -> None:
    """Readers do not get messages after a transaction that never ends."""
    name = f"stall-{uuid.uuid4().hex[:8]}"
    stream = prepare(gnomon, kafka_bootstrap, name)
    stream.publish_schema()
    partitions = len(stream.producer.list_topics(stream.live, timeout=10).topics[stream.live].partitions)
    assert partitions >= 2
    stream.send(10 * partitions, partition=lambda index: index % partitions)
    model = sum_model(tmp_path / "m.onnx", "amount")
    scorer = start(gnomon, kafka_bootstrap, name, model, "--metrics", "127.0.0.1:0")
    scorer.wait_for("event=scoring")
    stuck = Producer(
        {"bootstrap.servers": kafka_bootstrap, "transactional.id": uuid.uuid4().hex, "transaction.timeout.ms": 300_000}
    )
    stuck.init_transactions(30)
    stuck.begin_transaction()
    stuck.produce(stream.live, stream.capture("held"), b"held", partition=1)
    assert stuck.flush(30) == 0
    began = time.monotonic()
    while not any("partition stalled" in line for line in scorer.output.splitlines()):
        assert time.monotonic() - began < NAMED_WITHIN_S, scorer.output
        stream.send(partitions, partition=lambda index: index)  # traffic continues, also in the stalled partition
        scorer.popen.poll()
        time.sleep(1)  # the pace of the traffic
    line = scorer.wait_for("partition stalled")
    assert re.search(r"partition=1 ", line)
    assert scorer.output.count("partition stalled") == 1, "the others move"
    status, page = scorer.page("/metrics")
    assert status == 200
    stalled = dict(re.findall(r'gnomon_score_partition_stalled_seconds\{.*partition="(\d+)".*\} (\S+)', page))
    assert float(stalled.pop("1")) >= 30
    assert all(float(seconds) < 30 for seconds in stalled.values())
    stuck.abort_transaction(30)
    scorer.wait_for("partition makes progress again.*partition=1 ")
    assert scorer.terminate(60) == 0
