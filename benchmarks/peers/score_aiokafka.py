"""aiokafka: `getmany` and `send` without awaiting each delivery."""

import asyncio

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks.peers.common import Scoring, job


async def main() -> None:
    run = job()
    scoring = Scoring(run.folder)
    consumer = AIOKafkaConsumer(
        run.source, bootstrap_servers=run.bootstrap, group_id=run.group, auto_offset_reset="earliest"
    )
    producer = AIOKafkaProducer(bootstrap_servers=run.bootstrap, linger_ms=5, compression_type="lz4")
    await producer.start()
    await consumer.start()
    while True:
        batches = await consumer.getmany(timeout_ms=100, max_records=run.batch)
        messages = [message for batch in batches.values() for message in batch]
        if not messages:
            continue
        outcomes = scoring.many([(m.value, m.partition, m.offset) for m in messages])
        for message, outcome in zip(messages, outcomes, strict=True):
            await producer.send(run.target, outcome, key=message.key, partition=message.partition)


if __name__ == "__main__":
    asyncio.run(main())
