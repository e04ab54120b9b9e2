"""OpenTelemetry, if it is installed: the tracer of this process, and links to the `traceparent` of messages."""

import importlib.util
import re
from collections.abc import Iterable, Sequence
from typing import Any

from confluent_kafka import Message

HEADER = "traceparent"
MOST_LINKS = 128
"""The number of links of a span that OpenTelemetry's SDK keeps by default."""
_FORM = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
_SAMPLED = 1


def tracer(name: str) -> Any | None:
    """Return a tracer if the process has a provider, as under `opentelemetry-instrument`; else None."""
    if importlib.util.find_spec("opentelemetry") is None or importlib.util.find_spec("opentelemetry.trace") is None:
        return None
    from opentelemetry import trace

    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider):
        return None
    return provider.get_tracer(name)


def traced(message: Message) -> bytes | None:
    """Return the `traceparent` of a message whose trace is recorded somewhere; None for any other."""
    headers: Any = message.headers()
    for name, value in headers or ():
        if name == HEADER and isinstance(value, bytes):
            found = _FORM.fullmatch(value)
            return value if found and int(found[3], 16) & _SAMPLED else None
    return None


def links(traceparents: Iterable[bytes]) -> Sequence[Any]:
    """Return OpenTelemetry links to the spans with these names; ignore invalid traceparents."""
    from opentelemetry.trace import Link, SpanContext, TraceFlags

    return [
        Link(
            SpanContext(int(found[1], 16), int(found[2], 16), is_remote=True, trace_flags=TraceFlags(int(found[3], 16)))
        )
        for found in map(_FORM.fullmatch, traceparents)
        if found
    ]


def traceparent(span: Any) -> bytes:
    """Return the name of a span in the form of a message header."""
    context = span.get_span_context()
    return b"00-%032x-%016x-%02x" % (context.trace_id, context.span_id, context.trace_flags & 0xFF)
