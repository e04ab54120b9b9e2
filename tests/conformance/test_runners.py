"""Every model runner gives the same answers to the same features, and the same kind of refusal."""

import hashlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from tests.support.live_stream import FEATURES, save, sum_model
from tests.support.model_runners import load, outcomes, predict

from gnomon_consumer.scorer.worker import models
from gnomon_consumer.scorer.worker.models.base import Runner
from gnomon_schemas.errors import ConfigurationError, DependencyUnreachableError
from gnomon_schemas.records import Failure, Prediction

ROWS: list[dict[str, Any]] = [
    {"amount": 1.5, "age": 40.0, "visits": 3, "country": "NZ"},
    {"amount": -2.0, "age": None, "visits": 0, "country": ""},
    {"amount": float("inf"), "age": 1.0, "visits": 2**31 - 1, "country": "Ö"},
]


class Server:
    """A model server on loopback that speaks the Open Inference Protocol v2."""

    def __init__(self) -> None:
        self.headers: list[dict[str, str]] = []
        self.connections: set[Any] = set()
        self.fail_with = 0
        self.answers = threading.Event()
        self.answers.set()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def _answer(self, content: Any, status: int = 200) -> None:
                server.headers.append(dict(self.headers))
                server.connections.add(self.client_address)
                body = json.dumps(content).encode()
                self.send_response(server.fail_with or status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self) -> None:
                inputs = [{"name": name, "datatype": "FP64", "shape": [-1, 1]} for name in ("amount", "age")]
                outputs = [{"name": "value", "datatype": "FP64", "shape": [-1, 1]}]
                self._answer({"name": "sum", "platform": "test", "inputs": inputs, "outputs": outputs})

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.answers.wait(30)
                parts = [[np.nan if one is None else one for one in given["data"]] for given in asked["inputs"]]
                total = np.sum(np.array(parts, dtype=float), axis=0)
                data = [None if np.isnan(one) else one for one in total.tolist()]
                output = {"name": "value", "datatype": "FP64", "shape": [len(data), 1], "data": data}
                self._answer({"model_name": "sum", "outputs": [output]})

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/v2/models/sum"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


PYTHON = """
import numpy as np
class Sum:
    features = ("amount", "age")
    def predict(self, columns):
        return columns["amount"] + columns["age"]
    def feature_state(self):
        return "dictionary-7", 3, 1
make = Sum
def constant():
    return lambda columns: {"value": np.ones(len(columns["amount"])), "label": ["yes"] * len(columns["amount"])}
def wrong():
    return lambda columns: [1.0]
def ranked():
    return lambda columns: {"scores": [[0.5, 0.1]] * len(columns["amount"]), "items": ["a", "b"]}
nothing = 3
"""


def onnx_separate(folder: Path, _: Server) -> Runner:
    return load(sum_model(folder / "sum.onnx", "amount", "age"))


def onnx_single_tensor(folder: Path, _: Server) -> Runner:
    path = save(
        folder / "tensor.onnx",
        [helper.make_node("ReduceSum", ["x", "axis"], ["value"], keepdims=1)],
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, [None, 2])],
        [helper.make_tensor_value_info("value", TensorProto.DOUBLE, [None, 1])],
        initializers=[helper.make_tensor("axis", TensorProto.INT64, [1], [1])],
        features='["amount", "age"]',
    )
    return load(path)


def python(folder: Path, _: Server) -> Runner:
    (folder / "shadow_sum.py").write_text(PYTHON)
    spec = models.ModelSpec(
        kind="callable", location="shadow_sum:make", sha256=_digest(folder / "shadow_sum.py"), name="sum", version="1"
    )
    return models.load(spec, FEATURES.features, folder)


def remote(_: Path, server: Server) -> Runner:
    return load(server.url)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def clean_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "shadow_sum", raising=False)


@pytest.mark.usefixtures("clean_modules")
@pytest.mark.parametrize("make", [onnx_separate, onnx_single_tensor, python, remote])
def test_the_same_sum_from_every_runner(make: Callable[[Path, Server], Runner], tmp_path: Path, server: Server) -> None:
    runner = make(tmp_path, server)
    assert [name for one in runner.inputs for name in one.features] == ["amount", "age"]
    found = outcomes(runner, [*ROWS[:2], *ROWS[:1]])
    assert found[0] == found[2] == Prediction(value=41.5)
    # a null age is NaN, and a result that is not a number never becomes a prediction
    assert isinstance(found[1], Failure)
    assert found[1].kind == "model_error"
    infinite = outcomes(runner, ROWS[2:]) if make is not remote else [Failure("model_error", "")]
    assert isinstance(infinite[0], Failure)
    assert len(outcomes(runner, ROWS[:1])) == 1
    runner.close()


def test_the_server_sees_shadow_traffic_on_one_connection(server: Server) -> None:
    runner = load(server.url)
    for _ in range(5):
        predict(runner, ROWS[:1])
    assert all(headers["X-Shadow"] == "gnomon" for headers in server.headers)
    assert len(server.connections) == 1
    server.fail_with = 503
    with pytest.raises(ValueError, match="503"):
        predict(runner, ROWS[:1])
    server.fail_with = 0
    server.close()
    runner.close()
    with pytest.raises(DependencyUnreachableError, match="does not answer"):
        load(server.url)


def test_a_server_that_does_not_answer_in_time_is_a_time_out_and_may_recover(server: Server) -> None:
    runner = load(server.url, seconds=0.3)
    server.answers.clear()
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        predict(runner, ROWS[:1])
    assert time.monotonic() - began < 10
    server.answers.set()
    assert outcomes(runner, ROWS[:1]) == [Prediction(value=41.5)]
    runner.close()


@pytest.mark.usefixtures("clean_modules")
def test_python_models(tmp_path: Path) -> None:
    (tmp_path / "shadow_sum.py").write_text(PYTHON)
    digest = _digest(tmp_path / "shadow_sum.py")

    def make(factory: str, sha256: str = digest) -> Runner:
        spec = models.ModelSpec(kind="callable", location=f"shadow_sum:{factory}", sha256=sha256, name="m", version="1")
        return models.load(spec, FEATURES.features, tmp_path)

    state = make("make").feature_state()
    assert state is not None
    assert (state.version, state.cache_hits, state.cache_misses) == ("dictionary-7", 3, 1)
    assert outcomes(make("constant"), ROWS[:1]) == [Prediction(1.0, "yes")]
    assert outcomes(make("ranked"), ROWS[:1]) == [Prediction(scores=[0.5, 0.1], items=["a", "b"])]
    with pytest.raises(ValueError, match="has 1 rows for 3 captures"):
        predict(make("wrong"), ROWS)
    with pytest.raises(ConfigurationError, match="no callable 'absent'"):
        make("absent")
    with pytest.raises(ConfigurationError, match="the file was changed"):
        make("make", "0" * 64)
    with pytest.raises(ConfigurationError, match="no module 'no_such'"):
        models.describe("no_such:make")
