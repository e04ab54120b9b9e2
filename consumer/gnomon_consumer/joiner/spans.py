"""A span for each window that the joiner wrote, with a link to the scorer's span for it (OpenTelemetry)."""

from collections.abc import Sequence
from typing import Any

from confluent_kafka import Message

from gnomon_consumer.joiner.merge.window import JoinedWindow
from gnomon_consumer.runtime import tracing


class JoinSpans:
    """The spans of the joiner. Without a tracer it does nothing."""

    def __init__(self, tracer: Any | None, shadow_topic: str, deployment: str) -> None:
        self._tracer = tracer
        self._shadow_topic = shadow_topic
        self._deployment = deployment
        self._traces: dict[int, dict[int, bytes]] = {}

    def remember(self, partition: int, messages: Sequence[Message]) -> None:
        """Remember the traces in the records of the shadow log until their windows are written."""
        if self._tracer is None:
            return
        for message in messages:
            trace = tracing.traced(message)
            if trace is not None:
                self._traces.setdefault(partition, {})[message.offset() or 0] = trace

    def forget(self, partitions: Sequence[int]) -> None:
        """Forget the traces of partitions that were revoked or are read again."""
        for partition in partitions:
            self._traces.pop(partition, None)

    def written(self, windows: Sequence[JoinedWindow]) -> None:
        """Create the spans of windows that were just written: from the seal to the rows in the database."""
        if self._tracer is None:
            return
        for window in windows:
            self._span(window).end()

    def _span(self, window: JoinedWindow) -> Any:
        from opentelemetry.context import Context
        from opentelemetry.trace import SpanKind

        assert self._tracer is not None
        seal = window.seal
        traces = self._traces.get(seal.source_partition, {})
        trace = traces.get(window.shadow_offset)
        for offset in [offset for offset in traces if offset <= window.shadow_offset]:
            del traces[offset]
        return self._tracer.start_span(
            "gnomon join",
            context=Context(),
            kind=SpanKind.CONSUMER,
            links=tracing.links([] if trace is None else [trace]),
            start_time=seal.sealed_at * 1000,
            attributes={
                "messaging.system": "kafka",
                "messaging.operation.type": "process",
                "messaging.destination.name": self._shadow_topic,
                "messaging.destination.partition.id": str(seal.source_partition),
                "gnomon.deployment": self._deployment,
                "gnomon.window_id": seal.window_id,
                "gnomon.seen": window.joined_seen,
                "gnomon.matched": len(window.matches.values),
            },
        )
