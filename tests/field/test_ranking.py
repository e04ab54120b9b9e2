"""A challenger that ranks what the live model ranked."""

from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper
from tests.support.live_stream import save, write_sidecar
from tests.support.model_runners import load

from gnomon_consumer.scorer.captures import Row, Rows
from gnomon_consumer.scorer.rehearsal.examples import captures, synthetic
from gnomon_consumer.scorer.worker.models import ModelSpec
from gnomon_consumer.scorer.worker.models.base import Runner
from gnomon_consumer.scorer.worker.scoring import BatchScorer
from gnomon_schemas.codec import Codec, Reader
from gnomon_schemas.features import FeatureSchema
from gnomon_schemas.store import MemorySchemas, packaged_schemas

FEATURES = FeatureSchema.of({"user": "double"})
PYTHON = """
class Ranker:
    features = ("prediction.items",)
    def predict(self, columns):
        return {"scores": [[len(item) for item in row] for row in columns["prediction.items"]]}
def everything():
    return lambda columns: {"label": [" ".join(columns)] * len(columns["user"])}
def short():
    model = Ranker()
    predict = model.predict
    model.predict = lambda columns: {"scores": [row[1:] for row in predict(columns)["scores"]]}
    return model
"""


def onnx_ranker(folder: Path) -> Path:
    nodes = [
        helper.make_node(
            "LabelEncoder", ["c"], ["scores"], domain="ai.onnx.ml", keys_strings=["b", "ccc"], values_floats=[1.0, 3.0]
        )
    ]
    path = save(
        folder / "rank.onnx",
        nodes,
        [helper.make_tensor_value_info("c", TensorProto.STRING, [None, "n"])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, "n"])],
    )
    write_sidecar(path, task="ranking", inputs={"c": "prediction.items"}, outputs={"scores": "scores"})
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "live_items_ranker.py").write_text(PYTHON)
    return tmp_path


def scored(runner: Runner, rows: list[list[str] | None]) -> list[dict[str, Any]]:
    codec, schemas = Codec(FEATURES.live), MemorySchemas()
    schemas.add_schema(FEATURES.live)
    record: dict[str, Any] = dict.fromkeys(("stratum", "cluster", "error", "latency_us", "feature_state"))
    record |= {"producer_id": "p", "sequence": 1, "captured_at": 0, "request_id": "r", "capture_probability": 1.0}
    record |= {"segments": {}, "model": {"name": "m", "version": "1"}, "features": {"user": 1.0}}
    nothing = {"value": None, "label": None, "scores": None}
    messages = [
        codec.encode(record | {"prediction": None if items is None else nothing | {"items": items}}) for items in rows
    ]
    captured = Rows.of([Row(0, at, b"r", message, None, at, 1.0) for at, message in enumerate(messages)])
    scorer = BatchScorer(
        ModelSpec(kind="onnx", location="m", sha256="", name="m", version="1"),
        runner,
        schemas,
        now_us=lambda: 0,
        clock=lambda: 0.0,
    )
    reader = Reader(packaged_schemas())
    return [reader.decode(one.message).record for one in scorer.score(captured, "w", 0, single=False)]


@pytest.mark.parametrize("kind", ["Python", "ONNX"])
def test_the_live_models_items_are_ranked_by_name(folder: Path, kind: str) -> None:
    model: Any = "live_items_ranker:Ranker" if kind == "Python" else onnx_ranker(folder)
    found = scored(load(model, FEATURES, folder), [["b", "ccc"], ["ccc"], None, ["ccc", "b", "b"]])
    assert [found[at]["prediction"]["items"] for at in (0, 1, 3)] == [["b", "ccc"], ["ccc"], ["ccc", "b", "b"]]
    assert [found[at]["prediction"]["scores"] for at in (0, 1, 3)] == [[1.0, 3.0], [3.0], [3.0, 1.0, 1.0]]
    assert found[2]["prediction"] is None


def test_scores_that_are_fewer_than_the_items_are_refused(folder: Path) -> None:
    (found,) = scored(load("live_items_ranker:short", FEATURES, folder), [["b", "ccc"]])
    assert found["error"]["message"] == "the model answered 1 scores for 2 items"


def test_a_model_that_takes_every_feature_is_not_given_the_items(folder: Path) -> None:
    (found,) = scored(load("live_items_ranker:everything", FEATURES, folder), [["b"]])
    assert found["prediction"]["label"] == "user"


def test_a_warm_up_has_items_to_rank(folder: Path) -> None:
    assert captures(FEATURES.live, synthetic(FEATURES.features, 2, {"prediction.items": 5}))
    example = synthetic(FEATURES.features, 1, {"prediction.items": 2})[0]
    assert scored(load("live_items_ranker:Ranker", FEATURES, folder), [list(example.items)])[0]["error"] is None
