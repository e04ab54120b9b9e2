"""kafka-python: `poll` for many records and `send` without waiting."""

from kafka import KafkaConsumer, KafkaProducer

from benchmarks.peers.common import Scoring, job
from benchmarks.peers.kafka_python import versions


def main() -> None:
    run = job()
    scoring = Scoring(run.folder)
    broker = {"bootstrap_servers": run.bootstrap, **versions(run.bootstrap)}
    consumer = KafkaConsumer(run.source, group_id=run.group, auto_offset_reset="earliest", **broker)
    producer = KafkaProducer(linger_ms=5, compression_type="lz4", **broker)
    while True:
        batches = consumer.poll(timeout_ms=100, max_records=run.batch)
        messages = [message for batch in batches.values() for message in batch]
        if not messages:
            continue
        outcomes = scoring.many([(m.value, m.partition, m.offset) for m in messages])
        for message, outcome in zip(messages, outcomes, strict=True):
            producer.send(run.target, outcome, key=message.key, partition=message.partition)


if __name__ == "__main__":
    main()
