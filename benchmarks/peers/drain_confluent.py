"""`consume()` alone, batches of 1,000: the least that any Python consumer of librdkafka pays for a message."""

from confluent_kafka import Producer

from benchmarks.peers.common import job, subscribed


def main() -> None:
    run = job()
    consumer = subscribed(run, {"enable.auto.commit": False}, run.source)
    report = Producer({"bootstrap.servers": run.bootstrap})
    seen = 0
    while True:
        messages = consumer.consume(1000, timeout=0.1)
        seen += len(messages)
        if messages:
            # One small message a batch tells the harness how far this is; its offset is what counts.
            report.produce(run.target, str(seen).encode(), partition=0)
            report.poll(0)


if __name__ == "__main__":
    main()
