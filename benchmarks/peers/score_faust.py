"""faust-streaming: an agent over events, one at a time or by `take`; a table-less app with raw bytes."""

import sys
from typing import Any

import faust

from benchmarks.peers.common import Scoring, job

run = job()
sys.argv = [sys.argv[0], "worker", "--loglevel=warn", "--without-web"]
scoring = Scoring(run.folder)
app = faust.App(
    run.group,
    broker=f"kafka://{run.bootstrap}",
    value_serializer="raw",
    key_serializer="raw",
    consumer_auto_offset_reset="earliest",
    topic_disable_leader=True,
    broker_commit_every=10_000,
    stream_wait_empty=False,
    producer_linger=0.005,
    producer_compression_type="lz4",
    datadir=str(run.folder / run.group),
)
source = app.topic(run.source, value_type=bytes, key_type=bytes)
target = app.topic(run.target, value_type=bytes, key_type=bytes)


if run.batch == 1:

    @app.agent(source)
    async def score(stream: Any) -> None:
        async for event in stream.events():
            message = event.message
            outcome = scoring.one(event.value, message.partition, message.offset)
            await target.send(key=event.key, value=outcome)

else:

    @app.agent(source)
    async def score_many(stream: Any) -> None:
        async for events in stream.take_events(run.batch, within=0.1):
            outcomes = scoring.many([(e.value, e.message.partition, e.message.offset) for e in events])
            for event, outcome in zip(events, outcomes, strict=True):
                await target.send(key=event.key, value=outcome)


if __name__ == "__main__":
    app.main()
