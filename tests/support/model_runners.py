"""Load a model and call it, as a worker does."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from gnomon_consumer.scorer.worker import models
from gnomon_consumer.scorer.worker.columns import columns
from gnomon_consumer.scorer.worker.models.base import Answers, Runner
from gnomon_schemas.arrow import arrow_schema, bare
from gnomon_schemas.features import FeatureSchema
from gnomon_schemas.records import Failure, Prediction
from tests.support.live_stream import FEATURES


def load(model: Path | str, features: FeatureSchema = FEATURES, folder: Path = Path(), **options: Any) -> Runner:
    return models.load(models.describe(str(model), **options), features.features, folder)


def predict(runner: Runner, rows: list[dict[str, Any]], features: FeatureSchema = FEATURES) -> Answers:
    wanted = frozenset(name for one in runner.inputs for name in one.features)
    as_captured = arrow_schema(bare(features.live.json)).field("features").type
    return runner.predict(columns(pa.array(rows, as_captured), features.features, wanted), len(rows))


def outcomes(
    runner: Runner, rows: list[dict[str, Any]], features: FeatureSchema = FEATURES
) -> list[Prediction | Failure]:
    answers = predict(runner, rows, features)
    return [answers.prediction(row) for row in range(len(rows))]
