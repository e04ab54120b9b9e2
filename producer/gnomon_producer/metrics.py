"""The hook's counters for the service's metrics; the service brings prometheus_client or OpenTelemetry itself."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from gnomon_producer.errors import DROP_REASONS
from gnomon_producer.stats import TapStats
from gnomon_producer.tap import Tap

_MEANINGS = {
    "offered": "Offered to the hook.",
    "delivered": "Acknowledged by Kafka.",
    "dropped": "Lost, by reason.",
    "sampled_out": "Left out by sampling at the source, on purpose.",
    "switched_off": "Not offered because the hook was switched off.",
    "rejected": "Not offered because the service rejected the request.",
    "in_flight": "Passed to the client, and neither acknowledged nor lost yet.",
}
_GAUGES = ("in_flight",)


class _Reading(NamedTuple):
    labels: dict[str, str]
    value: int


class TapCollector:
    """A collector for `prometheus_client.REGISTRY.register`; every scrape calls `tap.stats()`."""

    def __init__(self, tap: Tap) -> None:
        self._tap = tap

    def collect(self) -> Iterator[Any]:
        """Yield one metric family per counter."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        stats = self._tap.stats()
        for name, meaning in _MEANINGS.items():
            kind = GaugeMetricFamily if name in _GAUGES else CounterMetricFamily
            labels = ["stream", "kind", "reason"] if name == "dropped" else ["stream", "kind"]
            family = kind(f"gnomon_tap_{name}", meaning, labels=labels)
            for reading in _readings(name, _stream(self._tap), stats):
                family.add_metric([reading.labels[label] for label in labels], reading.value)
            yield family

    def describe(self) -> list[Any]:
        """Return nothing, so that the registry does not collect when it registers this."""
        return []


def add_instruments(tap: Tap, meter: Any) -> None:
    """Create observable counters of an OpenTelemetry meter that call `tap.stats()`."""
    from opentelemetry.metrics import Observation

    def callback(name: str) -> Callable[[Any], Iterable[Any]]:
        def observe(_options: Any) -> Iterable[Any]:
            return [Observation(one.value, one.labels) for one in _readings(name, _stream(tap), tap.stats())]

        return observe

    for name, meaning in _MEANINGS.items():
        make = meter.create_observable_up_down_counter if name in _GAUGES else meter.create_observable_counter
        make(f"gnomon.tap.{name}", callbacks=[callback(name)], description=meaning)


def _stream(tap: Tap) -> str:
    """Return the stream's name; a hook that is off has no configuration."""
    config = getattr(tap, "config", None)
    return "" if config is None else str(config.stream)


def _readings(name: str, stream: str, stats: TapStats) -> Iterator[_Reading]:
    """Yield one counter of captures and labels; for drops, one for each reason, even if it is 0."""
    for kind, one in (("captures", stats), ("labels", stats.labels or TapStats())):
        labels = {"stream": stream, "kind": kind}
        if name == "dropped":
            for reason in DROP_REASONS:
                yield _Reading({**labels, "reason": reason}, one.dropped.get(reason, 0))
        else:
            yield _Reading(labels, getattr(one, name))
