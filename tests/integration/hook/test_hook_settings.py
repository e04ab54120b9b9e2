"""The settings of a Tap: switches, sampling, the environment, callables, and refused values."""

import asyncio
import uuid
from typing import Any

import pytest
from tests.support.hostile_objects import Hostile
from tests.support.tap import GOOD, captures, make_tap

from gnomon_producer import DisabledTap, Tap
from gnomon_schemas.errors import ConfigurationError, SchemaError


def test_a_switch_is_asked_at_every_capture(mock_bootstrap: str, stream_name: str) -> None:
    on = True

    def enabled() -> bool:
        if on is None:
            raise RuntimeError("flag server away")
        return on

    tap = make_tap(mock_bootstrap, stream_name, enabled=enabled)
    for state in (True, False, None, True):
        on = state  # type: ignore[assignment]
        tap.record(str(state), GOOD, value=1.0)
    assert tap.close()
    stats = tap.stats()
    assert (stats.offered, stats.delivered, stats.switched_off) == (2, 2, 2)
    assert [record["sequence"] for record in captures(mock_bootstrap, stream_name)] == [0, 1]


@pytest.mark.parametrize("by", ["request", "cluster"])
def test_sampling_at_the_source_is_sticky_and_stated(mock_bootstrap: str, stream_name: str, by: str) -> None:
    tap = make_tap(mock_bootstrap, stream_name, sample_rate=0.25, sample_by=by)
    for number in range(2000):
        tap.record(f"r{number}", GOOD, value=1.0, cluster=f"u{number % 200}")
    assert tap.close()
    stats = tap.stats()
    assert stats.offered == stats.delivered == 2000 - stats.sampled_out
    found = captures(mock_bootstrap, stream_name)
    assert {record["capture_probability"] for record in found} == {0.25}
    assert [record["sequence"] for record in found] == list(range(len(found)))
    clusters = {record["cluster"] for record in found}
    if by == "cluster":
        assert len(found) == 10 * len(clusters)
        assert 25 <= len(clusters) <= 75  # 50 expected, four standard deviations
    else:
        assert 422 <= len(found) <= 578  # 500 expected, four standard deviations
        assert len(clusters) > 150
    again = make_tap(mock_bootstrap, stream_name, sample_rate=0.25, sample_by=by)
    again.record(found[0]["request_id"], GOOD, value=1.0, cluster=found[0]["cluster"])
    assert again.stats().offered == 1
    again.close()


def test_the_environment_switches_everything_off(
    mock_bootstrap: str, stream_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GNOMON_DISABLED", "1")
    for tap in (Tap(stream="not even checked"), Tap.from_env()):
        assert isinstance(tap, DisabledTap)
        with tap.capture("r", Hostile(), cluster="u") as shot:
            shot.predicted(1.0, label="x")

        async def asynchronous(tap: Tap = tap) -> None:
            async with tap.capture("r", {}) as shot:
                shot.predicted(1.0)

        asyncio.run(asynchronous())
        tap.record("r", {}, value=1.0)
        tap.label("r", value=1.0)
        assert tap.observe(features=len, predicted=len)(len) is len
        assert tap.stats().offered == 0
        assert not tap.start()
        assert tap.flush()
        assert tap.close()


def test_from_env(monkeypatch: pytest.MonkeyPatch, mock_bootstrap: str, stream_name: str, tmp_path: Any) -> None:
    schema = tmp_path / "features.avsc"
    schema.write_text('{"type": "record", "name": "F", "fields": [{"name": "a", "type": "double"},'
                      ' {"name": "b", "type": "string"}]}')  # fmt: skip
    variables = {
        "GNOMON_STREAM": stream_name,
        "GNOMON_MODEL": "logreg:2013.03",
        "GNOMON_FEATURE_SCHEMA": str(schema),
        "GNOMON_FEATURES": "a",
        "GNOMON_BOOTSTRAP_SERVERS": mock_bootstrap,
        "GNOMON_STRATA": "a",
        "GNOMON_MAX_BUFFER_BYTES": "1000000",
        "GNOMON_KAFKA__PROPERTIES": '{"linger.ms": 1}',
        "GNOMON_HANDLE_SIGTERM": "no",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    tap = Tap.from_env(service="given")
    assert tap.config.model == ("logreg", "2013.03")
    assert tap.config.service == "given"
    assert tap.config.max_buffer_bytes == 1_000_000
    tap.record("r", {"a": 1.0, "b": "unlisted"}, value=1.0)
    assert tap.close()
    assert captures(mock_bootstrap, stream_name)[0]["features"] == {"a": 1.0}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GNOMON_SAMPLE_RATE", "2"),
        ("GNOMON_SAMPLE_RATE", "half"),
        ("GNOMON_MODEL", "no version"),
        ("GNOMON_MAX_BUFFER_BYTES", "12"),
        ("GNOMON_KAFKA__PROPERTIES", "[1]"),
        ("GNOMON_FEATURE_SCHEMA", "/nowhere.avsc"),
        ("GNOMON_STREAM", "a.b"),
        ("GNOMON_HMAC_FIELDS", "cluster"),
    ],
)
def test_a_wrong_variable_disables_the_hook_and_says_so(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    given = {"stream": "s", "features": {"a": "double"}, "model": ("m", "1")}
    field = {"GNOMON_MODEL": "model", "GNOMON_FEATURE_SCHEMA": "features", "GNOMON_STREAM": "stream"}.get(name)
    monkeypatch.setenv(name, value)
    tap = Tap.from_env(**{key: setting for key, setting in given.items() if key != field})
    assert isinstance(tap, DisabledTap)
    assert value in caplog.text or f"{name}=…" in caplog.text or "hmac_key" in caplog.text


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"features": {"a": "bytes"}}, SchemaError),
        ({"sample_rate": 0}, ConfigurationError),
        ({"model": "ab"}, ConfigurationError),
        ({"allowed_features": ("nosuch",)}, ConfigurationError),
        ({"allowed_features": ()}, ConfigurationError),
        ({"hmac_fields": ("cluster",)}, ConfigurationError),
        ({"heartbeat_s": 0}, ConfigurationError),
    ],
)
def test_what_cannot_work_is_refused_when_a_tap_is_made(settings: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        make_tap("localhost:1", "s", **settings)


def test_properties_that_librdkafka_refuses_drop_and_are_said_once(caplog: pytest.LogCaptureFixture) -> None:
    tap = make_tap("localhost:1", "s", properties={"no.such.property": 1})
    for _ in range(50):
        tap.record("r", GOOD, value=1.0)
    assert not tap.start()
    assert tap.close()
    assert tap.stats().dropped == {"internal_error": 50}
    assert caplog.text.count("no.such.property") == 1


def test_callables_for_stratum_and_segments(mock_bootstrap: str, stream_name: str) -> None:
    tap = make_tap(
        mock_bootstrap,
        stream_name,
        strata=lambda features, segments: "large" if features["amount"] > 10 else None,
        segments=lambda features: {"country": features["country"]},
    )
    tap.record("r1", GOOD, value=1.0)
    tap.record("r2", GOOD | {"amount": 1}, value=1.0, segments={"country": "given"})
    assert tap.close()
    one, two = captures(mock_bootstrap, stream_name)
    assert (one["stratum"], one["segments"]) == ("large", {"country": "CH"})
    assert (two["stratum"], two["segments"]) == (None, {"country": "given"})


def test_a_callable_that_raises_is_counted(mock_bootstrap: str, stream_name: str) -> None:
    tap = make_tap(mock_bootstrap, stream_name, strata=lambda features, segments: features["nosuch"])
    tap.record("r1", GOOD, value=1.0)
    assert tap.close()
    assert tap.stats().dropped == {"internal_error": 1}


def test_request_ids_that_are_no_text(mock_bootstrap: str, stream_name: str, tap: Tap) -> None:
    tap.record(17, GOOD, value=1.0)  # type: ignore[arg-type]  # a number is the usual mistake, and harmless
    tap.record(None, GOOD, value=1.0)
    tap.record("\ud800", GOOD, value=1.0)
    assert tap.close()
    one, two = captures(mock_bootstrap, stream_name)
    assert one["request_id"] == "17"
    assert uuid.UUID(two["request_id"])
    assert sum(tap.stats().dropped.values()) == 1
