"""The metrics of the shadow side: a closed vocabulary, each with its kind and one line of meaning; and their server."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, exposition

from gnomon_schemas.errors import ConfigurationError

_SECONDS = (0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 40, 60, 120, 300)


@dataclass
class ScorerMetrics:
    """What `gnomon score` tells. All carry the labels `stream` and `deployment`.

    Scale on `gnomon_score_sampled_out_total` and `gnomon_score_sampling_fraction`: the sampler hides load from the lag.
    """

    stream: str
    deployment: str
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
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
        self.delay = Histogram(
            "gnomon_score_delay_seconds",
            "From the first capture of a window to its commit.",
            ("stream", "deployment"),
            buckets=_SECONDS,
            registry=self.registry,
        ).labels(self.stream, self.deployment)

    def _make(self, kind: Any, name: str, meaning: str, *labels: str) -> Any:
        made = kind(f"gnomon_score_{name}", meaning, ("stream", "deployment", *labels), registry=self.registry)
        if not labels:
            return made.labels(self.stream, self.deployment)
        return lambda value: made.labels(self.stream, self.deployment, value)


class Observatory:
    """`/metrics`, `/healthz` (the loop turns) and `/readyz` (it has work and a model) on one port, in a thread."""

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
