"""Model servers as they are: without metadata, with limits, with passwords, with answers in the binary extension."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.model_runners import load, outcomes, predict
from tests.support.model_server import DOUBLE, ModelServer

from gnomon_consumer.scorer.worker import models
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.features import FeatureSchema
from gnomon_schemas.records import Failure, Prediction

FEATURES = FeatureSchema.of({"amount": ["null", "double"], "visits": "long"})
ROWS: list[dict[str, Any]] = [{"amount": float(at), "visits": at} for at in range(5)]
SECRET = "very:secret"


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as running:
        yield running


def test_an_infinite_number_is_its_own_rows_failure(server: ModelServer) -> None:
    runner = load(server.url, FEATURES)
    found = outcomes(runner, [*ROWS[:2], {"amount": float("inf"), "visits": 1}], FEATURES)
    runner.close()
    assert found[:2] == [Prediction(value=0.0), Prediction(value=2.0)]
    assert isinstance(found[2], Failure)
    assert (found[2].kind, "'amount' is infinite" in found[2].message) == ("invalid_features", True)


def test_the_servers_own_limit_of_rows_is_kept(server: ModelServer) -> None:
    server.config, server.most_rows = {"max_batch_size": 2}, 2
    runner = load(server.url, FEATURES)
    assert outcomes(runner, ROWS, FEATURES) == [Prediction(value=2.0 * at) for at in range(5)]
    assert [asked["inputs"][0]["shape"][0] for asked in server.asked] == [2, 2, 1]
    runner.close()


def test_a_limit_of_rows_from_a_sidecar(server: ModelServer, tmp_path: Path) -> None:
    server.most_rows = 3
    (tmp_path / "s.yaml").write_text("batch: 3\n")
    runner = load(server.url, FEATURES, signature=str(tmp_path / "s.yaml"))
    assert outcomes(runner, ROWS, FEATURES)[4] == Prediction(value=8.0)
    runner.close()


@pytest.mark.parametrize("metadata", [{"name": "m", "inputs": [], "outputs": []}, {}], ids=str)
def test_a_server_without_metadata_needs_a_sidecar(server: ModelServer, tmp_path: Path, metadata: Any) -> None:
    server.metadata = metadata
    with pytest.raises(ConfigurationError, match="metadata describes no inputs of the model; say in a sidecar"):
        load(server.url, FEATURES)
    sidecar = tmp_path / "s.yaml"
    sidecar.write_text("inputs: {x: [amount], y: {features: visits, datatype: INT32}}\noutputs: {value: value}\n")
    runner = load(server.url, FEATURES, signature=str(sidecar))
    assert outcomes(runner, ROWS[:2], FEATURES) == [Prediction(value=0.0), Prediction(value=2.0)]
    assert [one["datatype"] for one in server.asked[0]["inputs"]] == ["FP64", "INT32"]
    runner.close()


def binary(outputs: list[tuple[str, str, list[int], bytes]]) -> tuple[bytes, dict[str, str]]:
    head = json.dumps(
        {
            "outputs": [
                {"name": name, "datatype": kind, "shape": shape, "parameters": {"binary_data_size": len(data)}}
                for name, kind, shape, data in outputs
            ]
        }
    ).encode()
    return head + b"".join(data for *_, data in outputs), {"Inference-Header-Content-Length": str(len(head))}


def test_answers_in_the_binary_extension(server: ModelServer) -> None:
    server.metadata = server.metadata | {
        "outputs": [{"name": "label", "datatype": "BYTES", "shape": [-1]}, {"name": "value", **DOUBLE}]
    }
    texts = b"".join(len(text).to_bytes(4, "little") + text for text in (b"late", "spät".encode()))
    server.answer, server.headers = binary(
        [("label", "BYTES", [2], texts), ("value", "FP64", [2, 1], np.array([0.5, 0.25]).tobytes())]
    )
    runner = load(server.url, FEATURES)
    assert outcomes(runner, ROWS[:2], FEATURES) == [Prediction(0.5, "late"), Prediction(0.25, "spät")]
    server.headers = {}
    with pytest.raises(ValueError, match="is not JSON"):
        predict(runner, ROWS[:2], FEATURES)
    runner.close()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({}, "has no outputs"),
        ({"outputs": []}, "has no output 'value'"),
        ({"outputs": [{"name": "value", "datatype": "FP64", "shape": [1, 1]}]}, "'value' cannot be read: no 'data'"),
        ({"outputs": [{"name": "value", "datatype": "BF16", "shape": [1], "data": [1]}]}, "cannot be read: no 'BF16'"),
        ({"outputs": [{"name": "value", "datatype": "FP64", "shape": [3], "data": [1]}]}, "cannot reshape"),
        ({"outputs": [{"name": "value", "datatype": "FP64", "shape": [1], "data": ["x"]}]}, "are not numbers"),
        ({"outputs": [{"name": "value", "datatype": "INT64", "shape": [1], "data": [0.5]}]}, "are not int64"),
        ({"outputs": [{"name": "value", "datatype": "FP64", "shape": [1], "data": 1}]}, "are not a list"),
        ({"outputs": [7]}, "cannot be read"),
        ([1], "not a JSON object"),
        ({"outputs": [{"name": "value", "datatype": "FP64", "shape": [2, 1], "data": [1, 2]}]}, "for 1 captures"),
    ],
    ids=str,
)
def test_an_answer_that_cannot_be_read_says_why(server: ModelServer, answer: Any, reason: str) -> None:
    server.answer = json.dumps(answer).encode()
    runner = load(server.url, FEATURES)
    with pytest.raises(ValueError, match=reason):
        predict(runner, ROWS[:1], FEATURES)
    runner.close()


def test_nested_data_and_nulls(server: ModelServer) -> None:
    data = [[1.5], [None]]
    server.answer = json.dumps(
        {"outputs": [{"name": "value", "datatype": "FP64", "shape": [2, 1], "data": data}]}
    ).encode()
    runner = load(server.url, FEATURES)
    found = outcomes(runner, ROWS[:2], FEATURES)
    assert found[0] == Prediction(value=1.5)
    assert isinstance(found[1], Failure)
    runner.close()


def test_user_and_password_go_into_a_header_and_nowhere_else(server: ModelServer) -> None:
    server.authorization = "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode()
    spec = models.describe(f"http://me:very%3Asecret@{server.host}/v2/models/m")
    assert SECRET not in repr(spec)
    assert "very" not in f"{spec!r} {spec.location} {spec.name} {spec.artefact}"
    runner = models.load(spec, FEATURES.features, Path())
    assert outcomes(runner, ROWS[:1], FEATURES) == [Prediction(value=0.0)]
    runner.close()
    server.authorization = "Bearer other"
    with pytest.raises(ConfigurationError, match="answered 401") as refusal:
        models.load(spec, FEATURES.features, Path())
    assert "very" not in str(refusal.value)
    for broken in ("http://me:very-secret@host:port/v2/models/m", "http://me:very-secret@host/v1"):
        with pytest.raises(ConfigurationError) as refusal:
            models.describe(broken)
        assert "very" not in str(refusal.value)


def test_a_token_from_the_settings(server: ModelServer) -> None:
    server.authorization = "Bearer very-secret"
    runner = load(server.url, FEATURES, authorization="Bearer very-secret")
    assert outcomes(runner, ROWS[:1], FEATURES) == [Prediction(value=0.0)]
    runner.close()
    with pytest.raises(ConfigurationError, match="has characters that an HTTP header cannot contain") as refusal:
        load(server.url, FEATURES, authorization="Bearer very-secret\n")
    assert "very" not in str(refusal.value)
