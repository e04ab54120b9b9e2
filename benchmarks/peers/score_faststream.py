"""FastStream on confluent-kafka: a subscriber over raw bytes, one at a time or as a batch."""

import asyncio
import logging

from faststream import FastStream
from faststream.confluent import KafkaBroker, KafkaMessage

from benchmarks.peers.common import Scoring, job


def app() -> FastStream:
    run = job()
    scoring = Scoring(run.folder)
    broker = KafkaBroker(
        run.bootstrap,
        logger=None,
        log_level=logging.WARNING,
        config={"linger.ms": 5, "compression.type": "lz4"},
        allow_auto_create_topics=False,
    )
    publisher = broker.publisher(run.target)

    async def raw(message: KafkaMessage) -> KafkaMessage:
        return message

    if run.batch == 1:

        @broker.subscriber(run.source, group_id=run.group, auto_offset_reset="earliest", decoder=raw)
        async def score(message: KafkaMessage) -> None:
            inner = message.raw_message
            outcome = scoring.one(inner.value(), inner.partition(), inner.offset())
            await publisher.publish(outcome, key=inner.key(), no_confirm=True)

    else:

        @broker.subscriber(
            run.source,
            group_id=run.group,
            auto_offset_reset="earliest",
            batch=True,
            max_records=run.batch,
            decoder=raw,
        )
        async def score_many(message: KafkaMessage) -> None:
            inner = message.raw_message
            outcomes = scoring.many([(m.value(), m.partition(), m.offset()) for m in inner])
            await asyncio.gather(
                *(publisher.publish(o, key=m.key(), no_confirm=True) for m, o in zip(inner, outcomes, strict=True))
            )

    return FastStream(broker, logger=None)


if __name__ == "__main__":
    asyncio.run(app().run())
