"""The metrics of the shadow side, a closed vocabulary with a kind and a description each, and their server."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 40, 60, 120, 300)


class MetricSet:
    """Metrics with one prefix and one set of constant labels, in their own registry."""

    def __init__(self, prefix: str, **labels: str) -> None:
        self.registry = CollectorRegistry()
        self._prefix = prefix
        self._labels = labels
        self._described: list[tuple[str, str, tuple[str, ...], str]] = []

    def described(self) -> list[tuple[str, str, tuple[str, ...], str]]:
        """Return name, kind, labels and meaning of every metric."""
        return list(self._described)

    def _make(self, kind: Any, name: str, meaning: str, *more: str, **options: Any) -> Any:
        """Return a metric; if it has its own labels, return a function of their values."""
        made = self._declare(kind, name, meaning, *more, **options)
        if not more:
            return made.labels(*self._labels.values())
        return lambda *values: made.labels(*self._labels.values(), *values)

    def _declare(self, kind: Any, name: str, meaning: str, *more: str, **options: Any) -> Any:
        made = kind(f"{self._prefix}_{name}", meaning, (*self._labels, *more), registry=self.registry, **options)
        suffix = "_total" if kind is Counter else ""
        self._described.append(
            (f"{self._prefix}_{name}{suffix}", kind.__name__.lower(), (*self._labels, *more), meaning)
        )
        return made

    def _by_partition(self, log: str) -> "PartitionGauges":
        position = self._declare(Gauge, "partition_position", f"Next offset to read of the {log} log.", "partition")
        behind = self._declare(
            Gauge, "partition_behind", f"Offsets of the {log} log that are not read yet.", "partition"
        )
        stalled = self._declare(
            Gauge,
            "partition_stalled_seconds",
            f"How long the {log} log has had messages to read while the partition made no progress.",
            "partition",
        )
        return PartitionGauges(tuple(self._labels.values()), position, behind, stalled)


class PartitionGauges:
    """Position, distance to the end, and stall of each partition that a member owns."""

    def __init__(self, labels: tuple[str, ...], position: Gauge, behind: Gauge, stalled: Gauge) -> None:
        self._labels = labels
        self._position = position
        self._behind = behind
        self._stalled = stalled
        self._shown: set[int] = set()

    def show(
        self, positions: Mapping[int, int], ends: Mapping[int, int], stalled_seconds: Callable[[int], float]
    ) -> None:
        """Set all partitions; `stalled_seconds` is called at each scrape, so that a hanging loop shows too."""
        for partition, position in positions.items():
            labels = (*self._labels, str(partition))
            self._position.labels(*labels).set(position)
            self._behind.labels(*labels).set(max(0, ends.get(partition, position) - position))
            self._stalled.labels(*labels).set_function(functools.partial(stalled_seconds, partition))
        for gone in self._shown - positions.keys():
            for gauge in (self._position, self._behind, self._stalled):
                gauge.remove(*self._labels, str(gone))
        self._shown = set(positions)


class ScorerMetrics(MetricSet):
    """The metrics of `gnomon score`. All carry the labels `stream` and `deployment`.

    Autoscale on `gnomon_score_sampled_out_total` and `gnomon_score_sampling_fraction`: sampling keeps the lag low under
    load.
    """

    def __init__(self, stream: str, deployment: str) -> None:
        super().__init__("gnomon_score", stream=stream, deployment=deployment)
        self.seen = self._make(Counter, "seen", "Captures in committed windows.")
        self.outcomes = self._make(Counter, "outcomes", "Sampled captures in committed windows, by bucket.", "status")
        self.sampled_out = self._make(Counter, "sampled_out", "Captures left out by the sampler, in committed windows.")
        self.windows = self._make(Counter, "windows", "Committed windows, by the reason of their seal.", "reason")
        self.gaps = self._make(Counter, "gap_offsets", "Offsets that could never be read.")
        self.uncertain = self._make(
            Counter, "uncertain_transactions", "Transactions after which positions were read again."
        )
        self.restarts = self._make(Gauge, "worker_restarts", "Workers that died since the start.")
        self.fraction = self._make(Gauge, "sampling_fraction", "Sampled share of the last committed tick.")
        self.position_lag = self._make(Gauge, "position_lag_seconds", "Age of the last capture that was read.")
        self.committed_lag = self._make(Gauge, "committed_lag_captures", "Captures read but not committed.")
        self.breaker = self._make(Gauge, "breaker_open", "1 while the model's circuit breaker is open.")
        self.rate = self._make(Gauge, "planned_rows_per_second", "Scoring rate that the budget is planned with.")
        self.by_partition = self._by_partition("live")
        self.delay = self._make(
            Histogram, "delay_seconds", "From the first capture of a window to its commit.", buckets=_SECONDS
        )


class JoinerMetrics(MetricSet):
    """The metrics of `gnomon join`. All carry the labels `stream` and `deployment`."""

    def __init__(self, stream: str, deployment: str) -> None:
        super().__init__("gnomon_join", stream=stream, deployment=deployment)
        self.windows = self._make(Counter, "windows", "Windows applied to the database.")
        self.seen = self._make(Counter, "seen", "Captures that were read again in applied windows.")
        self.pairs = self._make(Counter, "pairs", "Pairs written.")
        self.dead_letters = self._make(Counter, "dead_letters", "Sampled captures that could not become pairs.")
        self.orphans = self._make(Counter, "orphans", "Sampled captures whose live message expired before the join.")
        self.delay = self._make(
            Histogram, "delay_seconds", "From the seal of a window to its rows in the database.", buckets=_SECONDS
        )
        self.by_partition = self._by_partition("shadow")
        self.held = self._make(Gauge, "held_messages", "Messages held until the other log catches up.")
        self.partitions = self._make(Gauge, "partitions", "Partitions that this member joins.")
        self.failed = self._make(Gauge, "failed_partitions", "Partitions that stopped with an error.")
        self.unreachable = self._make(Gauge, "database_unreachable", "1 while the database does not answer.")


class LabelMetrics(MetricSet):
    """The metrics of `gnomon labels consume`. All carry the label `stream`."""

    def __init__(self, stream: str) -> None:
        super().__init__("gnomon_labels", stream=stream)
        self.received = self._make(Counter, "received", "Messages of the labels topic that were processed.")
        self.stored = self._make(Counter, "stored", "New versions of labels.")
        self.rejected = self._make(Counter, "rejected", "Messages that are not labels; they become dead letters.")
        self.heartbeats = self._make(Counter, "heartbeats", "Producers' reports stored.")
        self.sealed = self._make(Counter, "cohorts_sealed", "Slices of event time that were sealed.")
        self.partitions = self._make(Gauge, "partitions", "Label partitions that this member reads.")
        self.unreachable = self._make(
            Gauge, "dependency_unreachable", "1 while the database or the dead-letter topic is unreachable."
        )
