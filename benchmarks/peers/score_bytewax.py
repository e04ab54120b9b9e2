"""bytewax: a dataflow from Kafka to Kafka, one by one or in batches (`op.flat_map_batch`)."""

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow
from bytewax.testing import cluster_main

from benchmarks.peers.common import Scoring, job


def flow() -> Dataflow:
    run = job()
    scoring = Scoring(run.folder)
    dataflow = Dataflow("score")
    source = KafkaSource(
        [run.bootstrap],
        [run.source],
        tail=True,
        add_config={"fetch.queue.backoff.ms": "5"},
        batch_size=max(run.batch, 1000),
    )
    target = KafkaSink([run.bootstrap], run.target, add_config={"linger.ms": "5", "compression.type": "lz4"})

    def one(message: KafkaSourceMessage) -> KafkaSinkMessage:
        return KafkaSinkMessage(message.key, scoring.one(message.value, message.partition, message.offset))

    def many(messages: list[KafkaSourceMessage]) -> list[KafkaSinkMessage]:
        outcomes = scoring.many([(m.value, m.partition, m.offset) for m in messages])
        return [KafkaSinkMessage(m.key, outcome) for m, outcome in zip(messages, outcomes, strict=True)]

    captures = op.input("captures", dataflow, source)
    outcomes = op.map("score", captures, one) if run.batch == 1 else op.flat_map_batch("score", captures, many)
    op.output("outcomes", outcomes, target)
    return dataflow


if __name__ == "__main__":
    cluster_main(flow(), [], 0)
