"""A span for each window that the scorer commits, with links to the captures of its sample (OpenTelemetry)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

from confluent_kafka import Message
from numpy.typing import NDArray

from gnomon_consumer.runtime import tracing
from gnomon_consumer.scorer.sealed.window import SealedWindow, Tick

_REMEMBERED = 1000


class ScoreSpans:
    """The spans of the scorer. Without a tracer it does nothing.

    The sample is known only at the seal, so the traces of an open window's first thousand captures with a trace are
    remembered, and those that were sampled are linked.
    """

    def __init__(self, tracer: Any | None, live_topic: str, deployment: str) -> None:
        self._tracer = tracer
        self._live_topic = live_topic
        self._deployment = deployment

    def remember(self, traces: dict[int, bytes], offsets: NDArray[Any], messages: Sequence[Message]) -> None:
        """Add the traces of captures, by offset, to those of their window."""
        if self._tracer is None or len(traces) >= _REMEMBERED:
            return
        found = ((at, tracing.traced(message)) for at, message in zip(offsets.tolist(), messages, strict=True))
        known = ((at, trace) for at, trace in found if trace is not None)
        traces.update(islice(known, _REMEMBERED - len(traces)))

    @contextmanager
    def spans_of(self, ticks: Sequence[Tick]) -> Iterator[None]:
        """Create spans of the windows that are committed in the block; their records carry the names of the spans."""
        if self._tracer is None:
            yield
            return
        windows = [window for tick in ticks for window in tick.windows]
        spans = [self._span(window) for window in windows]
        for window, span in zip(windows, spans, strict=True):
            window.traceparent = tracing.traceparent(span)
        try:
            yield
        except BaseException as error:
            from opentelemetry.trace import Status, StatusCode

            for span in spans:
                span.set_status(Status(StatusCode.ERROR, f"not committed: {error}"))
            raise
        finally:
            for span in spans:
                span.end()

    def _span(self, window: SealedWindow) -> Any:
        from opentelemetry.context import Context
        from opentelemetry.trace import SpanKind

        assert self._tracer is not None
        sampled = window.sample.rows.offsets.tolist()
        traces = (window.traces[at] for at in sampled if at in window.traces) if window.traces else ()
        return self._tracer.start_span(
            "gnomon score",
            context=Context(),
            kind=SpanKind.CONSUMER,
            links=tracing.links(islice(traces, tracing.MOST_LINKS)),
            start_time=window.seal.opened_at * 1000,
            attributes={
                "messaging.system": "kafka",
                "messaging.operation.type": "process",
                "messaging.destination.name": self._live_topic,
                "messaging.destination.partition.id": str(window.owner.partition),
                "gnomon.deployment": self._deployment,
                "gnomon.window_id": window.window_id,
                "gnomon.start_offset": window.seal.start,
                "gnomon.end_offset": window.seal.end,
                "gnomon.seen": window.seen,
                "gnomon.sampled": len(sampled),
            },
        )
