"""With a schema registry, hook and scorer agree on the Confluent framing: a real registry's answers over HTTP."""

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.support.live_stream import FEATURES, audit, await_sealed, outcomes, status, sum_model
from tests.support.score_command import prepare, start
from tests.support.servers.process import Gnomon
from tests.support.tap import raw_messages

from gnomon_producer import Tap


class Registry(BaseHTTPRequestHandler):
    """The two calls of a Confluent-compatible registry that matter, with its memory in the server."""

    schemas: list[dict[str, Any]]

    def do_POST(self) -> None:
        assert re.match(r"/subjects/[\w.-]+/versions", self.path)
        schema = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if schema not in self.schemas:
            self.schemas.append(schema)
        self._answer(200, {"id": self.schemas.index(schema) + 1, **schema})

    def do_GET(self) -> None:
        found = re.match(r"/schemas/ids/(\d+)", self.path)
        if found and 0 < int(found[1]) <= len(self.schemas):
            self._answer(200, self.schemas[int(found[1]) - 1])
        else:
            self._answer(404, {"error_code": 40403, "message": "Schema not found"})

    def _answer(self, status_code: int, body: dict[str, Any]) -> None:
        text = json.dumps(body).encode()
        self.send_response(status_code)
        self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def registry_url() -> Iterator[str]:
    handler = type("OwnRegistry", (Registry,), {"schemas": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_captures_framed_by_a_registry_are_scored(
    gnomon: Gnomon, mock_bootstrap: str, stream_name: str, tmp_path: Path, registry_url: str
) -> None:
    prepare(gnomon, mock_bootstrap, stream_name)
    tap = Tap(
        stream=stream_name,
        model=("live", "1"),
        features=FEATURES,
        bootstrap_servers=mock_bootstrap,
        properties={"schema.registry.url": registry_url},
        handle_sigterm=False,
    )
    assert tap.start(10)
    for number in range(200):
        features = {"amount": float(number), "age": 0.25, "visits": 3, "country": "NZ"}
        tap.record(f"r{number}", features, value=0.5)
    assert tap.close(10)
    messages = raw_messages(mock_bootstrap, f"gnomon.{stream_name}.live")
    assert {message.value[:5] for message in messages} == {b"\x00\x00\x00\x00\x01"}
    model = sum_model(tmp_path / "sum.onnx", "amount", "age")
    scorer = start(
        gnomon, mock_bootstrap, stream_name, model, "--from", "earliest", "-X", f"schema.registry.url={registry_url}"
    )
    await_sealed(mock_bootstrap, stream_name, "boost", 200)
    assert scorer.terminate(12) == 0
    found = outcomes(audit(mock_bootstrap, stream_name, "boost"))
    assert {row["request_id"] for row in found.values()} == {f"r{number}" for number in range(200)}
    assert {status(row) for row in found.values()} == {"scored"}
