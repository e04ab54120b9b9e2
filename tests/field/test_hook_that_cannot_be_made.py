"""`Tap.from_env()` runs at the start of a live service: whatever the configuration, the service starts."""

import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from gnomon_producer import Tap
from gnomon_producer.disabled import MisconfiguredTap

GOOD = {"type": "record", "name": "F", "fields": [{"name": "a", "type": "double"}]}


def record(kind: Any) -> str:
    return json.dumps({"type": "record", "name": "Visit", "fields": [{"name": "basket", "type": kind}]})


FILES = {
    "empty": b"",
    "not UTF-8": b"\xff\xfe\x00",
    "nested too deep to read": b"[" * 200_000,
    "nested too deep to walk": record(["null"] * 1).encode().replace(b'["null"]', b"[" * 500 + b"]" * 500),
    "a number": b"1",
    "a feature that occurs twice": b'{"amount": "double", "amount": "string"}',
    "a byte order mark of UTF-16": '{"amount": "double"'.encode("utf-16"),
    "binary": bytes(range(256)) * 10,
    "no fields": b'{"type": "record", "name": "F"}',
    "fields that are numbers": b'{"type": "record", "name": "F", "fields": [1]}',
    "a name that is a number": b'{"type": "record", "name": 3, "fields": [{"name": "a", "type": "double"}]}',
    "a union of nothing": record([]).encode(),
    "an array without items": record({"type": "array"}).encode(),
    "an array of null": record({"type": "array", "items": {"type": "null"}}).encode(),
    "an array of a union": record({"type": "array", "items": ["null", "double"]}).encode(),
    "an enum without symbols": record({"type": "enum", "name": "E"}).encode(),
    "an enum of numbers": record({"type": "enum", "name": "E", "symbols": [1, 2]}).encode(),
    "a type that is a list of lists": record([["null"]]).encode(),
    "a type of an unknown kind": record({"type": {"type": {"type": ["x"]}}}).encode(),
    "a type without a type": record({}).encode(),
    "a type that is a number": record(7).encode(),
}


@pytest.fixture(autouse=True)
def service(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GNOMON_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GNOMON_STREAM", "shop")
    monkeypatch.setenv("GNOMON_MODEL", "m:1")
    monkeypatch.setenv("GNOMON_BOOTSTRAP_SERVERS", "127.0.0.1:1")


def refused(caplog: pytest.LogCaptureFixture, **given: Any) -> str:
    """Create the hook, call all of it, and return why it is off."""
    with caplog.at_level(logging.ERROR, "gnomon_producer"):
        tap = Tap.from_env(**given)
    assert isinstance(tap, MisconfiguredTap)
    assert len(caplog.records) == 1, "it is logged once"
    with tap.capture("r", {"a": 1.0}) as shot:
        shot.predicted(1.0)
    tap.record("r", {"a": 1.0}, value=1.0)
    assert tap.observe(features=dict, predicted=float)(lambda x: x + 1)(1) == 2
    tap.label("r", value=1.0)
    stats = tap.stats()
    assert (stats.offered, dict(stats.dropped), stats.in_flight) == (3, {"misconfigured": 3}, 0)
    assert stats.labels is not None
    assert dict(stats.labels.dropped) == {"misconfigured": 1}
    assert stats.misconfigured
    assert tap.flush()
    assert tap.close()
    return stats.misconfigured


@pytest.mark.parametrize("content", FILES.values(), ids=FILES.keys())
def test_a_schema_file_that_cannot_be_used(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "features.avsc"
    path.write_bytes(content)
    monkeypatch.setenv("GNOMON_FEATURE_SCHEMA", str(path))
    refused(caplog)


def test_a_schema_path_that_is_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero"), tmp_path / "none.avsc", Path("x" * 5000)):
        caplog.clear()
        monkeypatch.setenv("GNOMON_FEATURE_SCHEMA", str(path))
        assert str(path) in refused(caplog)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GNOMON_SAMPLE_RATE", "nan"),
        ("GNOMON_HEARTBEAT_SECONDS", "inf"),
        ("GNOMON_EXIT_TIMEOUT_SECONDS", "1e400"),
        ("GNOMON_MAX_BUFFER_BYTES", "64MB"),
        ("GNOMON_STREAM", "a/b"),
        ("GNOMON_MODEL", ":"),
        ("GNOMON_KAFKA__PROPERTIES", "[" * 100_000),
    ],
)
def test_a_variable_that_cannot_be_used(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(name, value)
    refused(caplog, features={"a": "double"})


def test_a_secret_in_a_wrong_variable_is_not_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("GNOMON_KAFKA__PROPERTIES", '{"sasl.password": "hunter2"')
    assert "hunter2" not in refused(caplog, features={"a": "double"})
    assert "hunter2" not in caplog.text


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize("given", [{"features": Unprintable()}, {"model": Unprintable()}, {"no_such_setting": 1}])
def test_a_keyword_that_cannot_be_used(given: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    refused(caplog, **{"features": {"a": "double"}, **given})
