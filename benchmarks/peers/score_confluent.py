"""confluent-kafka, by message (--batch 1) or in batches; offsets are stored as outcomes are produced."""

from confluent_kafka import KafkaException, Producer

from benchmarks.peers.common import Scoring, job, subscribed


def main() -> None:
    run = job()
    scoring = Scoring(run.folder)
    consumer = subscribed(run, {"enable.auto.offset.store": False}, run.source)
    producer = Producer({"bootstrap.servers": run.bootstrap, "linger.ms": 5, "compression.type": "lz4"})
    while True:
        if run.batch == 1:
            message = consumer.poll(1.0)
            messages = [] if message is None else [message]
        else:
            messages = consumer.consume(run.batch, timeout=0.1)
        for message in messages:
            if message.error():
                raise KafkaException(message.error())
        if not messages:
            continue
        outcomes = scoring.many([(m.value() or b"", m.partition() or 0, m.offset() or 0) for m in messages])
        for message, outcome in zip(messages, outcomes, strict=True):
            while True:
                try:
                    producer.produce(run.target, outcome, message.key(), partition=message.partition() or 0)
                    break
                except BufferError:
                    producer.poll(0.1)
        producer.poll(0)
        last = {message.partition(): message for message in messages}
        for message in last.values():
            consumer.store_offsets(message)


if __name__ == "__main__":
    main()
