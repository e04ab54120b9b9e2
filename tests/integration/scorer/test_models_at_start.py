"""The reports of `gnomon score` and `gnomon doctor --model` on a model before the first window."""

import json
from pathlib import Path

from onnx import TensorProto, helper
from tests.support.live_stream import save, sum_model
from tests.support.score_command import prepare, start
from tests.support.servers.process import Gnomon


def test_the_doctor_says_what_is_read_and_whether_it_answers(
    gnomon: Gnomon, mock_bootstrap: str, stream_name: str, tmp_path: Path
) -> None:
    prepare(gnomon, mock_bootstrap, stream_name).publish_schema()
    asked = ("doctor", "--stream", stream_name, "--bootstrap-servers", mock_bootstrap, "--json", "--model")
    done = gnomon.run(*asked, sum_model(tmp_path / "sum.onnx", "amount", "visits_"))
    found = [one for one in json.loads(done.stdout) if one["check"] == "model"]
    assert [one["status"] for one in found] == ["failed"]
    assert "needs the feature 'visits_', which the captures do not have" in found[0]["text"]
    done = gnomon.run(*asked, sum_model(tmp_path / "fine.onnx", "amount"))
    found = [one for one in json.loads(done.stdout) if one["check"] == "model"]
    assert [one["status"] for one in found] == ["ok", "ok"]
    assert found[0]["text"].endswith("value: output 'value'; label: none; scores: none")
    assert found[1]["text"] == "answers 64 of 64 generated rows"


def test_a_model_that_fails_on_every_row_is_refused_with_the_first_error(
    gnomon: Gnomon, mock_bootstrap: str, stream_name: str, tmp_path: Path
) -> None:
    prepare(gnomon, mock_bootstrap, stream_name).publish_schema()
    beyond = save(
        tmp_path / "beyond.onnx",
        [helper.make_node("Gather", ["amount", "fifth"], ["value"], axis=1)],
        [helper.make_tensor_value_info("amount", TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor("fifth", TensorProto.INT64, [1], [5])],
    )
    process = start(gnomon, mock_bootstrap, stream_name, beyond)
    assert process.wait(90) == 2
    assert "the model fails on all 512 rows of the warm-up, the first with model_error" in process.output
    assert "--allow-failing" in process.output
