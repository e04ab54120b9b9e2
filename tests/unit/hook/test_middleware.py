"""The middleware puts a request's id and trace into the context, and changes nothing else."""

import asyncio
import subprocess
import sys
import types
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from tests.support.tap import GOOD, captures, make_tap, raw_messages

from gnomon_producer.middleware import GnomonASGIMiddleware, GnomonWSGIMiddleware, current_request_id
from gnomon_producer.trace import traceparent_of_context, traceparent_source

ROOT = Path(__file__).parents[3]
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
Seen = tuple[str | None, str | None]


def through_asgi(headers: list[tuple[bytes, bytes]], kind: str = "http") -> Seen:
    seen: list[Seen] = []
    received, sent = object(), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((current_request_id(), traceparent_of_context.get()))
        assert await receive() is received
        await send({"type": "http.response.body", "body": b"untouched"})

    async def receive() -> Any:
        return received

    async def send(message: Any) -> None:
        sent.append(message)

    async def main() -> None:
        await GnomonASGIMiddleware(app)({"type": kind, "headers": headers}, receive, send)
        assert current_request_id() is None

    asyncio.run(main())
    assert sent == [{"type": "http.response.body", "body": b"untouched"}]
    return seen[0]


def through_wsgi(headers: list[tuple[bytes, bytes]], kind: str = "http") -> Seen:
    seen: list[Seen] = []
    answer = [b"untouched"]

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        seen.append((current_request_id(), traceparent_of_context.get()))
        return answer

    named = {f"HTTP_{name.decode().upper().replace('-', '_')}": value.decode("latin-1") for name, value in headers}
    assert GnomonWSGIMiddleware(app)(named, lambda *_: None) is answer
    assert current_request_id() is None
    return seen[0]


both = pytest.mark.parametrize("through", [through_asgi, through_wsgi])


@both
def test_what_the_request_says_is_found(through: Any) -> None:
    assert through([(b"x-request-id", b"abc"), (b"traceparent", TRACE.encode())]) == ("abc", TRACE)


@both
@pytest.mark.parametrize("request_id", [b"", b"x" * 201, b"a\nb", b"\x00"])
def test_an_id_that_is_none_is_replaced(through: Any, request_id: bytes) -> None:
    found, _ = through([(b"x-request-id", request_id)])
    assert uuid.UUID(found)


@both
@pytest.mark.parametrize("traceparent", ["", "00-0-0-01", f"ff{TRACE[2:]}", f"00-{'0' * 32}{TRACE[35:]}", f"{TRACE}x"])
def test_a_trace_that_is_none_is_left_out(through: Any, traceparent: str) -> None:
    assert through([(b"traceparent", traceparent.encode())])[1] is None


def test_other_scopes_pass_through() -> None:
    assert through_asgi([(b"x-request-id", b"abc")], "lifespan") == (None, None)


def test_an_exception_of_the_application_passes_and_leaves_nothing_behind() -> None:
    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        raise LookupError

    with pytest.raises(LookupError):
        GnomonWSGIMiddleware(app)({"HTTP_X_REQUEST_ID": "abc"}, lambda *_: None)
    assert current_request_id() is None


def active_span() -> Any:
    context = SpanContext(int(TRACE[3:35], 16), int(TRACE[36:52], 16), is_remote=False, trace_flags=TraceFlags(1))
    return trace.use_span(NonRecordingSpan(context))


def test_the_active_span_goes_before_the_requests_header() -> None:
    token = traceparent_of_context.set("from the middleware")
    try:
        assert traceparent_source()() == "from the middleware"
        with active_span():
            assert traceparent_source()() == TRACE
    finally:
        traceparent_of_context.reset(token)


def test_without_opentelemetry_the_requests_header_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", types.ModuleType("opentelemetry"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert traceparent_source() == traceparent_of_context.get


INSTRUMENTED = """
import sys
from opentelemetry.instrumentation.confluent_kafka import ConfluentKafkaInstrumentor
from opentelemetry.sdk.trace import TracerProvider

order, bootstrap, stream = sys.argv[1:]
if order == "hook first":
    import gnomon_producer
provider = TracerProvider()
ConfluentKafkaInstrumentor().instrument(tracer_provider=provider)
import confluent_kafka
from tests.support.tap import GOOD, make_tap

tap = make_tap(bootstrap, stream)
own = confluent_kafka.Producer({"bootstrap.servers": bootstrap})
with provider.get_tracer("service").start_as_current_span("request") as span:
    tap.record("traced", GOOD, value=1.0)
    own.produce(f"gnomon.{stream}.live", b"own", b"own")
    context = span.get_span_context()
tap.record("untraced", GOOD, value=1.0)
assert tap.close() and own.flush(60) == 0
print(f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}")
"""


@pytest.mark.parametrize("order", ["hook first", "instrumentation first"])
def test_exactly_one_traceparent_beside_the_real_instrumentation(
    order: str, mock_bootstrap: str, stream_name: str
) -> None:
    command = [sys.executable, "-W", "error", "-c", INSTRUMENTED, order, mock_bootstrap, stream_name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    traceparent = done.stdout.strip().encode()
    headers = {raw.key: raw.headers for raw in raw_messages(mock_bootstrap, f"gnomon.{stream_name}.live")}
    # The service's own message proves that the instrumentation was active: the same trace, a separate span.
    ((name, own),) = headers.pop(b"own")
    assert (name, own[:36]) == ("traceparent", traceparent[:36])
    assert own != traceparent
    assert headers == {b"traced": [("traceparent", traceparent)], b"untraced": []}


def test_a_capture_takes_the_requests_id(mock_bootstrap: str, stream_name: str) -> None:
    tap = make_tap(mock_bootstrap, stream_name)

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        with tap.capture(None, GOOD) as shot:
            shot.predicted(1.0)
        return [b""]

    GnomonWSGIMiddleware(app)({"HTTP_X_REQUEST_ID": "abc"}, lambda *_: None)
    assert tap.close()
    assert [record["request_id"] for record in captures(mock_bootstrap, stream_name)] == ["abc"]
