"""A model server on loopback with the Open Inference Protocol v2; the test sets its answers."""

import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

import numpy as np

DOUBLE = {"datatype": "FP64", "shape": [-1, 1]}


class ModelServer:
    """Answers value = amount + visits by default; `metadata`, `config`, `answer` and `headers` replace its answers."""

    def __init__(self) -> None:
        self.metadata: Any = {
            "inputs": [{"name": "amount", **DOUBLE}, {"name": "visits", "datatype": "INT64", "shape": [-1, 1]}],
            "outputs": [{"name": "value", **DOUBLE}],
        }
        self.config: Any = None
        self.answer: bytes | None = None
        self.headers: Mapping[str, str] = {}
        self.authorization: str | None = None
        self.most_rows: int | None = None
        self.asked: list[dict[str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                said = outer.config if self.path.endswith("/config") else outer.metadata
                self.say({"error": "not found"} if said is None else said, 404 if said is None else 200)

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked.append(asked)
                rows = asked["inputs"][0]["shape"][0]
                if outer.most_rows is not None and rows > outer.most_rows:
                    self.say({"error": f"batch-size must be <= {outer.most_rows}"}, 400)
                    return
                parts = [[np.nan if one is None else one for one in given["data"]] for given in asked["inputs"]]
                total = np.sum(np.array(parts, dtype=float), axis=0)
                data = [None if np.isnan(one) else one for one in total.tolist()]
                output = {"name": "value", "datatype": "FP64", "shape": [len(data), 1], "data": data}
                self.say({"outputs": [output]})

            def say(self, content: Any, status: int = 200) -> None:
                if outer.authorization not in (None, self.headers.get("Authorization")):
                    content, status = {"error": "who are you?"}, 401
                body = json.dumps(content).encode()
                if self.command == "POST" and status == 200 and outer.answer is not None:
                    body = outer.answer
                self.send_response(status)
                for name, value in outer.headers.items() if self.command == "POST" else ():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.host = f"127.0.0.1:{self._server.server_port}"
        self.url = f"http://{self.host}/v2/models/m"

    def __enter__(self) -> "ModelServer":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
