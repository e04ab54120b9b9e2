"""The metrics of the shadow side: a closed vocabulary, each with its kind and one line of meaning; and their server."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, exposition

from gnomon_schemas.errors import ConfigurationError

_SECONDS = (0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 40, 60, 120, 300)
HEALTHY_SECONDS = 60.0


class Vocabulary:
    """Metrics with one prefix and one set of constant labels, in a registry of their own."""

    def __init__(self, prefix: str, **labels: str) -> None:
        self.registry = CollectorRegistry()
        self._prefix = prefix
        self._labels = labels
        self._described: list[tuple[str, str, tuple[str, ...], str]] = []

    def described(self) -> list[tuple[str, str, tuple[str, ...], str]]:
        """Name, kind, labels and meaning of every metric."""
        return list(self._described)

    def _make(self, kind: Any, name: str, meaning: str, *more: str, **options: Any) -> Any:
        """A metric; with labels of its own, what gives the metric for their values."""
        made = kind(f"{self._prefix}_{name}", meaning, (*self._labels, *more), registry=self.registry, **options)
        suffix = "_total" if kind is Counter else ""
        self._described.append(
            (f"{self._prefix}_{name}{suffix}", kind.__name__.lower(), (*self._labels, *more), meaning)
        )
        if not more:
            return made.labels(*self._labels.values())
        return lambda *values: made.labels(*self._labels.values(), *values)


class ScorerMetrics(Vocabulary):
    """What `gnomon score` tells. All carry the labels `stream` and `deployment`.

    Scale on `gnomon_score_sampled_out_total` and `gnomon_score_sampling_fraction`: the sampler hides load from the lag.
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
        self.breaker = self._make(Gauge, "breaker_open", "1 while the model's circuit breaker lets nothing through.")
        self.rate = self._make(Gauge, "planned_rows_per_second", "Scoring rate that the budget is planned with.")
        self.delay = self._make(
            Histogram, "delay_seconds", "From the first capture of a window to its commit.", buckets=_SECONDS
        )


class JoinerMetrics(Vocabulary):
    """What `gnomon join` tells. All carry the labels `stream` and `deployment`."""

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
        self.held = self._make(Gauge, "held_messages", "Messages held until the other log follows.")
        self.partitions = self._make(Gauge, "partitions", "Partitions that this member joins.")
        self.failed = self._make(Gauge, "failed_partitions", "Partitions that stopped with an error.")
        self.away = self._make(Gauge, "database_away", "1 while the database does not answer.")


class LabelMetrics(Vocabulary):
    """What `gnomon labels consume` tells. All carry the label `stream`."""

    def __init__(self, stream: str) -> None:
        super().__init__("gnomon_labels", stream=stream)
        self.received = self._make(Counter, "received", "Messages of the labels topic that are done with.")
        self.stored = self._make(Counter, "stored", "Versions of labels that were new.")
        self.rejected = self._make(Counter, "rejected", "Messages that are no labels; they are among the dead letters.")
        self.heartbeats = self._make(Counter, "heartbeats", "Producers' reports stored.")
        self.sealed = self._make(Counter, "cohorts_sealed", "Slices of event time that were sealed.")
        self.partitions = self._make(Gauge, "partitions", "Label partitions that this member reads.")
        self.away = self._make(Gauge, "dependency_away", "1 while the database or the dead-letter topic is away.")


class Pulse:
    """Whether a loop still turns: healthy until its first turn, and while the last one is not long ago."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._turned_at: float | None = None

    def turn(self) -> None:
        """Say that the loop turned."""
        self._turned_at = self._clock()

    def beats(self) -> bool:
        """Whether it did within the last minute."""
        return self._turned_at is None or self._clock() - self._turned_at < HEALTHY_SECONDS


@contextmanager
def observed(
    address: str | None, vocabulary: Vocabulary, pulse: Pulse, ready: Callable[[], bool], log: Any
) -> Iterator[None]:
    """Serve metrics and probes for the length of a block, if an address (HOST:PORT) is given."""
    if address is None:
        yield
        return
    with closing(Observatory(address, vocabulary.registry, pulse.beats, ready)) as observatory:
        log.info("metrics", port=observatory.port)
        yield


class Observatory:
    """`/metrics`, `/healthz` (the loop turns) and `/readyz` (it has work and all it needs) on one port."""

    def __init__(
        self, address: str, registry: CollectorRegistry, healthy: Callable[[], bool], ready: Callable[[], bool]
    ) -> None:
        host, _, port = address.rpartition(":")
        checks = {"/healthz": healthy, "/readyz": ready}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                """Answer one of the three."""
                path = self.path.partition("?")[0]
                if path == "/metrics":
                    self._answer(200, exposition.generate_latest(registry), exposition.CONTENT_TYPE_LATEST)
                elif path in checks:
                    good = checks[path]()
                    self._answer(200 if good else 503, b"ok\n" if good else b"not yet\n", "text/plain")
                else:
                    self._answer(404, b"/metrics, /healthz, /readyz\n", "text/plain")

            def _answer(self, status: int, body: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Probes are no news."""

        try:
            self._server = ThreadingHTTPServer((host or "127.0.0.1", int(port)), Handler)
        except (OSError, ValueError, OverflowError) as error:
            raise ConfigurationError(f"--metrics {address}: cannot be listened on: {error}") from None
        self._server.daemon_threads = True
        self.port: int = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True, name="metrics")
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
