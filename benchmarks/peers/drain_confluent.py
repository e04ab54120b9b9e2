"""`consume()` alone, batches of 1,000: the minimum cost of a message for any Python consumer of librdkafka."""

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
            # One small message a batch shows the harness the progress; its offset is the count.
            report.produce(run.target, str(seen).encode(), partition=0)
            report.poll(0)


if __name__ == "__main__":
    main()
