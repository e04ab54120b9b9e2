"""Serve /metrics, /healthz and /readyz while a command runs."""

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry, exposition
from typing_extensions import override

from gnomon_consumer.runtime.metrics import MetricSet
from gnomon_schemas.errors import ConfigurationError

HEALTHY_SECONDS = 60.0
READY_SECONDS = 25.0
_DISCARDED, _DISCARD_S, _SILENCE_S = 16_000_000, 5.0, 1.0
FAILURES = 3  # in a row, and over more than HEALTHY_SECONDS: the loop will not recover by itself


class Pulse:
    """The health of a loop: healthy until its first turn, and while its last turn is recent."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._turned_at: float | None = None
        self._failures = 0
        self._failing_since = 0.0

    def beat(self) -> None:
        """Record that the loop completed a step."""
        self._turned_at = self._clock()

    def fail(self) -> None:
        """Record a failed step of the loop; a single failure is normal."""
        self._failing_since = self._failing_since if self._failures else self._clock()
        self._failures += 1

    def succeed(self) -> None:
        """Record a successful step of the loop."""
        self._failures = 0

    def is_quick(self) -> bool:
        """Return whether the loop completed a step within the last READY_SECONDS, so that it is not blocked."""
        return self._turned_at is not None and self._clock() - self._turned_at < READY_SECONDS

    def is_beating(self) -> bool:
        """Return whether the loop completed a step within the last minute, and has not failed repeatedly for longer."""
        now = self._clock()
        if self._failures >= FAILURES and now - self._failing_since >= HEALTHY_SECONDS:
            return False
        return self._turned_at is None or now - self._turned_at < HEALTHY_SECONDS


@contextmanager
def observed(
    address: str | None, metrics: MetricSet, pulse: Pulse, ready: Callable[[], bool], log: Any
) -> Iterator[None]:
    """Serve metrics and probes for the length of a block, if an address (HOST:PORT) is given."""
    if address is None:
        yield
        return
    with closing(MetricsServer(address, metrics.registry, pulse.is_beating, ready)) as server:
        log.info("metrics", port=server.port)
        yield


class _Server(ThreadingHTTPServer):
    """A server that does not report clients that went away before their answer."""

    @override
    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _IPv6Server(_Server):
    """A server on `[::]` also serves IPv4 if the system maps it."""

    address_family = socket.AF_INET6


def server_of(host: str) -> type[ThreadingHTTPServer]:
    """Return the kind of server for a host's family; IPv6 addresses are in brackets, as in a URL."""
    return _IPv6Server if host.startswith("[") else _Server


class Answering(BaseHTTPRequestHandler):
    """A request of a probe or a poller; it is not logged."""

    def answer(self, status: int, body: bytes, kind: str = "text/plain") -> None:
        """Send an answer; `kind` is its content type."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    @override
    def finish(self) -> None:
        """Discard what the client still sends: a connection that is closed before that is reset, answer and all."""
        super().finish()
        left, until = _DISCARDED, time.monotonic() + _DISCARD_S
        with suppress(OSError):  # the client went away
            self.connection.shutdown(socket.SHUT_WR)
            while left > 0 and (wait := until - time.monotonic()) > 0:
                self.connection.settimeout(min(wait, _SILENCE_S))
                part = self.connection.recv(65_536)
                if not part:
                    return
                left -= len(part)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


class HttpServer:
    """A server that answers on a thread until it is closed; `port` is its port."""

    def __init__(self, option: str, address: str, handler: type[Answering]) -> None:
        """Listen; raise ConfigurationError for an unusable address (HOST:PORT) of this command-line option."""
        host, _, port = address.rpartition(":")
        try:
            self._server = server_of(host)((host.strip("[]") or "127.0.0.1", int(port)), handler)
        except (ValueError, OverflowError):
            raise ConfigurationError(f"{option} {address}: write HOST:PORT, such as 127.0.0.1:9000") from None
        except OSError as error:
            raise ConfigurationError(f"{option} {address}: cannot be listened on: {error}") from None
        self._server.daemon_threads = True
        self.port: int = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True, name=option.lstrip("-"))
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class MetricsServer(HttpServer):
    """`/metrics`, `/healthz` (the loop runs) and `/readyz` (it can work) on one port."""

    def __init__(
        self, address: str, registry: CollectorRegistry, healthy: Callable[[], bool], ready: Callable[[], bool]
    ) -> None:
        checks = {"/healthz": healthy, "/readyz": ready}

        class Handler(Answering):
            def do_GET(self) -> None:
                """Answer one of the three paths."""
                path = self.path.partition("?")[0]
                if path == "/metrics":
                    self.answer(200, exposition.generate_latest(registry), exposition.CONTENT_TYPE_LATEST)
                elif path in checks:
                    good = checks[path]()
                    self.answer(200 if good else 503, b"ok\n" if good else b"not yet\n")
                else:
                    self.answer(404, b"/metrics, /healthz, /readyz\n")

        super().__init__("--metrics", address, Handler)
