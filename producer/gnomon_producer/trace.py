"""The trace that a capture belongs to, as one W3C `traceparent`."""

import importlib.util
from collections.abc import Callable
from contextvars import ContextVar

request_id_of_context: ContextVar[str | None] = ContextVar("gnomon_request_id", default=None)
"""The current request's id, set by the middleware."""
traceparent_of_context: ContextVar[str | None] = ContextVar("gnomon_traceparent", default=None)
"""The current request's incoming traceparent, set by the middleware."""


def traceparent_source() -> Callable[[], str | None]:
    """Return a function that returns the current traceparent.

    It is that of the active OpenTelemetry span, if that API is installed, else the one that the middleware found in the
    request.
    """
    if importlib.util.find_spec("opentelemetry") is None or importlib.util.find_spec("opentelemetry.trace") is None:
        return traceparent_of_context.get
    from opentelemetry import context as contexts
    from opentelemetry import trace

    def current() -> str | None:
        if not contexts.get_current():
            return traceparent_of_context.get()  # nothing is active: the fast path
        context = trace.get_current_span().get_span_context()
        if not context.is_valid:
            return traceparent_of_context.get()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & 0xFF:02x}"

    return current
