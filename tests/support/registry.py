"""A schema registry as the Confluent API documents it: references, compatibility, credentials, limits, and silence.

`mood` changes its answers: "" is a working registry.
"""

import base64
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

JSON = "application/vnd.schemaregistry.v1+json"


class Registry:
    """Subjects and schemas; `url` is its address. `user` (name:password), if set, is required."""

    def __init__(self) -> None:
        self.schemas: list[dict[str, Any]] = []
        self.subjects: dict[str, list[int]] = {}
        self.user = ""
        self.mood = ""
        self.asked = 0
        self.url = ""

    def add(self, subject: str, text: str, kind: str = "AVRO", references: list[dict[str, Any]] | None = None) -> int:
        """Register a schema and return its id."""
        entry = {"schema": text, "schemaType": kind, "references": references or []}
        if entry not in self.schemas:
            self.schemas.append(entry)
        number = self.schemas.index(entry) + 1
        versions = self.subjects.setdefault(subject, [])
        if number not in versions:
            versions.append(number)
        return number

    def answer(self, method: str, path: str, body: Any, authorization: str) -> tuple[int, Any]:
        """Return status and body of a request."""
        self.asked += 1
        if self.user and authorization != "Basic " + base64.b64encode(self.user.encode()).decode():
            return 401, {"error_code": 401, "message": "Unauthorized"}
        match self.mood:
            case "incompatible":
                return 409, {"error_code": 409, "message": "Schema being registered is incompatible"}
            case "forbidden":
                return 403, {"error_code": 40301, "message": "User is denied operation Write on Subject"}
            case "invalid":
                return 422, {"error_code": 42201, "message": "Invalid schema"}
            case "limited":
                return 429, {"error_code": 42901, "message": "Too many requests"}
            case "broken":
                return 503, {"error_code": 50003, "message": "Error forwarding the request to the primary"}
            case "proxy":
                return 502, "<html><body><h1>502 Bad Gateway</h1></body></html>"
            case "elsewhere":
                return 404, "<html><body>nothing here</body></html>"
            case "slow":
                time.sleep(8)
        if found := re.fullmatch(r"/schemas/ids/(\d+)", path):
            if 0 < int(found[1]) <= len(self.schemas):
                return 200, self.schemas[int(found[1]) - 1]
            return 404, {"error_code": 40403, "message": "Schema not found"}
        if found := re.fullmatch(r"/subjects/([\w.-]+)/versions/(\d+)", path):
            versions = self.subjects.get(found[1], [])
            if 0 < int(found[2]) <= len(versions):
                number = versions[int(found[2]) - 1]
                whole = {"subject": found[1], "version": int(found[2]), "id": number}
                return 200, whole | self.schemas[number - 1]
            return 404, {"error_code": 40402, "message": "Version not found"}
        if method == "POST" and (found := re.fullmatch(r"/subjects/([\w.-]+)/versions", path)):
            added = self.add(found[1], body["schema"], body.get("schemaType", "AVRO"), body.get("references"))
            return 200, {"id": added}
        if path == "/subjects":
            return 200, sorted(self.subjects)
        return 404, {"error_code": 404, "message": "HTTP 404 Not Found"}


@contextmanager
def running(given: Registry | None = None) -> Iterator[Registry]:
    """Yield a registry, by default a working one, that answers on loopback."""
    registry = given or Registry()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(None)

        def do_POST(self) -> None:
            self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _answer(self, body: Any) -> None:
            path = self.path.partition("?")[0]
            status, said = registry.answer(self.command, path, body, self.headers.get("Authorization", ""))
            text = (said if isinstance(said, str) else json.dumps(said)).encode()
            try:
                self.send_response(status)
                self.send_header("Content-Type", "text/html" if isinstance(said, str) else JSON)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the client did not wait

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        registry.url = f"http://127.0.0.1:{server.server_port}"
        yield registry
        server.shutdown()
        thread.join()
