"""Quix Streams: an application with a streaming data frame, bytes in and out."""

from quixstreams.context import message_context

from benchmarks.peers.common import Scoring, job
from benchmarks.peers.quix import application


def main() -> None:
    run = job()
    scoring = Scoring(run.folder)
    app = application(run, producer_extra_config={"linger.ms": 5, "compression.type": "lz4"})
    source = app.topic(run.source, value_deserializer="bytes", key_deserializer="bytes")
    target = app.topic(run.target, value_serializer="bytes", key_serializer="bytes")

    def score(value: bytes) -> bytes:
        context = message_context()
        return scoring.one(value, context.partition, context.offset)

    app.dataframe(source).apply(score).to_topic(target)
    app.run()


if __name__ == "__main__":
    main()
