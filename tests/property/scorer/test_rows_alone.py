"""Every kind of runner gives a row the same score in any batch as alone, and no row ends the worker."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from tests.support.live_stream import save, write_sidecar
from tests.support.model_runners import load
from tests.support.model_server import ModelServer

from gnomon_consumer.scorer.captures import Row, Rows
from gnomon_consumer.scorer.outcomes import Outcomes
from gnomon_consumer.scorer.worker.models import ModelSpec
from gnomon_consumer.scorer.worker.models.base import Runner
from gnomon_consumer.scorer.worker.scoring import BatchScorer
from gnomon_schemas.codec import Codec, Reader
from gnomon_schemas.features import FeatureSchema
from gnomon_schemas.store import MemorySchemas, packaged_schemas

FEATURES = FeatureSchema.of(
    {
        "amount": ["null", "double"],
        "visits": "long",
        "account": ["null", "long"],
        "known": ["null", "boolean"],
        "country": ["null", "string"],
        "history": ["null", {"type": "array", "items": "double"}],
        "ids": {"type": "array", "items": "long"},
    }
)
CODEC = Codec(FEATURES.live)
SPEC = ModelSpec(kind="onnx", location="m", sha256="", name="m", version="1")
NUMBERS = st.sampled_from([0.0, 1.0, -2.5, 70000.0, 1e39, -1e300, float("nan"), float("inf")])
WHOLE = st.sampled_from([0, 1, -3, 2**31, 2**53 + 1, -(2**63)])
ROWS = st.fixed_dictionaries(
    {
        "amount": st.none() | NUMBERS,
        "visits": WHOLE,
        "account": st.none() | WHOLE,
        "known": st.none() | st.booleans(),
        "country": st.none() | st.sampled_from(["NZ", "", "raise", "exit"]),
        "history": st.none() | st.lists(NUMBERS, max_size=3),
        "ids": st.lists(WHOLE, max_size=3),
    }
)
PYTHON = """
import sys

class Unsayable(Exception):
    def __str__(self):
        raise RuntimeError("no text")

def make():
    def predict(columns):
        for country in columns["country"]:
            if country == "raise":
                raise Unsayable
            if country == "exit":
                sys.exit(3)
        kinds = [f"{name}:{values.dtype}:{values.shape[1:]}" for name, values in sorted(columns.items())]
        texts = [f"{columns['amount'][row]!r} {columns['account'][row]!r} {columns['known'][row]!r} "
                 f"{columns['history'][row]} {columns['ids'][row]}" for row in range(len(columns["visits"]))]
        return {"label": [f"{text} {' '.join(kinds)}" for text in texts], "value": columns["visits"] * 0.5}
    return predict
"""


def lists_of_any_length(folder: Path) -> Path:
    nodes = [
        helper.make_node("ReduceMean", ["history"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Identity", ["mean"], ["value"]),
    ]
    inputs = [helper.make_tensor_value_info("history", TensorProto.FLOAT, [None, "n"])]
    outputs = [helper.make_tensor_value_info("value", TensorProto.FLOAT, [None, 1])]
    return save(folder / "lists.onnx", nodes, inputs, outputs)


def several_inputs(folder: Path, rows: int | None = None) -> Path:
    """Return a model with narrow inputs of several types: a float16, an int32 and a list of exactly two, summed."""
    nodes = [
        *(helper.make_node("Cast", [name], [f"{name}_f"], to=TensorProto.DOUBLE) for name in ("amount", "visits", "x")),
        helper.make_node("ReduceSum", ["x_f", "axis"], ["sum"], keepdims=1),
        helper.make_node("Sum", ["amount_f", "visits_f", "sum"], ["value"]),
    ]
    inputs = [
        helper.make_tensor_value_info("amount", TensorProto.FLOAT16, [rows, 1]),
        helper.make_tensor_value_info("visits", TensorProto.INT32, [rows, 1]),
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, 3]),
    ]
    outputs = [helper.make_tensor_value_info("value", TensorProto.DOUBLE, [rows, 1])]
    axis = helper.make_tensor("axis", TensorProto.INT64, [1], [1])
    path = save(folder / f"several{rows or ''}.onnx", nodes, inputs, outputs, [axis])
    said: dict[str, Any] = {"inputs": {"x": ["history", "known"]}, "missing": {"known": "1"}}
    write_sidecar(path, **said, **({"batch": rows} if rows else {}))
    return path


@pytest.fixture(scope="module")
def runners(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Runner]]:
    folder = tmp_path_factory.mktemp("models")
    (folder / "alone_model.py").write_text(PYTHON)
    with pytest.MonkeyPatch.context() as patch, ModelServer() as server:
        patch.chdir(folder)
        patch.setattr(sys, "path", list(sys.path))
        loaded = {
            "lists of any length": load(lists_of_any_length(folder), FEATURES),
            "several inputs": load(several_inputs(folder), FEATURES),
            "one row a call": load(several_inputs(folder, 1), FEATURES),
            "four rows a call": load(several_inputs(folder, 4), FEATURES),
            "Python": load("alone_model:make", FEATURES, folder),
            "server": load(server.url, FEATURES),
        }
        yield loaded
        for runner in loaded.values():
            runner.close()


def scored(runner: Runner, rows: list[dict[str, Any]]) -> Outcomes:
    schemas = MemorySchemas()
    schemas.add_schema(FEATURES.live)
    captures = [Row(0, 0, b"r", CODEC.encode(capture(features)), None, 0, 1.0) for features in rows]
    scorer = BatchScorer(SPEC, runner, schemas, now_us=lambda: 0, clock=lambda: 0.0)
    return scorer.score(Rows.of(captures), "w", 0, single=False)


def capture(features: dict[str, Any]) -> dict[str, Any]:
    record: dict[str, Any] = dict.fromkeys(("stratum", "cluster", "prediction", "error", "latency_us", "feature_state"))
    record |= {"producer_id": "p", "sequence": 1, "captured_at": 0, "request_id": "r", "capture_probability": 1.0}
    return record | {"segments": {}, "model": {"name": "m", "version": "1"}, "features": features}


def said(outcomes: Outcomes) -> list[str]:
    """Return the content of each outcome without the size of its batch, which may differ."""
    records = [Reader(packaged_schemas()).decode(one.message).record for one in outcomes]
    return [json.dumps([one["prediction"], one["error"]]) for one in records]


KINDS = ["lists of any length", "several inputs", "one row a call", "four rows a call", "Python", "server"]
PLAIN = {"amount": 1.0, "visits": 1, "account": None, "known": None, "country": "NZ", "history": [1.0, 2.0], "ids": []}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(ROWS, min_size=1, max_size=8))
@example(rows=[PLAIN, PLAIN | {"history": [1.0]}, PLAIN | {"history": None}, PLAIN | {"history": []}])
@example(rows=[PLAIN | {"account": 2**53 + 1}, PLAIN | {"account": 7}])
@example(rows=[PLAIN | {"ids": [2**60 + 1]}, PLAIN | {"ids": [1]}])
def test_any_batch_equals_its_rows_one_by_one(
    runners: dict[str, Runner], kind: str, rows: list[dict[str, Any]]
) -> None:
    runner = runners[kind]
    with np.errstate(all="ignore"):
        together = said(scored(runner, rows))
        alone = [said(scored(runner, [row]))[0] for row in rows]
    assert together == alone
