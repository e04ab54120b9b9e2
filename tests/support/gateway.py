"""A gateway in front of a schema registry: a path prefix, a login, compression, redirects, its own pages."""

import gzip
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = b"<html><body><h1>Please sign in</h1></body></html>"


class Gateway:
    """Forwards `/prefix/…` to `upstream`; `mood` changes how, and `authorization`, if set, is required."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.authorization = ""
        self.mood = ""
        self.asked = 0
        self.url = ""

    def answer(self, method: str, path: str, body: bytes | None, given: str) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of a request."""
        self.asked += 1
        page = {"Content-Type": "text/html"}
        match self.mood:
            case "page":
                return 200, page, PAGE
            case "sign in":
                return 302, {"Location": self.url.rpartition("/")[0] + "/login"}, b""
            case "empty":
                return 200, {"Content-Type": "application/json"}, b""
            case "other json":
                return 200, {"Content-Type": "application/json"}, b'["maintenance"]'
            case "not found":
                return 404, page, PAGE
            case "moved":
                return 307, {"Location": self.upstream + path}, b""
        if path.endswith("/login"):
            return 200, page, PAGE
        if self.authorization and given != self.authorization:
            return 401, page, PAGE
        headers = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
        request = urllib.request.Request(self.upstream + path, data=body, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as found:
                status, said = found.status, found.read()
        except urllib.error.HTTPError as error:
            status, said = error.code, error.read()
        if self.mood == "gzip":
            return status, headers | {"Content-Encoding": "gzip"}, gzip.compress(said)
        return status, headers, said


@contextmanager
def before(upstream: str) -> Iterator[Gateway]:
    """Yield a gateway on loopback; its `url` has the prefix."""
    gateway = Gateway(upstream)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(None)

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers["Content-Length"])))

        def _answer(self, body: bytes | None) -> None:
            path = self.path.removeprefix("/of/the/company")
            status, headers, said = gateway.answer(self.command, path, body, self.headers.get("Authorization", ""))
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(said))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        gateway.url = f"http://127.0.0.1:{server.server_port}/of/the/company"
        yield gateway
        server.shutdown()
        thread.join()
