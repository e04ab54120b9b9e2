"""Spans of OpenTelemetry from the request over the scorer's window to the joiner's, by the shipped commands."""

import json
import shlex
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Message
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.support.live_stream import read_all, sum_model
from tests.support.servers import process
from tests.support.servers.process import Gnomon
from tests.support.tap import GOOD, make_tap

from gnomon_consumer.runtime import tracing
from gnomon_consumer.scorer.sampling.open_window import AssignmentToken
from gnomon_consumer.scorer.sealed.sealer import ReadingPosition, Sealer
from gnomon_consumer.scorer.sealed.spans import ScoreSpans
from gnomon_consumer.settings import ScoreSettings

# As docs/operations.md says, with the console in place of a collector.
INSTRUMENTED = {
    "OTEL_TRACES_EXPORTER": "console",
    "OTEL_METRICS_EXPORTER": "none",
    "OTEL_LOGS_EXPORTER": "none",
    "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "confluent_kafka,psycopg,sqlalchemy,logging",
}
Name = tuple[str, str]


def names(links: list[dict[str, Any]]) -> list[Name]:
    """Return trace and span of the linked spans."""
    return [(link["context"]["trace_id"], link["context"]["span_id"]) for link in links]


def exported(output: str) -> list[dict[str, Any]]:
    """Return the spans that the console exporter wrote, one JSON object after another."""
    spans, decoder, text = [], json.JSONDecoder(), output.strip()
    while text:
        span, end = decoder.raw_decode(text)
        spans.append(span)
        text = text[end:].lstrip()
    return spans


def test_from_the_request_to_the_pair(
    gnomon: Gnomon, mock_bootstrap: str, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = {"GNOMON_BOOTSTRAP_SERVERS": mock_bootstrap, "GNOMON_STREAM": "spans"}
    assert gnomon.enter("topics", "create", "--deployment", "new", env=stream).returncode == 0
    tracer = TracerProvider().get_tracer("service")
    requests: list[Name] = []
    with closing(make_tap(mock_bootstrap, "spans")) as tap:
        for number in range(40):
            with tracer.start_as_current_span("request") as span:
                tap.record(f"r{number}", GOOD, value=1.0)
                context = span.get_span_context()
                requests.append((f"0x{context.trace_id:032x}", f"0x{context.span_id:016x}"))
        for number in range(5):
            tap.record(f"untraced-{number}", GOOD, value=1.0)
        assert tap.flush(60)
    model = sum_model(tmp_path / "model.onnx", "amount")
    command = tmp_path / "instrumented"
    tool = process.COMMAND.with_name("opentelemetry-instrument")
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(str(tool))} {shlex.quote(str(process.COMMAND))} "$@"\n')
    command.chmod(0o755)
    monkeypatch.setattr(process, "COMMAND", command)

    def spans(*arguments: object) -> list[dict[str, Any]]:
        done = gnomon.run(*arguments, env=stream | INSTRUMENTED)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        return exported(done.stdout)

    score = spans("score", "--deployment", "new", "--model", model, "--exit-when-idle", "0.5")
    join = spans("join", "--deployment", "new", "--drain", "--database-url", database_url)
    assert score
    assert {span["name"] for span in score} == {"gnomon score"}
    linked = [name for span in score for name in names(span["links"])]
    assert sorted(linked) == sorted(requests), "each traced capture, and nothing else, is linked once"
    assert sum(span["attributes"]["gnomon.sampled"] for span in score) == 45
    assert all(span["parent_id"] is None for span in (*score, *join))
    # The joiner's spans link to the scorer's of the same window, one by one.
    own = {(span["context"]["trace_id"], span["context"]["span_id"]): span["attributes"] for span in score}
    assert {span["name"] for span in join} == {"gnomon join"}
    found = [own[name] for span in join for name in names(span["links"])]
    assert [one["gnomon.window_id"] for one in found] == [span["attributes"]["gnomon.window_id"] for span in join]
    assert len(found) == len(score)
    assert sum(span["attributes"]["gnomon.matched"] for span in join) == 45
    for one in (*score, *join):
        assert one["start_time"] <= one["end_time"]


def test_without_a_provider_nothing_carries_a_trace(gnomon: Gnomon, mock_bootstrap: str, tmp_path: Path) -> None:
    assert tracing.tracer("gnomon") is None
    stream = {"GNOMON_BOOTSTRAP_SERVERS": mock_bootstrap, "GNOMON_STREAM": "spans"}
    assert gnomon.enter("topics", "create", "--deployment", "new", env=stream).returncode == 0
    tracer = TracerProvider().get_tracer("service")
    with closing(make_tap(mock_bootstrap, "spans")) as tap, tracer.start_as_current_span("request"):
        tap.record("r", GOOD, value=1.0)
    model = sum_model(tmp_path / "model.onnx", "amount")
    scored = gnomon.run("score", "--deployment", "new", "--model", model, "--exit-when-idle", "0.5", env=stream)
    assert scored.returncode == 0, scored.stderr
    shadow = read_all(mock_bootstrap, "gnomon.spans.shadow.new")
    messages = [message for partition in shadow.values() for message in partition]
    assert len(messages) >= 3, "the beginning, the outcome, the window"
    assert all(not message.headers() for message in messages)


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    made = InMemorySpanExporter()
    yield made
    made.shutdown()


def scored_window(exporter: InMemorySpanExporter, traces: list[bytes | None], **settings: float) -> Sealer:
    """Return a sealer that has read captures with these traces, and the spans that it creates."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    spans = ScoreSpans(provider.get_tracer("gnomon"), "gnomon.s.live", "new")
    sealer = Sealer(
        ScoreSettings.model_validate(settings), 1e6, no_sampling=False, now=0.0, now_us=lambda: 5,
        remember_traces=spans.remember,
    )  # fmt: skip
    messages = [
        Message(
            topic="live", partition=0, offset=at, key=b"%d" % at, value=b"",
            headers=None if trace is None else [("stratum", b"x"), ("traceparent", trace)],
        )
        for at, trace in enumerate(traces)
    ]  # fmt: skip
    sealer.add_messages(ReadingPosition(AssignmentToken(0), 0, 0.0), np.arange(len(messages)), messages)
    tick = sealer.seal("time", 1.0, 0)
    with spans.spans_of([tick]):
        pass
    return sealer


def trace(number: int, flags: str = "01") -> bytes:
    return f"00-{number + 1:032x}-{number + 1:016x}-{flags}".encode()


def test_only_traces_that_are_recorded_are_linked(exporter: InMemorySpanExporter) -> None:
    broken = [b"", b"nothing", b"00-" + b"0" * 32 + b"-" + b"1" * 16 + b"-01", trace(1)[:-1], trace(1) + b"-x", b"\xff"]
    scored_window(exporter, [trace(7), trace(8, "00"), None, *broken, trace(9, "03")])
    (span,) = exporter.get_finished_spans()
    assert [link.context.trace_id for link in span.links] == [8, 10]
    assert span.attributes is not None
    assert span.attributes["gnomon.seen"] == 10
    assert span.start_time == 5000


def test_a_span_has_no_more_links_than_the_sdk_keeps(exporter: InMemorySpanExporter) -> None:
    scored_window(exporter, [trace(number) for number in range(5000)])
    (span,) = exporter.get_finished_spans()
    assert [link.context.trace_id for link in span.links] == list(range(1, 129))
    assert span.dropped_links == 0


def test_what_is_sampled_out_is_not_linked(exporter: InMemorySpanExporter) -> None:
    scored_window(exporter, [trace(number) for number in range(500)], reservoir_rows=20)
    (span,) = exporter.get_finished_spans()
    assert len(span.links) == 20


def test_a_window_that_is_not_committed_says_so(exporter: InMemorySpanExporter) -> None:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    spans = ScoreSpans(provider.get_tracer("gnomon"), "gnomon.s.live", "new")
    sealer = Sealer(ScoreSettings(), 1e6, no_sampling=False, now=0.0, now_us=lambda: 5)
    tick = sealer.gap(AssignmentToken(3), 10, 20, "truncated", 0.0)

    def commit() -> None:
        with spans.spans_of([tick]):
            assert tick.windows[0].traceparent is not None
            raise RuntimeError("fenced")

    with pytest.raises(RuntimeError, match="fenced"):
        commit()
    (span,) = exporter.get_finished_spans()
    assert span.status.description == "not committed: fenced"
    assert span.links == ()
