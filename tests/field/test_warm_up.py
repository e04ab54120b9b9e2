"""A model that fails before the first capture: the errors of the warm-up and of the golden check."""

import json
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gnomon_consumer.scorer.rehearsal.examples import captures, read_examples, synthetic
from gnomon_consumer.scorer.rehearsal.golden import check_golden
from gnomon_consumer.scorer.rehearsal.warm_up import check_warm_up
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.features import FeatureSchema

FAILED = {"prediction": None, "error": {"kind": "model_error", "message": "no such column"}}


def answered(**said: Any) -> dict[str, Any]:
    return {"prediction": {"value": None, "label": None, "scores": None, "items": None} | said, "error": None}


def test_a_model_that_fails_on_every_row_does_not_start() -> None:
    with pytest.raises(ConfigurationError, match=r"fails on all 3 rows .* model_error: no such column") as refusal:
        check_warm_up([FAILED] * 3, made_up=True, allow_failing=False)
    assert "--warm-up FILE gives real ones" in str(refusal.value)
    assert "--allow-failing" in str(refusal.value)
    check_warm_up([FAILED] * 3, made_up=True, allow_failing=True)
    check_warm_up([FAILED, answered(value=1.0)], made_up=True, allow_failing=False)


def test_a_label_that_is_not_that_of_the_highest_score_is_warned_of() -> None:
    fine = answered(label="b", scores=[0.1, 0.9], items=["a", "b"])
    tie = answered(label="b", scores=[0.5, 0.5], items=["a", "b"])
    with capture_logs() as events:
        check_warm_up([fine, tie, answered(value=2.0)], made_up=False, allow_failing=False)
        assert events == []
        check_warm_up(
            [fine, answered(label="a", scores=[0.1, 0.9], items=["a", "b"])], made_up=False, allow_failing=False
        )
    assert [(event["log_level"], event["rows"], event["label"]) for event in events] == [("warning", 1, "a")]


def write(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"features": {}, "value": "high"}, '`value`: "high" is not a finite number'),
        ({"features": {}, "value": float("nan")}, "NaN is not a finite number"),
        ({"features": {}, "scores": 0.5}, "`scores` is not a list"),
        ({"features": {}, "scores": [0.5], "items": ["a", "b"]}, "differ in length"),
        ({"features": {}, "label": ["a", "b"]}, "label: one value is expected"),
        ({"value": 1.0}, "not an object with `features`"),
        ([1], "not an object with `features`"),
    ],
    ids=str,
)
def test_golden_answers_that_cannot_be_compared_are_refused_by_their_line(
    tmp_path: Path, row: Any, reason: str
) -> None:
    with pytest.raises(ConfigurationError, match=reason) as refusal:
        read_examples(write(tmp_path / "golden.jsonl", {"features": {}}, row))
    assert "golden.jsonl:2:" in str(refusal.value)


def test_golden_scores_are_compared_by_their_items(tmp_path: Path) -> None:
    path = write(tmp_path / "golden.jsonl", {"features": {}, "scores": [0.9, 0.1], "items": ["b", "a"], "label": 1.0})
    examples = read_examples(path)
    assert check_golden(examples, [answered(label="1", scores=[0.1, 0.9], items=["a", "b"])], 1e-4, path) == 0.0
    with pytest.raises(ConfigurationError, match="1 of 1 rows differ"):
        check_golden(examples, [answered(label="1", scores=[0.1, 0.9], items=["a", "c"])], 1e-4, path)
    with pytest.raises(ConfigurationError, match="model_error: no such column"):
        check_golden(examples, [FAILED], 1e-4, path)


def test_what_may_be_null_may_be_left_out_of_a_row(tmp_path: Path) -> None:
    features = FeatureSchema.of({"a": ["null", "double"], "b": "double"})
    rows = read_examples(write(tmp_path / "rows.jsonl", {"features": {"b": 1.0}}))
    assert len(captures(features.live, rows)) == 1
    with pytest.raises(ConfigurationError, match=":1: no feature 'b'"):
        captures(
            features.live, read_examples(write(tmp_path / "bad.jsonl", {"features": {"a": 1.0}})), tmp_path / "bad"
        )


def test_made_up_lists_have_the_length_that_the_model_takes() -> None:
    features = FeatureSchema.of(
        {"xs": {"type": "array", "items": "long"}, "names": {"type": "array", "items": "string"}}
    )
    row = synthetic(features.features, 3, {"xs": 5})[2].features
    assert row == {"xs": [2] * 5, "names": [""] * 3}
    assert captures(features.live, synthetic(features.features, 3, {"xs": 5}))
