"""The hook's counters as Prometheus and OpenTelemetry see them; the hook depends on neither."""

import subprocess
import sys
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry, generate_latest

from gnomon_producer import DROP_REASONS, Tap, TapStats
from gnomon_producer.metrics import TapCollector, add_instruments

STATS = TapStats(
    offered=10, delivered=6, dropped={"queue_full": 1, "publisher_dead": 2}, in_flight=1, sampled_out=4,
    labels=TapStats(offered=3, delivered=3),
)  # fmt: skip


@pytest.fixture
def tap(monkeypatch: pytest.MonkeyPatch) -> Tap:
    made = Tap(stream="orders", model=("m", "1"), features={"x": "double"})
    monkeypatch.setattr(made, "stats", lambda: STATS)
    return made


def test_prometheus_sees_every_counter_and_every_reason(tap: Tap) -> None:
    registry = CollectorRegistry()
    registry.register(TapCollector(tap))

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"gnomon_tap_{name}", {"stream": "orders", "kind": "captures"} | labels)

    assert [value(f"{name}_total") for name in ("offered", "delivered", "sampled_out")] == [10, 6, 4]
    assert value("in_flight") == 1
    assert {reason: value("dropped_total", reason=reason) for reason in DROP_REASONS} == dict.fromkeys(
        DROP_REASONS, 0
    ) | {"queue_full": 1, "publisher_dead": 2}
    assert value("offered_total", kind="labels") == 3
    assert b'gnomon_tap_dropped_total{kind="captures",reason="publisher_dead",stream="orders"} 2.0' in (
        generate_latest(registry)
    )


def test_opentelemetry_sees_the_same(tap: Tap) -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    add_instruments(tap, provider.get_meter("test"))
    data = reader.get_metrics_data()
    assert data is not None
    (scope,) = data.resource_metrics[0].scope_metrics
    found: dict[str, Any] = {}
    for metric in scope.metrics:
        points: Any = metric.data.data_points
        found[metric.name] = {tuple(point.attributes.values()): point.value for point in points}
    assert found["gnomon.tap.offered"] == {("orders", "captures"): 10, ("orders", "labels"): 3}
    assert found["gnomon.tap.dropped"]["orders", "captures", "publisher_dead"] == 2
    assert found["gnomon.tap.in_flight"]["orders", "captures"] == 1
    provider.shutdown()


def test_a_hook_that_is_off_shows_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GNOMON_DISABLED", "1")
    off = Tap(stream="orders", model=("m", "1"), features={"x": "double"})
    registry = CollectorRegistry()
    registry.register(TapCollector(off))
    assert registry.get_sample_value("gnomon_tap_offered_total", {"stream": "", "kind": "captures"}) == 0


def test_one_that_cannot_be_made_counts_what_it_loses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GNOMON_STREAM", "not a name")
    broken = Tap.from_env()
    broken.record("r", {})
    registry = CollectorRegistry()
    registry.register(TapCollector(broken))
    labels = {"stream": "", "kind": "captures", "reason": "misconfigured"}
    assert registry.get_sample_value("gnomon_tap_dropped_total", labels) == 1


def test_neither_library_is_loaded_by_the_import() -> None:
    code = "import gnomon_producer.metrics, sys; sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
